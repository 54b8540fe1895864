"""What a review says, read the same way by agreement, reliability and resolution."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

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
