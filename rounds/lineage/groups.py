"""Groups of rows that can be left out of a training: a topic, an origin, a source, a reviewer."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from workbench.errors import UserError, nearest
from workbench.records import Example, Preference, Review, Row

Kind = Literal["topic", "origin", "source", "reviewer", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Group:
    """Rows that have something in common.

    Attributes:
        kind: What they have in common; ``random`` is so many rows drawn at random, to hold the
            effect of any other group against.
        name: Which topic, origin, source or reviewer; the number of random rows.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}={self.name}"

    @property
    def folder(self) -> str:
        """Name of a folder for it."""
        safe = "".join(one if one.isalnum() or one in "-_." else "_" for one in self.name)
        return f"{self.kind}-{safe}"


@dataclass(frozen=True)
class Left:
    """What is left of the training side, and how much went."""

    rows: list[Example]
    pairs: list[Preference]
    rows_out: int
    pairs_out: int


def parse_group(text: str) -> Group:
    """Return the group that a text such as ``topic=soreness`` names.

    Raises:
        UserError: It names none.
    """
    kind, _, name = text.partition("=")
    if kind not in KINDS or not name or (kind == "random" and not name.isdecimal()):
        raise UserError(
            f"'{text}' names no group of rows",
            where="--without",
            fix=(kind not in KINDS and nearest(kind, KINDS))
            or "such as topic=soreness, origin=teacher, source=seeds.jsonl,"
            " reviewer=reviewer-1, or random=12 to compare with",
        )
    return Group(kind, name)


def leave_out(
    group: Group,
    rows: Sequence[Example],
    pairs: Sequence[Preference],
    reviews: Sequence[Review],
    *,
    seed: int = 0,
) -> Left:
    """Return the training side without a group.

    A reviewer's rows are those that stand on their word alone: all reviews among a row's parents
    are theirs, or its answer is their correction. A pair goes with the rows of its question.

    Args:
        group: What is left out.
        rows: Examples of the training side.
        pairs: Preferences of the training side.
        reviews: Of the round, those taken over from earlier ones included.
        seed: Of the random rows.

    Raises:
        UserError: No row is in the group, or none is outside of it.
    """
    out = {row.id for row in _members(group, rows, reviews, seed)}
    asked = {row.prompt for row in rows if row.id in out}
    also = {pair.id for pair in _own_pairs(group, pairs)}
    kept = [
        pair
        for pair in pairs
        if pair.id not in also and pair.prompt not in asked and out.isdisjoint(pair.parents)
    ]
    left = [row for row in rows if row.id not in out]
    if len(left) == len(rows) or not left:
        what = "all rows of training are" if not left else "no row of training is"
        raise UserError(
            f"{what} in the group {group}", where="--without", fix=_known(group, rows, reviews)
        )
    return Left(left, kept, len(out), len(pairs) - len(kept))


def _members(
    group: Group, rows: Sequence[Example], reviews: Sequence[Review], seed: int
) -> list[Example]:
    if group.kind == "random":
        count = min(int(group.name), len(rows))
        return random.Random(f"without:{seed}").sample(list(rows), count)
    if group.kind != "reviewer":
        return _alike(group, rows)
    by_id = {review.id: review for review in reviews if review.status == "submitted"}
    found = []
    for row in rows:
        theirs = [by_id[one] for one in row.parents if one in by_id]
        alone = bool(theirs) and all(review.reviewer == group.name for review in theirs)
        corrected = any(
            review.reviewer == group.name
            and str(review.answers.get("corrected") or "").strip() == row.answer.strip()
            for review in theirs
        )
        if alone or corrected:
            found.append(row)
    return found


def _alike(group: Group, rows: Sequence[R]) -> list[R]:
    if group.kind == "source":
        return [row for row in rows if group.name in (row.source, row.source.rsplit(":", 1)[0])]
    return [row for row in rows if getattr(row, group.kind) == group.name]


def _own_pairs(group: Group, pairs: Sequence[Preference]) -> list[Preference]:
    return _alike(group, pairs) if group.kind in ("topic", "source") else []


def _known(group: Group, rows: Sequence[Example], reviews: Collection[Review]) -> str:
    every: dict[str, set[str]] = {
        "topic": {row.topic for row in rows},
        "origin": {str(row.origin) for row in rows},
        "source": {row.source.rsplit(":", 1)[0] for row in rows},
        "reviewer": {review.reviewer for review in reviews},
        "random": {f"1 to {len(rows) - 1}"},
    }
    names = sorted(filter(None, every[group.kind]))
    return f"there are {', '.join(names)}"
