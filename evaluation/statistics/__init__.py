"""Arms compared: paired intervals, exact tests, what could have been seen, and the spread."""

from evaluation.statistics.compare import compare
from evaluation.statistics.intervals import LEVEL, RESAMPLES, paired_difference
from evaluation.statistics.model import Cell, Comparison, Difference, Spread

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Cell",
    "Comparison",
    "Difference",
    "Spread",
    "compare",
    "paired_difference",
]
