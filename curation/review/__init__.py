"""From rows that people reviewed in Argilla to decisions that can be defended."""
