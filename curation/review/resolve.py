"""From reviews to one defended decision a record: keep, edit, drop with a reason, or queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from curation.review.reliability import Reliability, dawid_skene
from curation.review.votes import (
    DISCARDED,
    KEEP,
    NOT_REVIEWED,
    QUEUE,
    UNSETTLED,
    Ballot,
    Verdict,
    ballots,
    by_record,
    judge,
    only_of,
)
from workbench.config import Policy
from workbench.errors import UserError, nearest
from workbench.persona import Persona
from workbench.records import Decision, Drop, Example, Origin, Outcome, Preference, Review


def best_correction(
    persona: Persona, votes: Sequence[Ballot], trust: Reliability
) -> tuple[str, str]:
    """Return the correction that wins and why others could not be taken; either may be empty.

    A correction that crosses the safety boundary is refused.
    Of several, the one that most reviewers gave word for word is taken; then that of the most
    reliable reviewer (``trust`` is empty where all count alike); then the one with the fewest
    failed traits; then the first by its reviewer's name.
    """
    fit: dict[str, list[Ballot]] = {}
    refused = []
    for ballot in votes:
        if not ballot.corrected:
            continue
        if phrase := persona.safety.unsafe(ballot.corrected):
            refused.append(f"correction by {ballot.reviewer} not taken: unsafe ({phrase!r})")
        else:
            fit.setdefault(ballot.corrected, []).append(ballot)

    def rank(text: str) -> tuple[int, float, int, str]:
        writers = [ballot.reviewer for ballot in fit[text]]
        trusted = max(trust.reviewers.get(writer, 1.0) for writer in writers)
        return -len(writers), -trusted, len(persona.failed_traits(text)), min(writers)

    return min(fit, key=rank, default=""), "; ".join(refused)


def prefers(side: Literal["candidate", "alternative"], votes: Sequence[Ballot]) -> bool:
    """Return whether more of the votes find ``side`` better than find the other better."""
    counts = Counter(ballot.better for ballot in votes)
    return counts[side] > counts["alternative" if side == "candidate" else "candidate"]


def preferences(
    original: Example, kept: Example, reviews: Sequence[str], *, alternative: str | None, bare: str
) -> list[Preference]:
    """Return what the kept answer is preferred to: the original, the alternative, the bare answer.

    Args:
        original: The candidate that was reviewed.
        kept: What became of it.
        reviews: Ids of the reviews that decided.
        alternative: The other answer of a pair where the candidate was found better.
        bare: The base model's own answer, or an empty string.
    """
    replaced: Origin = "edit" if kept.origin == "edit" else "teacher"
    pairs: list[tuple[Origin, str]] = [
        (replaced, original.answer),
        ("teacher", alternative or ""),
        ("baseline", bare),
    ]
    taken = {"", folded(kept.answer)}  # an empty or identical text says nothing
    made: list[Preference] = []
    for origin, rejected in pairs:
        if folded(rejected) in taken:
            continue
        taken.add(folded(rejected))
        made.append(
            Preference(
                prompt=kept.prompt,
                chosen=kept.answer,
                rejected=rejected,
                topic=kept.topic,
                origin=origin,
                source=kept.source,
                parents=unique(kept.id, original.id, *reviews),
            )
        )
    return made


def folded(text: str) -> str:
    """Return ``text`` with white space folded: a moved line break is no correction."""
    return " ".join(text.split())


def unique(*ids: str) -> tuple[str, ...]:
    """Return the ids in their order, each once."""
    return tuple(dict.fromkeys(ids))


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
    bare: Mapping[str, str],
    *,
    alternatives: Mapping[str, str] | None = None,
    adjudications: Iterable[Review] = (),
) -> Resolved:
    """Decide on every example by the policy; no row is decided silently.

    A correction that differs from the original and keeps to the safety boundary wins over it and
    settles any disagreement; see :func:`curation.review.resolve.best_correction` for several.

    Args:
        persona: Its rules check the corrections.
        examples: The reviewed candidates.
        reviews: All reviews of the round, in any order.
        policy: How votes become decisions.
        bare: Example id → the base model's own answer, the rejected side of a preference.
        alternatives: Example id → the other answer of a pair that reviewers compared.
        adjudications: An adjudicator's reviews of queued records; these are final.

    Raises:
        UserError: The policy names a problem that the persona's reviewers can't.
        ValueError: Reviewers preferred an alternative whose text is not in ``alternatives``.
    """
    _check(policy, persona)
    given = list(reviews)
    seen = only_of(ballots(given), examples)
    grouped, final = by_record(seen), by_record(ballots(adjudications))
    trust = dawid_skene(seen, policy) if policy.rule == "dawid-skene" else Reliability()
    declined = {review.record for review in given if review.status == "discarded"}
    known = {example.id for example in examples}
    resolved = Resolved(strangers=sum(review.record not in known for review in given))
    for example in examples:
        votes = [_plain(ballot, example) for ballot in grouped.get(example.id, [])]
        last = [_plain(ballot, example) for ballot in final.get(example.id, [])][-1:]
        verdict = judge(last or votes, _final(policy) if last else policy, _of(trust, example))
        if verdict.outcome == NOT_REVIEWED and not votes and example.id in declined:
            verdict = Verdict(DISCARDED, "every reviewer discarded it")
        case = _Case(persona, example, (*votes, *last), last or votes, trust, verdict)
        _settle(
            case, policy, (alternatives or {}).get(example.id), bare.get(example.id, ""), resolved
        )
    return resolved


def _check(policy: Policy, persona: Persona) -> None:
    """Refuse a blocking problem that nobody can name: it would never block anything."""
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
    every: tuple[Ballot, ...]
    """All ballots about the record, an adjudicator's last."""
    votes: list[Ballot]
    """The ballots that decide."""
    trust: Reliability
    verdict: Verdict

    @property
    def reviews(self) -> tuple[str, ...]:
        return tuple(ballot.review for ballot in self.every)

    def detail(self, *notes: str) -> str:
        votes = "; ".join(ballot.said() for ballot in self.every)
        return ". ".join(part for part in (self.verdict.why, votes, *notes) if part)


