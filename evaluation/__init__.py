"""From adapters to scores and a report."""
