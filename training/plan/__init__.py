"""Before the run: its tokens, steps, time and memory, and what would make it fit."""
