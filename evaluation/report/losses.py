"""What became worse: everything an arm lost against the base, certain or not."""

from __future__ import annotations

from dataclasses import dataclass

from evaluation.report.results import Card, headline_arm
from evaluation.report.source import Source
from workbench.stats import Cell, Difference

MOST = 5
"""Questions that are named."""


@dataclass(frozen=True)
class Loss:
    """One measure on which an arm is below the base."""

    cell: Cell
    difference: Difference
    sure: bool
    """Whether the interval lies below zero."""


def losses(source: Source) -> list[Loss]:
    """Return every certain loss of any arm, then the headline arm's uncertain ones, worst first.

    Held-out questions, probes and turns are all looked at.
    """
    comparison = source.comparison
    arm = headline_arm(comparison)
    found = []
    for cell in (*comparison.cells, *comparison.probes, *comparison.drift):
        difference = cell.difference
        if difference is None or difference.mean >= 0:
            continue
        if difference.excludes_zero or cell.arm == arm:
            found.append(Loss(cell, difference, difference.excludes_zero))
    return sorted(found, key=lambda loss: (not loss.sure, loss.difference.mean))


def looked_at(source: Source) -> int:
    """Return the number of comparisons with the base among which the losses are."""
    comparison = source.comparison
    every = (*comparison.cells, *comparison.probes, *comparison.drift)
    return sum(cell.difference is not None for cell in every)


def worst(cards: list[Card]) -> list[tuple[Card, float]]:
    """Return the questions whose answer lost most against the base's, and how much; worst first."""
    lost = [
        (card, card.after.fidelity - card.before.fidelity)
        for card in cards
        if card.after.fidelity is not None and card.before.fidelity is not None
    ]
    return sorted((pair for pair in lost if pair[1] < 0), key=lambda pair: pair[1])[:MOST]
