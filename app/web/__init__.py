"""The pages of ``persona ui``: a round for people who look rather than type."""
