"""The air-gapped bundle: all that a machine without a network needs, in one folder."""
