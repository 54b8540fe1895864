"""Near duplicates and paraphrases; they live in ``workbench``, since generation needs them too."""

from workbench.near_duplicates import Made, beginnings, jaccard, near_pairs, shingles, sibling_pairs

__all__ = ["Made", "beginnings", "jaccard", "near_pairs", "shingles", "sibling_pairs"]
