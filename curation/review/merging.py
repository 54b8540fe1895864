"""People's reviews are merged, never overwritten.

In: the reviews that a round holds, and what the review server holds now. Out: both in one, and a
line for whatever differs. The review stage and the blind round keep the outcome. Nothing that was
pulled goes because an account, a record, a dataset or a whole server is gone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from workbench.records import Review
from workbench.text import counted

Place = tuple[str, str]
"""A record's id and a reviewer's name: where there is one review."""
_LINES = {
    "account": "of accounts that are gone from the server: kept as pulled",
    "missing": "gone from the server: kept as pulled",
    "draft": "in draft again on the server: kept as submitted",
    "older": "older on the server than in the round: the round's own kept",
    "edited": "changed since the last pull: the newer counts",
}
"""Why two sides differ → what becomes of the reviews."""


@dataclass(frozen=True)
class ServerReviews:
    """What a review server holds of one dataset."""

    reviews: list[Review]
    """The submitted and discarded ones."""
    drafts: frozenset[Place] = frozenset()
    accounts: frozenset[str] = frozenset()
    """Names of everybody who has an account there."""


@dataclass(frozen=True)
class Merged:
    """The reviews of both sides, by record and reviewer."""

    reviews: list[Review]
    lines: list[str] = field(default_factory=list)
    """What differs, a line each kind, with whose and how many."""
    lost: list[Review] = field(default_factory=list)
    """Those that the server has nothing in place of, though their reviewers have accounts there."""
    gone: frozenset[str] = frozenset()
    """Reviewers without an account, so that nobody can ask them for more."""

    def cover(self, records: Iterable[str], needed: int) -> bool:
        """Return whether each record has at least ``needed`` submitted reviews."""
        counts = Counter(one.record for one in self.reviews if one.status == "submitted")
        return all(counts[record] >= needed for record in records)


def merge(before: Sequence[Review], server: ServerReviews) -> Merged:
    """Return the reviews of a round with those that a server holds now.

    A review is known by its record and its reviewer. Of two, the newer one counts; where they say
    the same the round's own stays, so that a move to another server changes nothing. A reviewer
    whose account was renamed keeps the name that the round knows.
    """
    names = _names(before, server.reviews)
    accounts = {names.get(name, name) for name in server.accounts}
    drafts = {(record, names.get(name, name)) for record, name in server.drafts}
    now = {
        _place(one): one
        for review in server.reviews
        for one in (_renamed(review, names.get(review.reviewer, review.reviewer)),)
    }
    merged = dict(now)
    differences: dict[str, list[Review]] = defaultdict(list)
    for old in before:
        place = _place(old)
        new = now.get(place)
        if new is None:
            why = "missing" if old.reviewer in accounts else "account"
            differences["draft" if place in drafts else why].append(old)
        elif (new.status, new.answers) != (old.status, old.answers):
            newer = _time(new) >= _time(old)
            differences["edited" if newer else "older"].append(old)
            if newer:
                continue
        merged[place] = old
    return Merged(
        [merged[place] for place in sorted(merged)],
        _lines(names, differences),
        differences["missing"],
        frozenset(review.reviewer for review in differences["account"]),
    )


def _place(review: Review) -> Place:
    return review.record, review.reviewer


def _renamed(review: Review, name: str) -> Review:
    return review if name == review.reviewer else review.evolve(reviewer=name)


def _time(review: Review) -> datetime:
    return datetime.fromisoformat(review.at) if review.at else datetime.min.replace(tzinfo=UTC)


def _names(before: Sequence[Review], now: Sequence[Review]) -> dict[str, str]:
    """Return the server's name of each reviewer whom the round knows by another.

    An account that was renamed still has answers of the very microsecond at which the round's were
    given. Who then takes the name that became free is somebody else, and is numbered.
    """
    times = {(one.record, one.at): one.reviewer for one in before if one.at}
    same: dict[str, Counter[str]] = defaultdict(Counter)
    for one in now:
        if known := times.get((one.record, one.at)):
            same[one.reviewer][known] += 1
    names = {name: counts.most_common(1)[0][0] for name, counts in same.items()}
    taken = set(names.values())
    for name in sorted({one.reviewer for one in now} - names.keys()):
        number, own = 1, name
        while own in taken:
            number += 1
            own = f"{name} ({number})"
        names[name] = own
        taken.add(own)
    return {name: own for name, own in names.items() if name != own}


def _lines(names: Mapping[str, str], differences: Mapping[str, list[Review]]) -> list[str]:
    lines = [
        f"{own} is called {name} on the server now: the round keeps the name {own}"
        for name, own in sorted(names.items())
    ]
    for why, text in _LINES.items():
        if counts := Counter(one.reviewer for one in differences.get(why, ())):
            whose = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
            lines.append(f"{counted(counts.total(), 'review')} {text}: {whose}")
    return lines
