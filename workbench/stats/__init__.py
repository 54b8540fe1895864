"""Arms compared: one bootstrap, exact tests, what could have been seen, agreement of raters."""

from workbench.stats.bootstrap import LEVEL, RESAMPLES
from workbench.stats.comparison import (
    Cell,
    Comparison,
    Difference,
    Spread,
    compare,
    paired_difference,
)

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