def _plain(ballot: Ballot, example: Example) -> Ballot:
    """Return the ballot without a correction that only repeats what it was pre-filled with."""
    same = folded(ballot.corrected) == folded(example.answer)
    return replace(ballot, corrected="") if same else ballot


def _final(policy: Policy) -> Policy:
    """Return the policy under which one adjudicator's word is enough."""
    return policy.model_copy(update={"rule": "majority", "min_reviews": 1})


def _of(trust: Reliability, example: Example) -> dict[str, float]:
    return trust.posteriors.get(example.id, {})


def _settle(
    case: _Case, policy: Policy, alternative: str | None, bare: str, into: Resolved
) -> None:
    """Add the decision on one record, and all that follows from it, to ``into``."""
    example, verdict = case.example, case.verdict
    edit, refused = "", ""
    if verdict.outcome != NOT_REVIEWED:
        edit, refused = best_correction(case.persona, case.votes, case.trust)
    outcome: Outcome = "drop"
    if edit:
        outcome = "edit"
    elif verdict.outcome == QUEUE:
        outcome = "queue"
    elif verdict.outcome == KEEP:
        outcome = "alternative" if prefers("alternative", case.votes) else "keep"
    reason = {"drop": verdict.outcome, "queue": UNSETTLED}.get(outcome, "")
    decision = Decision(
        record=example.id,
        outcome=outcome,
        reason=reason,
        detail=case.detail(refused),
        parents=(example.id, *case.reviews),
    )
    into.decisions.append(decision)
    if outcome == "queue":
        into.queue.append(decision)
    if outcome == "drop" or (outcome == "queue" and policy.unsettled != "queue"):
        into.drops.append(
            Drop(
                record=example.id,
                stage=STAGE,
                reason=reason,
                detail=decision.detail,
                source=example.source,
                parents=(example.id, *case.reviews),
            )
        )
    if outcome in ("drop", "queue"):
        return
    kept = _kept(case, outcome, edit, alternative)
    into.examples.append(kept)
    beaten = alternative if prefers("candidate", case.votes) else None
    into.preferences.extend(preferences(example, kept, case.reviews, alternative=beaten, bare=bare))


def _kept(case: _Case, outcome: str, edit: str, alternative: str | None) -> Example:
    if outcome == "keep":
        return case.example.evolve(parents=unique(*case.example.parents, *case.reviews))
    if outcome == "alternative" and not alternative:
        raise ValueError(
            f"reviewers preferred the alternative of {case.example.id}, which is not given"
        )
    return case.example.evolve(
        answer=edit if outcome == "edit" else alternative,
        origin="edit" if outcome == "edit" else "teacher",
        parents=unique(case.example.id, *case.example.parents, *case.reviews),
    )
