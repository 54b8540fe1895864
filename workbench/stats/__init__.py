"""Arms compared: paired intervals, exact tests, what could have been seen, and the spread."""

from workbench.stats.compare import compare
from workbench.stats.intervals import LEVEL, RESAMPLES, paired_difference
from workbench.stats.model import Cell, Comparison, Difference, Spread

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
