"""From a persona's specification to candidate rows."""
