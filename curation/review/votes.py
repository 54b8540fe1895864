"""What reviews say, and the policy by which votes become decisions.

Reviews come in from Argilla; agreement, reliability and resolution read them as votes, so that all
three mean the same. The policy's fields are :class:`workbench.config.Policy`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from workbench.config import Policy
from workbench.records import Example, Review

KEEP = "keep"
LOW_FIDELITY = "low_fidelity"
QUEUE = "queue"
UNSETTLED = "disagreement_unsettled"
BOTH_BAD = "both_bad"
NOT_REVIEWED = "not_reviewed"
DISCARDED = "discarded"


@dataclass(frozen=True)
class ReviewVote:
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
    """``candidate``, ``alternative``, ``tie`` or ``both_bad``, once the order that the reviewer saw
    is undone; empty where no pair was shown."""
    note: str

    def blocking(self, policy: Policy) -> str:
        """Return the gravest blocking problem that this reviewer saw, or an empty string."""
        return next((problem for problem in policy.blocking if problem in self.problems), "")

    def outcome(self, policy: Policy) -> str:
        """Return the one outcome that this reviewer stands for.

        A blocking problem, else :data:`LOW_FIDELITY` or :data:`KEEP` by the policy's fidelity.
        """
        if problem := self.blocking(policy):
            return problem
        return KEEP if self.fidelity >= policy.keep_fidelity else LOW_FIDELITY

    def summary(self) -> str:
        """Return the vote as a reader of a drop's detail sees it."""
        parts = [f"{self.fidelity}/5", *sorted(self.problems)]
        if self.better:
            parts.append(f"better: {self.better}")
        if self.corrected:
            parts.append("corrected")
        return f"{self.reviewer}: {', '.join(parts)}"


def votes_of(reviews: Iterable[Review]) -> list[ReviewVote]:
    """Return the submitted reviews as votes, by record and reviewer.

    Discarded reviews are no votes: the reviewer declined to judge.
    """
    votes = [
        ReviewVote(
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
    return sorted(votes, key=lambda vote: (vote.record, vote.reviewer, vote.review))


def by_record(votes: Iterable[ReviewVote]) -> dict[str, list[ReviewVote]]:
    """Return votes grouped by the record that they are about, order kept."""
    grouped: dict[str, list[ReviewVote]] = {}
    for vote in votes:
        grouped.setdefault(vote.record, []).append(vote)
    return grouped


def about(votes: Iterable[ReviewVote], examples: Collection[Example]) -> list[ReviewVote]:
    """Return the votes about ``examples``: gold and rows of other rounds are left out.

    A correction that only repeats what it was pre-filled with is none.
    """
    answers = {example.id: example.answer.split() for example in examples}
    return [
        replace(vote, corrected="") if vote.corrected.split() == answers[vote.record] else vote
        for vote in votes
        if vote.record in answers
    ]


@dataclass(frozen=True)
class Ruling:
    """What the policy says of one record's votes."""

    outcome: str
    """:data:`KEEP`, :data:`QUEUE`, or the reason of a drop."""
    why: str
    """The rule that decided, for the record's story."""


def decide(
    votes: list[ReviewVote], policy: Policy, posterior: dict[str, float] | None = None
) -> Ruling:
    """Return the policy's ruling on the votes of one record.

    ``posterior`` is outcome → probability for this record, needed by ``dawid-skene``.
    """
    if len(votes) < policy.min_reviews:
        return Ruling(NOT_REVIEWED, f"{len(votes)} of {policy.min_reviews} reviews")
    if sum(vote.better == BOTH_BAD for vote in votes) * 2 > len(votes):
        return Ruling(BOTH_BAD, "a majority finds both answers bad")
    candidate, alternative = (
        sum(vote.better == answer for vote in votes) for answer in ("candidate", "alternative")
    )
    if candidate == alternative > 0:
        return Ruling(QUEUE, f"{candidate} against {alternative} on which answer is better")
    if policy.rule == "dawid-skene":
        return _by_posterior(policy, posterior or {})
    outcomes = {vote.outcome(policy) for vote in votes}
    if policy.rule == "adjudication" and len(outcomes) > 1:
        return Ruling(QUEUE, "reviewers differ: " + " / ".join(sorted(outcomes)))
    return _by_majority(votes, policy)


def _by_majority(votes: list[ReviewVote], policy: Policy) -> Ruling:
    blocked = [vote for vote in votes if vote.blocking(policy)]
    if len(blocked) * 2 > len(votes):
        return Ruling(_gravest(blocked, policy), f"{len(blocked)} of {len(votes)} see it")
    if len(blocked) * 2 == len(votes):
        return Ruling(QUEUE, f"{len(blocked)} of {len(votes)} see a blocking problem")
    ratings = [vote.fidelity for vote in votes]
    mean = sum(ratings) / len(ratings)
    keep = mean >= policy.keep_fidelity
    agreeing = sum((rating >= policy.keep_fidelity) == keep for rating in ratings)
    if max(ratings) - min(ratings) >= policy.apart and agreeing * 2 <= len(ratings):
        return Ruling(QUEUE, f"fidelity {min(ratings)} to {max(ratings)}, no majority")
    return Ruling(KEEP if keep else LOW_FIDELITY, f"mean fidelity {mean:.2f}")


def _gravest(blocked: list[ReviewVote], policy: Policy) -> str:
    """Return the problem that most of ``blocked`` name; the gravest among equals."""
    counts = {kind: sum(kind in b.problems for b in blocked) for kind in policy.blocking}
    return max(policy.blocking, key=lambda kind: counts[kind])


def _by_posterior(policy: Policy, posterior: dict[str, float]) -> Ruling:
    if not posterior:
        return Ruling(QUEUE, "no probability could be estimated")
    best = max(sorted(posterior), key=lambda outcome: posterior[outcome])
    why = f"probability {posterior[best]:.2f} of {best}"
    return Ruling(best if posterior[best] >= policy.certainty else QUEUE, why)
