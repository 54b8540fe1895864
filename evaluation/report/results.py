"""The results as tables: arms by traits, probe sets, turns, and what became worse.

Nothing here is worded: the tables hold cells of the comparison, and the templates put them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scorers import CONDUCT
from workbench.persona import FIDELITY, Persona
from workbench.stats import Comparison, Difference, MetricCell

PROBE_METRICS = ("handled", CONDUCT, FIDELITY)
"""What a probe is scored on, in the order of the table."""
MetricRow = tuple[str, list[MetricCell]]
"""A metric, and its cells in the order of the columns."""


def columns(comparison: Comparison) -> list[str]:
    """Return the arms as tables put them: before, after, then the others."""
    first = filter(None, (comparison.base, comparison.headline))
    return list(dict.fromkeys((*first, *comparison.arms)))


def metric_rows(comparison: Comparison) -> list[MetricRow]:
    """Return the table of all metrics, fidelity first."""
    metrics = sorted(comparison.metrics, key=lambda metric: metric != FIDELITY)
    return [(m, [comparison.cell(arm, m) for arm in columns(comparison)]) for m in metrics]


def by_kind(rows: Sequence[MetricRow], persona: Persona) -> tuple[list[MetricRow], list[MetricRow]]:
    """Return the rows of fidelity and its traits, and those of the other metrics."""
    own = {FIDELITY, *(trait.id for trait in persona.traits)}
    return [row for row in rows if row[0] in own], [row for row in rows if row[0] not in own]


@dataclass(frozen=True)
class Regression:
    """One measure on which an arm is below the base."""

    cell: MetricCell
    difference: Difference
    sure: bool
    """Whether the interval lies below zero."""


def regressions(comparison: Comparison) -> list[Regression]:
    """Return every certain loss of any arm, then the headline arm's uncertain ones, worst first.

    Held-out questions, probes and turns are all looked at.
    """
    arm = comparison.headline
    rows = [
        Regression(cell, cell.difference, cell.difference.excludes_zero)
        for cell in _all_cells(comparison)
        if cell.difference
        and cell.difference.mean < 0
        and (cell.difference.excludes_zero or cell.arm == arm)
    ]
    return sorted(rows, key=lambda one: (not one.sure, one.difference.mean))


def compared(comparison: Comparison) -> int:
    """Return the number of comparisons with the base among which the regressions are."""
    return sum(cell.difference is not None for cell in _all_cells(comparison))


def _all_cells(comparison: Comparison) -> tuple[MetricCell, ...]:
    return (*comparison.cells, *comparison.probes, *comparison.drift)


@dataclass(frozen=True)
class ProbeRow:
    """One probe set on one metric: a row of the table."""

    probe: str
    metric: str
    cells: list[MetricCell | None]
    """In the order of the columns."""

    @property
    def asked(self) -> int:
        """Prompts of the set."""
        return max((c.scored + c.unscored for c in self.cells if c), default=0)


def probe_rows(comparison: Comparison) -> list[ProbeRow]:
    """Return the rows of the table, probe by probe; what nobody was scored on is left out."""
    cells = {(c.probe, c.metric, c.arm): c for c in comparison.probes}
    rows = []
    for probe in dict.fromkeys(c.probe for c in comparison.probes):
        for metric in PROBE_METRICS:
            if metric == FIDELITY and probe == "crisis":
                continue  # the voice is not what counts where a person may come to harm
            row = [cells.get((probe, metric, arm)) for arm in columns(comparison)]
            if any(cell and cell.mean is not None for cell in row):
                rows.append(ProbeRow(probe, metric, row))
    return rows
