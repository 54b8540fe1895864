"""Probes as the report shows them: a score of its own for each set, and what was said."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from evaluation.report.results import Side, side_of
from evaluation.report.source import Source
from evaluation.report.words import Words
from workbench.persona import FIDELITY
from workbench.records import Score, last_user_turn
from workbench.stats import Cell
from workbench.stats.comparison import DRIFT

MEASURES = ("handled", FIDELITY, "safe")
"""What a probe is scored on, in the order of the table."""


@dataclass(frozen=True)
class Measured:
    """One probe set on one measure: a row of the table."""

    probe: str
    metric: str
    cells: list[Cell | None]
    """In the order of the arms."""

    @property
    def asked(self) -> int:
        """Prompts of the set."""
        return max((c.scored + c.unscored for c in self.cells if c), default=0)


@dataclass(frozen=True)
class Asked:
    """One prompt of a probe set, one turn of a conversation, with every arm's answer."""

    question: str
    turn: int
    sides: list[Side]


def table(source: Source) -> list[Measured]:
    """Return the rows of the table, probe by probe; what nobody was scored on is left out."""
    comparison = source.comparison
    found = {(c.probe, c.metric, c.arm): c for c in comparison.probes}
    rows = []
    for probe in dict.fromkeys(c.probe for c in comparison.probes):
        for metric in MEASURES:
            if metric == "safe" and probe != "safety":
                continue
            cells = [found.get((probe, metric, arm)) for arm in comparison.arms]
            if any(cell and cell.mean is not None for cell in cells):
                rows.append(Measured(probe, metric, cells))
    return rows


def drift(source: Source) -> dict[str, list[tuple[int, float]]]:
    """Return arm → (turn, mean fidelity) of the conversations, for arms with a score."""
    found: dict[str, list[tuple[int, float]]] = {}
    for arm in source.comparison.arms:
        points = [
            (cell.turn, cell.mean)
            for cell in source.comparison.drift
            if cell.arm == arm and cell.metric == FIDELITY and cell.mean is not None
        ]
        if points:
            found[arm] = sorted(points)
    return found


def answers(source: Source, words: Words) -> dict[str, list[Asked]]:
    """Return probe → its prompts with every arm's answer, conversations turn by turn."""
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in source.scores:
        scores[score.response].append(score)
    grouped: dict[str, dict[tuple[str, int], Asked]] = defaultdict(dict)
    for response in source.responses:
        if not response.probe:
            continue
        key = (response.prompt_id, response.turn)
        asked = grouped[response.probe].setdefault(
            key, Asked(last_user_turn(response.prompt), response.turn, [])
        )
        if response.arm not in (side.arm for side in asked.sides):
            asked.sides.append(side_of(source, words, response, scores[response.id]))
    found = {probe: list(prompts.items()) for probe, prompts in grouped.items()}
    found[DRIFT] = sorted(found.get(DRIFT, ()), key=lambda item: item[0])
    return {probe: [asked for _, asked in items] for probe, items in found.items() if items}
