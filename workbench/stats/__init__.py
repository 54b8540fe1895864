"""Arms compared: one bootstrap, exact tests, what could have been seen, agreement of raters."""

from workbench.stats.bootstrap import LEVEL, RESAMPLES
from workbench.stats.comparison import (
    Comparison,
    Difference,
    MetricCell,
    Spread,
    compare,
    paired_difference,
)

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Comparison",
    "Difference",
    "MetricCell",
    "Spread",
    "compare",
    "paired_difference",
]
