"""Preference pairs that people bring, put before reviewers as a candidate and its alternative."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from workbench.records import Decision, Drop, Example, Preference

STAGE = "resolve"


@dataclass(frozen=True)
class Pairs:
    """Candidates to review, and the answers that they are compared with."""

    candidates: list[Example] = field(default_factory=list)
    """The chosen answers, as rows; each once."""
    alternatives: dict[str, str] = field(default_factory=dict)
    """Candidate → the rejected answer that is shown beside it."""


def as_candidate(pair: Preference) -> Example:
    """Return the chosen answer of a pair as a row to review."""
    return Example(
        prompt=pair.prompt,
        answer=pair.chosen,
        topic=pair.topic,
        origin=pair.origin,
        source=pair.source,
        parents=(pair.id, *pair.parents),
    )


def pairs_of(preferences: Iterable[Preference]) -> Pairs:
    """Return what reviewers see of ``preferences``: of several with one chosen answer the first."""
    found = Pairs()
    for pair in preferences:
        candidate = as_candidate(pair)
        if candidate.id not in found.alternatives:
            found.candidates.append(candidate)
            found.alternatives[candidate.id] = pair.rejected
    return found


def unreviewed(
    preferences: Sequence[Preference], reviewed: Collection[str], decisions: Iterable[Decision]
) -> tuple[list[Preference], list[Drop]]:
    """Return the pairs that stand as they were brought, and those that fall with their candidate.

    A pair whose candidate was not put before reviewers stands: it was judged by whoever brought
    it. The pair that reviewers did see is theirs to decide. A further pair with the same chosen
    answer stands where that answer was kept and falls where it was not.

    Args:
        preferences: The imported pairs.
        reviewed: Ids of the candidates that were put before reviewers with their alternatives.
        decisions: What became of every reviewed row.
    """
    decided = {decision.record: decision for decision in decisions if decision.record in reviewed}
    shown: set[str] = set()
    kept, drops = [], []
    for pair in preferences:
        candidate = as_candidate(pair).id
        decision = decided.get(candidate)
        if decision and candidate not in shown:
            shown.add(candidate)
        elif decision is None or decision.outcome == "keep":
            kept.append(pair)
        else:
            drops.append(_fallen(pair, decision))
    return kept, drops


def _fallen(pair: Preference, decision: Decision) -> Drop:
    return Drop(
        record=pair.id,
        stage=STAGE,
        reason=decision.reason or "answer_replaced",
        detail=f"its chosen answer: {decision.outcome}. {decision.detail}",
        source=pair.source,
        parents=(pair.id, *decision.parents),
    )
