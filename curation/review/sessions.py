"""How a reviewer works over time: seconds a row, and whether the votes move as a session goes on.

In: reviews with the time of their last change, and the rows that they are about. Out: the
:class:`ReviewPace` of each reviewer, for the owner of a team alone, and the :class:`Movement` of
each reviewer's votes, which ``persona review agreement`` shows to everybody.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from curation.review.votes import KEEP, ReviewVote
from workbench.config import Policy
from workbench.records import Example, Review
from workbench.stats.agreement import ShareEstimate
from workbench.values import Frozen

BREAK = 600.0
"""Seconds without a submission after which the next one begins a new session."""
BY_PROGRAM = 1.0
"""Median of a reviewer's seconds below which the reviews were submitted by a program."""
WORDS = 238 / 60
"""Words read in a second (Brysbaert 2019, "How many words do we read per minute?", Journal of
Memory and Language 109: 238 a minute of non-fiction)."""
SYLLABLES = 7.6
"""Letters of Chinese, Japanese or Korean read in a second: the Korean trainer's rows then take as
long as the English ones, whose translations they are."""
TOO_FAST = 3.0
"""Times as fast as people read from which a row was not read: beyond skimming, at which little is
understood (Rayner et al. 2016, "So Much to Read, So Little Time", Psychological Science in the
Public Interest 17)."""
FEWEST_HALF = 10
"""Votes of each half of a reviewer's sessions below which nothing is said of a movement."""
_SYLLABLE = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]")


class TimedReview(NamedTuple):
    """A review, and the seconds since the one before it in its session."""

    review: Review
    seconds: float


class ReviewPace(Frozen):
    """How fast one reviewer works; the first row of each session has no time."""

    rows: int
    """Rows with a time."""
    median: float
    """Seconds a row."""
    by_length: dict[str, float]
    """``short``, ``middle`` or ``long``, thirds of all rows by the time to read them → median
    seconds."""
    too_fast: ShareEstimate
    """Of these rows, those that were submitted sooner than they can be read."""


class Movement(Frozen):
    """One thing about a reviewer's votes: first half of the sessions against the second."""

    before: float
    after: float
    rows: int
    """Votes of both halves."""
    difference: float
    low: float
    high: float

    @property
    def moved(self) -> bool:
        """Whether the whole interval lies off zero."""
        return self.low > 0 or self.high < 0


def reading_seconds(text: str) -> float:
    """Return how long people take to read a text, whichever its script."""
    words = len(_SYLLABLE.sub(" ", text).split())
    return words / WORDS + len(_SYLLABLE.findall(text)) / SYLLABLES


def by_session(reviews: Iterable[Review]) -> dict[str, list[list[Review]]]:
    """Return reviewer → sessions, each in the order of its submissions.

    Reviews without a time are left out, and reviewers whose reviews a program submitted.
    """
    own: dict[str, list[Review]] = defaultdict(list)
    for review in reviews:
        if review.at:
            own[review.reviewer].append(review)
    sessions: dict[str, list[list[Review]]] = {}
    for name in sorted(own):
        ordered = sorted(own[name], key=_time)
        parts = [[ordered[0]]]
        for before, after in pairwise(ordered):
            if _time(after) - _time(before) > BREAK:
                parts.append([])
            parts[-1].append(after)
        seconds = [one.seconds for part in parts for one in timed(part)]
        if not seconds or median(seconds) >= BY_PROGRAM:
            sessions[name] = parts
    return sessions


def timed(session: Sequence[Review]) -> list[TimedReview]:
    """Return the reviews of a session with the seconds that each took; the first has none."""
    return [TimedReview(after, _time(after) - _time(before)) for before, after in pairwise(session)]


def _time(review: Review) -> float:
    return datetime.fromisoformat(review.at).timestamp()


def paces(rows: Iterable[Example], reviews: Iterable[Review]) -> dict[str, ReviewPace]:
    """Return reviewer → pace, of all who have at least one row with a time.

    A row that was opened again later counts where it was changed last: its reviewer's pace is then
    a little off.
    """
    reading = {
        row.id: reading_seconds("\n".join([*(m.content for m in row.prompt), row.answer]))
        for row in rows
    }
    bounds = sorted(reading.values())
    thirds = [bounds[len(bounds) * part // 3] for part in (1, 2)] if bounds else []
    by_reviewer = {}
    for name, sessions in by_session(one for one in reviews if one.record in reading).items():
        times = [one for session in sessions for one in timed(session)]
        if not times:
            continue
        parts: dict[str, list[float]] = defaultdict(list)
        for one in times:
            place = sum(reading[one.review.record] >= bound for bound in thirds)
            parts[("short", "middle", "long")[place]].append(one.seconds)
        fast = sum(one.seconds * TOO_FAST < reading[one.review.record] for one in times)
        by_reviewer[name] = ReviewPace(
            rows=len(times),
            median=median(one.seconds for one in times),
            by_length={length: median(seconds) for length, seconds in parts.items()},
            too_fast=ShareEstimate.of(fast, len(times)),
        )
    return by_reviewer


def movements(
    reviews: Iterable[Review],
    votes: Sequence[ReviewVote],
    policy: Policy,
    gold: Mapping[str, str],
    *,
    seed: int = 0,
) -> dict[str, dict[str, Movement]]:
    """Return reviewer → what of the votes → its movement over the sessions.

    ``rating``, the ``kept`` share, ``problems`` a row, and of gold rows the share ``right``. Each
    session is halved by itself, so that what is compared is early and late in a sitting; those of
    which a half has fewer than :data:`FEWEST_HALF` votes are left out. The interval of the
    difference is a percentile bootstrap over votes; ``gold`` is record → known outcome.
    """
    by_review = {vote.review: vote for vote in votes}
    values: dict[str, Callable[[ReviewVote], float | None]] = {
        "rating": lambda vote: None if vote.record in gold else vote.fidelity,
        "kept": lambda vote: None if vote.record in gold else vote.outcome(policy) == KEEP,
        "problems": lambda vote: None if vote.record in gold else len(vote.problems),
        "right": lambda vote: (
            vote.outcome(policy) == gold[vote.record] if vote.record in gold else None
        ),
    }
    by_reviewer: dict[str, dict[str, Movement]] = {}
    for name, sessions in by_session(reviews).items():
        halves: tuple[list[ReviewVote], list[ReviewVote]] = ([], [])
        for session in sessions:
            own = [by_review[one.id] for one in session if one.id in by_review]
            halves[0].extend(own[: len(own) // 2])
            halves[1].extend(own[len(own) // 2 :])
        own_movements = {}
        for what, value in values.items():
            before, after = (
                [float(one) for vote in half if (one := value(vote)) is not None] for half in halves
            )
            if min(len(before), len(after)) >= FEWEST_HALF:
                own_movements[what] = _movement(before, after, seed)
        if own_movements:
            by_reviewer[name] = own_movements
    return by_reviewer


def _movement(before: Sequence[float], after: Sequence[float], seed: int) -> Movement:
    import numpy as np

    from workbench.stats.bootstrap import LEVEL, RESAMPLES, resampled_counts

    first, second = np.asarray(before), np.asarray(after)
    draws = [
        resampled_counts(len(half), RESAMPLES, seed + place) @ half / len(half)
        for place, half in enumerate((first, second))
    ]
    low, high = np.quantile(draws[1] - draws[0], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Movement(
        before=float(first.mean()),
        after=float(second.mean()),
        rows=len(first) + len(second),
        difference=float(second.mean() - first.mean()),
        low=float(low),
        high=float(high),
    )
