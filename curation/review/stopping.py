"""Whether more reviews would change anything: what the rows that nobody has seen would bring.

In: a round's candidates in their random order, the votes so far, how far reviewers agree, and what
a learning curve advises. Out: a :class:`StopAdvice`. Pulls and ``persona review status`` print it.

What reviewers saw first may be no sample of the rest, so only the beginning of the random order
counts for it: those rows stand for all. An answer to "may I stop?" that is asked after every pull
would be right too seldom at the usual 95 %, so its interval is one of :data:`LOOKS_LEVEL`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from curation.review.votes import ReviewVote, decide
from workbench.config import Policy
from workbench.stats.agreement import RaterAgreement, ShareEstimate
from workbench.stats.significance import share_interval
from workbench.values import Frozen

Answer = Literal["no", "yes", "unknown"]
Advice = Literal["all_reviewed", "may_stop", "more", "too_early"]
FEWEST_SAMPLED = 30
"""Reviewed rows of the random order below which nothing is said of the others."""
FEWEST_BOTH = 20
"""Rows that two people reviewed, below which nothing is said of their agreement."""
TOLERATED = 0.05
"""Share of all rows that may stay as they are though a review would have changed them."""
RELIABLE = 2 / 3
"""Alpha from which conclusions may be drawn (Krippendorff, Content Analysis, 2004, ch. 11)."""
LOOKS_LEVEL = 0.99
"""Level of the interval of hidden changes: it is looked at again and again."""
MISSING = 0.1
"""Share of the sample's rows that may be unreviewed, such as one that everybody discarded."""


class StopAdvice(Frozen):
    """What more reviews would change, and how many of them."""

    advice: Advice
    rows: int
    """Candidates of the round."""
    reviewed: int
    """Rows with all the reviews that they need."""
    sampled: int
    """Reviewed rows at the beginning of the random order: they stand for all."""
    changed: ShareEstimate
    """Of the sampled ones, those that reviews changed: dropped, mended, or not agreed on."""
    hidden: tuple[int, int] | None
    """Least and most rows, of those that nobody has reviewed, that a review would change."""
    decisions: Answer
    """Whether more reviews would change decisions on more rows than are tolerated."""
    agreement: Answer
    """Whether they would change what is to be thought of the reviewers' agreement."""
    curve: Answer
    """Whether more rows would help, by the learning curve; unknown where none was measured."""
    more: int | None
    """Rows to review until nothing of it would change; None where nobody knows."""

    @property
    def rest(self) -> int:
        """Rows without all the reviews that they need."""
        return self.rows - self.reviewed


def stop_advice(
    order: Sequence[str],
    votes: Mapping[str, Sequence[ReviewVote]],
    policy: Policy,
    agreement: RaterAgreement,
    *,
    needed: int,
    curve: Answer = "unknown",
) -> StopAdvice:
    """Return whether more reviews would change anything.

    Args:
        order: Ids of all candidates in the random order of the round.
        votes: Record → what was said of it.
        policy: How votes become a decision.
        agreement: Alpha of the reviewers' ratings.
        needed: Reviews that complete a row.
        curve: Whether more rows would help.
    """
    reviewed = {record for record in order if len(votes.get(record, ())) >= needed}
    sample = sampled(order, reviewed)
    changed = [record for record in sample if changes(votes[record], policy)]
    rest = len(order) - len(reviewed)
    hidden, left = _hidden(len(changed), len(sample), rest, len(order))
    agreed, pairs = _agreement(agreement) if needed > 1 else ("no", 0)
    decisions: Answer = "unknown" if hidden is None else "yes" if left else "no"
    more: int | None = None
    if decisions != "unknown" and agreed != "unknown":
        more = min(rest, max(left, pairs, rest if curve == "yes" else 0))
    answers = (decisions, agreed)
    advice: Advice = "more"
    if not rest:
        advice = "all_reviewed"
    elif "unknown" in answers:
        advice = "too_early"
    elif "yes" not in (*answers, curve):
        advice = "may_stop"
    return StopAdvice(
        advice=advice,
        rows=len(order),
        reviewed=len(reviewed),
        sampled=len(sample),
        changed=ShareEstimate.of(len(changed), len(sample)),
        hidden=hidden,
        decisions=decisions,
        agreement=agreed,
        curve=curve,
        more=more,
    )


def changes(votes: Sequence[ReviewVote], policy: Policy) -> bool:
    """Return whether the reviews of a row did anything but keep it as it was."""
    if any(vote.corrected or vote.better == "alternative" for vote in votes):
        return True
    outcomes = {vote.outcome(policy) for vote in votes}
    return len(outcomes) > 1 or decide(list(votes), policy).outcome != "keep"


def sampled(order: Sequence[str], reviewed: Collection[str]) -> list[str]:
    """Return the reviewed rows of the longest beginning of ``order`` that is nearly all reviewed.

    Whether a row belongs to it does not follow from what it is, so its rows stand for all.
    """
    best, seen = 0, 0
    for place, record in enumerate(order, start=1):
        seen += record in reviewed
        if seen >= (1 - MISSING) * place and record in reviewed:
            best = place
    return [record for record in order[:best] if record in reviewed]


def _hidden(changed: int, sampled: int, rest: int, rows: int) -> tuple[tuple[int, int] | None, int]:
    """Return how many of the rest a review would change, and rows to review until few would.

    None and 0 where too few rows are sampled.
    """
    if sampled < FEWEST_SAMPLED:
        return (None, 0) if rest else ((0, 0), 0)
    low, high = share_interval(changed, sampled, LOOKS_LEVEL)
    hidden = (math.floor(low * rest), math.ceil(high * rest))
    allowed = TOLERATED * rows
    return hidden, 0 if high * rest <= allowed else math.ceil(rest - allowed / high)


def _agreement(alpha: RaterAgreement) -> tuple[Answer, int]:
    """Return whether more rows would change on which side of :data:`RELIABLE` alpha lies.

    And how many more would tell. Where all gave the same answer there is nothing to tell apart.
    """
    if alpha.rows < FEWEST_BOTH:
        return "unknown", 0
    if alpha.value is None or alpha.low is None or alpha.high is None:
        return "no", 0
    if alpha.low >= RELIABLE or alpha.high < RELIABLE:
        return "no", 0
    apart = max(abs(alpha.value - RELIABLE), 1e-9)
    half = max(alpha.high - alpha.value, alpha.value - alpha.low)
    return "yes", max(1, math.ceil(min(alpha.rows * ((half / apart) ** 2 - 1), 1e6)))
