"""Pairs that a teacher made of its own rows: they share the fate of the row that people judged."""

from __future__ import annotations

from collections.abc import Iterable

from curation.review.corrections import folded, unique
from workbench.records import Decision, Drop, Example, Preference

STAGE = "resolve"
NOT_KEPT = "row_not_kept"
"""Reason of a pair whose row was dropped before anyone reviewed it."""


def with_their_rows(
    pairs: Iterable[Preference],
    reviewed: Iterable[Example],
    kept: Iterable[Example],
    decisions: Iterable[Decision],
) -> tuple[list[Preference], list[Drop]]:
    """Return the pairs of rows that were kept, and drops of the others.

    The preferred side is what reviewers made of the row: its answer, or their correction of it.

    Args:
        pairs: Pairs whose first parent is the row that they were made of.
        reviewed: Rows that were decided on; one masked by a filter has the row among its parents.
        kept: What the decisions kept; each has the reviewed row as its id or among its parents.
        decisions: What became of every reviewed row.
    """
    rows = {known: row.id for known, row in _by_ancestor(reviewed).items()}
    answers = _by_ancestor(kept)
    reasons = {decision.record: decision for decision in decisions}
    made: list[Preference] = []
    drops: list[Drop] = []
    for pair in pairs:
        row = rows.get(pair.parents[0])
        answer = answers.get(row) if row else None
        if answer is None:
            drops.append(_fallen(pair, reasons.get(row) if row else None))
        elif folded(answer.answer) != folded(pair.rejected):
            # A correction is a new record, and a masked prompt is the kept one.
            parents = unique(answer.id, *pair.parents, pair.id)
            made.append(pair.evolve(prompt=answer.prompt, chosen=answer.answer, parents=parents))
        else:
            drops.append(_fallen(pair, None, "answer_replaced"))
    return made, drops


def _by_ancestor(rows: Iterable[Example]) -> dict[str, Example]:
    """Return rows by their own ids and, where that is nobody's own, by those of their parents."""
    found = list(rows)
    return {parent: row for row in found for parent in row.parents} | {row.id: row for row in found}


def _fallen(pair: Preference, decision: Decision | None, reason: str = NOT_KEPT) -> Drop:
    return Drop(
        record=pair.id,
        stage=STAGE,
        reason=(decision.reason if decision else "") or reason,
        detail=f"its row: {decision.outcome}" if decision else "its row was filtered",
        source=pair.source,
        parents=(pair.id, *pair.parents),
    )
