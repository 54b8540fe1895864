"""Near duplicates and paraphrases; they live in ``workbench``, since generation needs them too."""

from workbench.near import beginnings, jaccard, near_pairs, shingles, sibling_pairs

__all__ = ["beginnings", "jaccard", "near_pairs", "shingles", "sibling_pairs"]
