"""Filters: each keeps a row or drops it with one named reason, and the drops are kept too."""

from curation.filters.chain import Filtered, filter_examples

__all__ = ["Filtered", "filter_examples"]
