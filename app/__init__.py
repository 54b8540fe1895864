"""What people start: the command line, the pages, and the bundle for machines without a network."""
