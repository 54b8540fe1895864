"""The command line: options read, results printed; the only place that imports click."""
