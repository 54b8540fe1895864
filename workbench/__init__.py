"""The shared language of the house: records, persona, store, errors, command line."""
