"""From an adapter to what is served, and the proof that it answers as the evaluated model does."""
