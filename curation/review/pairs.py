"""Preference pairs that people bring or a teacher makes, and what becomes of them in the review.

Pairs that people bring are put before reviewers as a candidate and its alternative. Those that a
teacher made of its own rows share the fate of the row that people judged. The review and resolve
stages call this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from curation.review.resolve import STAGE, folded, unique
from workbench.records import Decision, Drop, Example, Preference

NOT_KEPT = "row_not_kept"
"""Reason of a pair whose row was dropped before anyone reviewed it."""


@dataclass(frozen=True)
class ReviewPairs:
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


def pairs_of(preferences: Iterable[Preference]) -> ReviewPairs:
    """Return what reviewers see of ``preferences``: of several with one chosen answer the first."""
    pairs = ReviewPairs()
    for preference in preferences:
        candidate = as_candidate(preference)
        if candidate.id not in pairs.alternatives:
            pairs.candidates.append(candidate)
            pairs.alternatives[candidate.id] = preference.rejected
    return pairs


def unreviewed(
    preferences: Sequence[Preference], reviewed: Collection[str], decisions: Iterable[Decision]
) -> tuple[list[Preference], list[Drop]]:
    """Return the pairs that stand as they were brought, and those that fall with their candidate.

    A pair whose candidate was not put before reviewers stands: it was judged by whoever brought
    it. The pair that reviewers did see is theirs to decide. A further pair with the same chosen
    answer stands where that answer was kept and falls where it was not.

    ``reviewed`` are the ids of the candidates that were put before reviewers with their
    alternatives.
    """
    decided = {decision.record: decision for decision in decisions if decision.record in reviewed}
    shown: set[str] = set()
    standing, drops = [], []
    for pair in preferences:
        candidate = as_candidate(pair).id
        decision = decided.get(candidate)
        if decision and candidate not in shown:
            shown.add(candidate)
        elif decision is None or decision.outcome == "keep":
            standing.append(pair)
        else:
            reason = decision.reason or "answer_replaced"
            detail = f"its chosen answer: {decision.outcome}. {decision.detail}"
            drops.append(Drop.of(pair, STAGE, reason, detail, *decision.parents))
    return standing, drops


def with_their_rows(
    pairs: Iterable[Preference],
    reviewed: Iterable[Example],
    resolved: Iterable[Example],
    decisions: Iterable[Decision],
) -> tuple[list[Preference], list[Drop]]:
    """Return the pairs of rows that were kept, and drops of the others.

    What is preferred is what reviewers made of the row: its answer, or their correction of it; of
    a pair at an earlier turn of a conversation the answer that was given there. A pair's first
    parent is the row that it was made of. A row masked by a filter has that row among
    its parents, and so has what the decisions kept.
    """
    rows = {known: row.id for known, row in _by_ancestor(reviewed).items()}
    answers = _by_ancestor(resolved)
    reasons = {decision.record: decision for decision in decisions}
    standing: list[Preference] = []
    drops: list[Drop] = []
    for pair in pairs:
        row = rows.get(pair.parents[0])
        answer = answers.get(row) if row else None
        if answer is None:
            drops.append(_drop_with_row(pair, reasons.get(row) if row else None))
            continue
        turn = len(pair.prompt)
        chosen = answer.prompt[turn].content if turn < len(answer.prompt) else answer.answer
        if folded(chosen) != folded(pair.rejected):
            # A masked prompt is the kept one. A correction is a new record, made of the pair too.
            own = pair.evolve(prompt=answer.prompt[:turn], chosen=chosen)
            before = (pair.id,) if own.id != pair.id else ()
            parents = unique(answer.id, *pair.parents, *before)
            standing.append(own.evolve(parents=parents))
        else:
            drops.append(_drop_with_row(pair, None, "answer_replaced"))
    return standing, drops


def _by_ancestor(examples: Iterable[Example]) -> dict[str, Example]:
    """Return rows by their own ids and, where that is nobody's own, by those of their parents."""
    rows = list(examples)
    return {parent: row for row in rows for parent in row.parents} | {row.id: row for row in rows}


def _drop_with_row(pair: Preference, decision: Decision | None, reason: str = NOT_KEPT) -> Drop:
    reason = (decision.reason if decision else "") or reason
    detail = f"its row: {decision.outcome}" if decision else "its row was filtered"
    return Drop.of(pair, STAGE, reason, detail, *pair.parents)
