"""The next round, planned from what the last one's evaluation and reviews say."""
