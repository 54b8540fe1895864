"""What reviews say, and the policy by which votes become decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from workbench.config import Policy
from workbench.records import Example, Review

KEEP = "keep"
LOW_FIDELITY = "low_fidelity"
BETTER = ("candidate", "alternative", "tie", "both_bad")
"""Answers to "which is better", once the order that the reviewer saw is undone."""
Better = Literal["candidate", "alternative", "tie", "both_bad"]


@dataclass(frozen=True)
class Ballot:
    """One reviewer's submitted answers about one record."""

    review: str
    """Id of the review."""
    reviewer: str
    record: str
    fidelity: int
    """1 (not the persona at all) to 5 (the persona itself)."""
    problems: frozenset[str]
    corrected: str
    """The corrected answer; empty where the reviewer gave none."""
    better: str
    """One of :data:`BETTER`, or empty where no pair was shown."""
    note: str

    def blocking(self, kinds: Iterable[str]) -> str:
        """Return the first of ``kinds`` that this reviewer saw, or an empty string."""
        return next((kind for kind in kinds if kind in self.problems), "")

    def vote(self, kinds: Iterable[str], keep_fidelity: float) -> str:
        """Return the one outcome that this reviewer stands for.

        A blocking problem, else :data:`LOW_FIDELITY` below ``keep_fidelity``, else :data:`KEEP`.
        """
        if problem := self.blocking(kinds):
            return problem
        return KEEP if self.fidelity >= keep_fidelity else LOW_FIDELITY

    def said(self) -> str:
        """Return the vote as a reader of a drop's detail sees it."""
        parts = [f"{self.fidelity}/5", *sorted(self.problems)]
        if self.better:
            parts.append(f"better: {self.better}")
        if self.corrected:
            parts.append("corrected")
        return f"{self.reviewer}: {', '.join(parts)}"


def ballots(reviews: Iterable[Review]) -> list[Ballot]:
    """Return the submitted reviews as ballots, by record and reviewer.

    Discarded reviews are no votes: the reviewer declined to judge.
    """
    found = [
        Ballot(
            review=review.id,
            reviewer=review.reviewer,
            record=review.record,
            fidelity=int(review.answers["fidelity"]),
            problems=frozenset(review.answers.get("problems") or ()),
            corrected=(review.answers.get("corrected") or "").strip(),
            better=review.answers.get("better") or "",
            note=(review.answers.get("note") or "").strip(),
        )
        for review in reviews
        if review.status == "submitted" and review.answers.get("fidelity") is not None
    ]
    return sorted(found, key=lambda ballot: (ballot.record, ballot.reviewer, ballot.review))


def by_record(found: Iterable[Ballot]) -> dict[str, list[Ballot]]:
    """Return ballots grouped by the record that they are about, order kept."""
    grouped: dict[str, list[Ballot]] = {}
    for ballot in found:
        grouped.setdefault(ballot.record, []).append(ballot)
    return grouped


def only_of(found: Iterable[Ballot], examples: Collection[Example]) -> list[Ballot]:
    """Return the ballots about ``examples``: gold and rows of other rounds are left out."""
    known = {example.id for example in examples}
    return [ballot for ballot in found if ballot.record in known]


QUEUE = "queue"
UNSETTLED = "disagreement_unsettled"
BOTH_BAD = "both_bad"
NOT_REVIEWED = "not_reviewed"
DISCARDED = "discarded"


@dataclass(frozen=True)
class Verdict:
    """What the policy says of one record's ballots."""

    outcome: str
    """:data:`KEEP`, :data:`QUEUE`, or the reason of a drop."""
    why: str
    """The rule that decided, for the record's story."""


def judge(
    votes: list[Ballot], policy: Policy, posterior: dict[str, float] | None = None
) -> Verdict:
    """Return the policy's verdict on the ballots of one record.

    Args:
        votes: Ballots of one record, one a reviewer.
        policy: The policy.
        posterior: Outcome → probability for this record, needed by ``dawid-skene``.
    """
    if len(votes) < policy.min_reviews:
        return Verdict(NOT_REVIEWED, f"{len(votes)} of {policy.min_reviews} reviews")
    if sum(ballot.better == BOTH_BAD for ballot in votes) * 2 > len(votes):
        return Verdict(BOTH_BAD, "a majority finds both answers bad")
    sides = [
        sum(ballot.better == side for ballot in votes) for side in ("candidate", "alternative")
    ]
    if sides[0] == sides[1] > 0:
        return Verdict(QUEUE, f"{sides[0]} against {sides[1]} on which answer is better")
    if policy.rule == "dawid-skene":
        return _by_posterior(policy, posterior or {})
    outcomes = {ballot.vote(policy.blocking, policy.keep_fidelity) for ballot in votes}
    if policy.rule == "adjudication" and len(outcomes) > 1:
        return Verdict(QUEUE, "reviewers differ: " + " / ".join(sorted(outcomes)))
    return _by_majority(votes, policy)


def _by_majority(votes: list[Ballot], policy: Policy) -> Verdict:
    blocked = [ballot for ballot in votes if ballot.blocking(policy.blocking)]
    if len(blocked) * 2 > len(votes):
        return Verdict(_gravest(blocked, policy), f"{len(blocked)} of {len(votes)} see it")
    if len(blocked) * 2 == len(votes):
        return Verdict(QUEUE, f"{len(blocked)} of {len(votes)} see a blocking problem")
    ratings = [ballot.fidelity for ballot in votes]
    mean = sum(ratings) / len(ratings)
    keep = mean >= policy.keep_fidelity
    siding = sum((rating >= policy.keep_fidelity) == keep for rating in ratings)
    if max(ratings) - min(ratings) >= policy.apart and siding * 2 <= len(ratings):
        return Verdict(QUEUE, f"fidelity {min(ratings)} to {max(ratings)}, no majority")
    return Verdict(KEEP if keep else LOW_FIDELITY, f"mean fidelity {mean:.2f}")


def _gravest(blocked: list[Ballot], policy: Policy) -> str:
    """Return the problem that most of ``blocked`` name; the gravest among equals."""
    counts = {kind: sum(kind in b.problems for b in blocked) for kind in policy.blocking}
    return max(policy.blocking, key=lambda kind: counts[kind])


def _by_posterior(policy: Policy, posterior: dict[str, float]) -> Verdict:
    if not posterior:
        return Verdict(QUEUE, "no probability could be estimated")
    best = max(sorted(posterior), key=lambda outcome: posterior[outcome])
    why = f"probability {posterior[best]:.2f} of {best}"
    return Verdict(best if posterior[best] >= policy.certainty else QUEUE, why)
