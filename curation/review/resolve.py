"""From reviews to one defended decision a record: keep, edit, drop with a reason, or queue.

The resolve stage hands over candidates, reviews and the policy, and writes what comes out. What
follows from a decision is made here too: the kept row and the preferences that it implies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from curation.review.reliability import Reliability, dawid_skene
from curation.review.votes import (
    DISCARDED,
    KEEP,
    NOT_REVIEWED,
    QUEUE,
    UNSETTLED,
    ReviewVote,
    Ruling,
    about,
    by_record,
    decide,
    votes_of,
)
from workbench.config import Policy
from workbench.errors import UserError, nearest
from workbench.persona import Persona
from workbench.records import Decision, Drop, Example, Origin, Outcome, Preference, Review

STAGE = "resolve"


@dataclass(frozen=True)
class Resolved:
    """The decisions of a round, in the order of its examples."""

    examples: list[Example] = field(default_factory=list)
    """Kept answers; an edited one is a new example with the original among its parents."""
    preferences: list[Preference] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    queue: list[Decision] = field(default_factory=list)
    """What the policy can't settle; in an unattended run these are among ``drops`` too."""
    decisions: list[Decision] = field(default_factory=list)
    strangers: int = 0
    """Reviews of records that are not among the examples, such as gold rows."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of decisions by outcome, and of drops by reason."""
        outcomes = Counter(decision.outcome for decision in self.decisions)
        reasons = Counter(f"drop.{drop.reason}" for drop in self.drops)
        return {
            "examples": len(self.examples),
            "preferences": len(self.preferences),
            "queue": len(self.queue),
            **dict(sorted(outcomes.items())),
            **dict(sorted(reasons.items())),
        }


def resolve(
    persona: Persona,
    examples: Sequence[Example],
    reviews: Iterable[Review],
    policy: Policy,
    baseline: Mapping[str, str],
    *,
    alternatives: Mapping[str, str] | None = None,
    adjudications: Iterable[Review] = (),
) -> Resolved:
    """Decide on every example by the policy; no row is decided silently.

    A correction that differs from the original and keeps to the safety boundary wins over it and
    settles any disagreement; see :func:`best_correction` for several.

    ``baseline`` and ``alternatives`` are an example's id → the base model's own answer, and the
    other answer of a pair that reviewers compared. Of the ``adjudications`` of a record the newest
    is final.

    Raises:
        UserError: The policy names a problem that the persona's reviewers can't.
        ValueError: Reviewers preferred an alternative whose text is not in ``alternatives``.
    """
    check_policy(policy, persona)
    reviews = list(reviews)
    votes = about(votes_of(reviews), examples)
    newest = sorted(adjudications, key=lambda one: one.at)
    words = {one.record: one for one in newest if one.status == "submitted"}
    grouped, final = by_record(votes), by_record(about(votes_of(words.values()), examples))
    trust = dawid_skene(votes, policy) if policy.rule == "dawid-skene" else Reliability()
    declined = {review.record for review in reviews if review.status == "discarded"}
    known = {example.id for example in examples}
    resolved = Resolved(strangers=sum(review.record not in known for review in reviews))
    for example in examples:
        own, last = grouped.get(example.id, []), final.get(example.id, [])
        ruling = decide(
            last or own, _final(policy) if last else policy, trust.posteriors.get(example.id, {})
        )
        if ruling.outcome == NOT_REVIEWED and not own and example.id in declined:
            ruling = Ruling(DISCARDED, "every reviewer discarded it")
        case = _Case(persona, example, (*own, *last), last or own, trust, ruling)
        alternative = (alternatives or {}).get(example.id)
        _settle(case, policy, alternative, baseline.get(example.id, ""), resolved)
    return resolved


def check_policy(policy: Policy, persona: Persona) -> None:
    """Raise a UserError for a blocking problem that nobody can name: it would never block."""
    known = persona.problems
    if unknown := [problem for problem in policy.blocking if problem not in known]:
        raise UserError(
            f"blocking: unknown problem '{unknown[0]}'",
            where="review.policy",
            fix=nearest(unknown[0], known) or f"one of {', '.join(known)}",
        )


@dataclass(frozen=True)
class _Case:
    persona: Persona
    example: Example
    every: tuple[ReviewVote, ...]
    """All votes about the record, an adjudicator's last."""
    votes: list[ReviewVote]
    """The votes that decide."""
    trust: Reliability
    ruling: Ruling

    @property
    def reviews(self) -> tuple[str, ...]:
        return tuple(vote.review for vote in self.every)

    def detail(self, *notes: str) -> str:
        votes = "; ".join(vote.summary() for vote in self.every)
        return ". ".join(part for part in (self.ruling.why, votes, *notes) if part)


def _final(policy: Policy) -> Policy:
    """Return the policy under which one adjudicator's word is enough."""
    return policy.model_copy(update={"rule": "majority", "min_reviews": 1})


