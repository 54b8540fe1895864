"""From splits to adapters."""
