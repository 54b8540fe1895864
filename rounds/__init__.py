"""A round: what lies on disk, the order of its stages, and what follows from several rounds."""