def _settle(
    case: _Case, policy: Policy, alternative: str | None, baseline: str, into: Resolved
) -> None:
    """Add the decision on one record, and all that follows from it, to ``into``."""
    example, ruling = case.example, case.ruling
    edit, refused = "", ""
    if ruling.outcome != NOT_REVIEWED:
        edit, refused = best_correction(case.persona, case.votes, case.trust)
    outcome: Outcome = "drop"
    if edit:
        outcome = "edit"
    elif ruling.outcome == QUEUE:
        outcome = "queue"
    elif ruling.outcome == KEEP:
        outcome = "alternative" if prefers("alternative", case.votes) else "keep"
    decision = Decision(
        record=example.id,
        outcome=outcome,
        reason={"drop": ruling.outcome, "queue": UNSETTLED}.get(outcome, ""),
        detail=case.detail(refused),
        parents=(example.id, *case.reviews),
    )
    into.decisions.append(decision)
    if outcome == "queue":
        into.queue.append(decision)
    if outcome == "drop" or (outcome == "queue" and policy.unsettled != "queue"):
        into.drops.append(Drop.of(example, STAGE, decision.reason, decision.detail, *case.reviews))
    if outcome in ("drop", "queue"):
        return
    row = _kept_row(case, outcome, edit, alternative)
    into.examples.append(row)
    beaten = alternative if prefers("candidate", case.votes) else None
    into.preferences.extend(
        preferences(example, row, case.reviews, alternative=beaten, baseline=baseline)
    )


def _kept_row(case: _Case, outcome: str, edit: str, alternative: str | None) -> Example:
    if outcome == "keep":
        return case.example.evolve(parents=unique(*case.example.parents, *case.reviews))
    if outcome == "alternative" and not alternative:
        raise ValueError(
            f"reviewers preferred the alternative of {case.example.id}, whose text is missing"
        )
    return case.example.evolve(
        answer=edit if outcome == "edit" else alternative,
        origin="edit" if outcome == "edit" else "teacher",
        parents=unique(case.example.id, *case.example.parents, *case.reviews),
    )


def best_correction(
    persona: Persona, votes: Sequence[ReviewVote], trust: Reliability
) -> tuple[str, str]:
    """Return the correction that wins and why others could not be taken; either may be empty.

    A correction that crosses the safety boundary is refused.
    Of several, the one that most reviewers gave word for word is taken; then that of the most
    reliable reviewer (``trust`` is empty where all count alike); then the one with the fewest
    failed traits; then the first by its reviewer's name.
    """
    writers: dict[str, list[str]] = {}
    refused = []
    for vote in votes:
        if not vote.corrected:
            continue
        if phrase := persona.safety.unsafe(vote.corrected):
            refused.append(f"correction by {vote.reviewer} not taken: unsafe ({phrase!r})")
        else:
            writers.setdefault(vote.corrected, []).append(vote.reviewer)

    def rank(text: str) -> tuple[int, float, int, str]:
        names = writers[text]
        trusted = max(trust.reviewers.get(name, 1.0) for name in names)
        return -len(names), -trusted, len(persona.failed_traits(text)), min(names)

    return min(writers, key=rank, default=""), "; ".join(refused)


def prefers(answer: Literal["candidate", "alternative"], votes: Sequence[ReviewVote]) -> bool:
    """Return whether more of the votes find ``answer`` better than find the other better."""
    counts = Counter(vote.better for vote in votes)
    return counts[answer] > counts["alternative" if answer == "candidate" else "candidate"]


def preferences(
    original: Example,
    row: Example,
    reviews: Sequence[str],
    *,
    alternative: str | None,
    baseline: str,
) -> list[Preference]:
    """Return what the kept answer is preferred to: the original, the alternative, the baseline.

    ``alternative`` is the other answer of a pair where the candidate was found better; ``reviews``
    are the ids of the reviews that decided.
    """
    replaced: Origin = "edit" if row.origin == "edit" else "teacher"
    candidates: list[tuple[Origin, str]] = [
        (replaced, original.answer),
        ("teacher", alternative or ""),
        ("baseline", baseline),
    ]
    seen = {"", folded(row.answer)}  # an empty or identical text says nothing
    pairs: list[Preference] = []
    for origin, rejected in candidates:
        if folded(rejected) in seen:
            continue
        seen.add(folded(rejected))
        pairs.append(
            Preference(
                prompt=row.prompt,
                chosen=row.answer,
                rejected=rejected,
                topic=row.topic,
                origin=origin,
                source=row.source,
                parents=unique(row.id, original.id, *reviews),
            )
        )
    return pairs


def folded(text: str) -> str:
    """Return ``text`` with white space folded: a moved line break is no correction."""
    return " ".join(text.split())


def unique(*ids: str) -> tuple[str, ...]:
    """Return the ids in their order, each once."""
    return tuple(dict.fromkeys(ids))
