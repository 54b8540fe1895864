"""Train, validation and test by group of kin, so that no test question has a sibling in training.

Rows that share an ancestor (the same row, its edit, a pair made of it), rows whose questions are
near duplicates or paraphrases and, unless topics are spread, rows of one topic are one group, and a
group goes whole to one side. A group that an earlier round has put on a side stays there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

from curation.related_rows import questions_of, record_ids
from workbench.config import SplitSettings
from workbench.errors import UserError
from workbench.near_duplicates import Made, sibling_pairs
from workbench.records import Drop, Example, Preference, SplitAssignment, SplitName

STAGE = "split"
JOINS_TWO_SIDES = "joins_two_sides"
SIDES: tuple[SplitName, ...] = get_args(SplitName)


class Placed(NamedTuple):
    """A row of an earlier round, and the side that it was put on there."""

    row: Example | Preference
    side: SplitName
    round: str


@dataclass(frozen=True)
class SplitRows:
    """Examples and preferences by side, and the assignment that put them there."""

    examples: dict[SplitName, list[Example]]
    preferences: dict[SplitName, list[Preference]]
    splits: list[SplitAssignment]
    drops: list[Drop] = field(default_factory=list)
    """Rows that would have joined two sides."""

    def groups(self, side: SplitName) -> list[str]:
        """Return the groups on a side, sorted."""
        return sorted({split.group for split in self.splits if split.split == side})


def split_rows(
    examples: Sequence[Example],
    preferences: Sequence[Preference],
    *,
    seed: int,
    settings: SplitSettings | None = None,
    earlier: Sequence[Placed] = (),
) -> SplitRows:
    """Put whole groups of rows on one side each.

    Which new groups are held out depends on the seed and their names alone, so a run repeated with
    the same rows gives the same sides, in whatever order the rows come. A new row that is kin to
    rows on two sides is dropped as :data:`JOINS_TWO_SIDES`: moving the others would leak what
    earlier rounds were trained or tested on.

    Args:
        examples: Curated rows.
        preferences: Pairs; each follows its question's group.
        seed: Draws the groups that are held out.
        settings: Shares and likeness.
        earlier: The rows of earlier rounds, whose sides stand.

    Raises:
        UserError: Too few groups to fill the sides asked for, or earlier rounds contradict
            each other.
    """
    settings = settings or SplitSettings()
    rows: list[Example | Preference] = [*examples, *preferences]
    kin = _Kin([*(placed.row for placed in earlier), *rows], settings)
    for placed in earlier:
        kin.place(placed)
    known = {placed.row.id for placed in earlier}
    drops = []
    refused: set[str] = set()
    for row in sorted(rows, key=lambda row: (row.id not in known, row.id)):
        if row.id not in refused and (why := kin.admit(row)):
            refused.add(row.id)
            drops.append(_drop(row, why))
    rows = [row for row in rows if row.id not in refused]
    groups = {row.id: kin.group(row) for row in rows}
    members = Counter(groups[row.id] for row in rows if isinstance(row, Example))
    fixed = kin.sides()
    spread = settings.topics == "spread"
    strata = {groups[row.id]: row.topic if spread else "" for row in rows}
    sides = fixed | _assign(members, strata, fixed, seed, settings)
    result = SplitRows({side: [] for side in SIDES}, {side: [] for side in SIDES}, [], drops)
    for row in rows:
        group = groups[row.id]
        side = sides.get(group, "train")
        if isinstance(row, Example):
            result.examples[side].append(row)
        else:
            result.preferences[side].append(row)
        result.splits.append(
            SplitAssignment(record=row.id, split=side, group=group, parents=(row.id,))
        )
    return result


class _Kin:
    """Groups of kin, grown row by row: connected components over keys that rows share."""

    def __init__(self, rows: Sequence[Example | Preference], settings: SplitSettings) -> None:
        from scipy.cluster.hierarchy import DisjointSet

        # Every text once; where it stands, not the text itself.
        at = {
            _asked(text): (row, place)
            for row in rows
            for place, text in enumerate(questions_of(row))
        }
        names = list(at)
        texts = Made(list(at.values()), lambda found: questions_of(found[0])[found[1]])
        self._near: dict[str, list[str]] = defaultdict(list)
        for one, other, _ in sibling_pairs(texts, settings.related):
            self._near[names[one]].append(names[other])
            self._near[names[other]].append(names[one])
        self._apart = settings.topics == "apart"
        self._joined = DisjointSet()
        self._side: dict[str, tuple[SplitName, str]] = {}
        """Root of a component → its side, and who put it there."""
        self._labels: dict[str, str] = {}

    def place(self, placed: Placed) -> None:
        """Take up a row of an earlier round."""
        name = f"{placed.round} {placed.row.source or placed.row.id}"
        found = self._sides_of(placed.row) | {placed.side: name}
        if len(found) > 1:
            raise UserError(
                "earlier rounds have put kin on two sides: " + _told(found),
                fix="`persona split --check` lists them all; make that round's split again",
            )
        self._join(placed.row, found)

    def admit(self, row: Example | Preference) -> str:
        """Take up a new row, or return why it can't be: it is kin to rows on two sides."""
        found = self._sides_of(row)
        if len(found) > 1:
            return f"kin to {_told(found)}"
        self._join(row, found)
        return ""

    def group(self, row: Example | Preference) -> str:
        """Return the name of the group that ``row`` is in."""
        return self._labels[self._joined[row.id]]

    def sides(self) -> dict[str, SplitName]:
        """Return the groups whose side stands already."""
        return {self._labels[root]: side for root, (side, _) in self._side.items()}

    def _sides_of(self, row: Example | Preference) -> dict[SplitName, str]:
        roots = {self._joined[key] for key in self._kin_keys(row)}
        return dict(self._side[root] for root in sorted(roots) if root in self._side)

    def _kin_keys(self, row: Example | Preference) -> list[str]:
        """Return the keys that rows taken up before share with ``row``, or nearly so."""
        own = self._keys(row)
        near = [key for name in own for key in self._near.get(name, ())]
        return [key for key in (*own, *near) if key in self._joined]

    def _join(self, row: Example | Preference, sides: Mapping[SplitName, str]) -> None:
        links = self._kin_keys(row)
        roots = {self._joined[key] for key in links}
        named = row.topic if self._apart else ""
        label = min([named or f"row:{row.id}", *(self._labels.pop(root) for root in roots)])
        for root in roots:
            self._side.pop(root, None)
        for key in self._keys(row):
            self._joined.add(key)
        for key in (*self._keys(row), *links):
            self._joined.merge(row.id, key)
        root = self._joined[row.id]
        self._labels[root] = label
        for entry in sides.items():
            self._side[root] = entry

    def _keys(self, row: Example | Preference) -> list[str]:
        """Return what rows of one group may share; the row's own id comes first."""
        topic = [f"topic:{row.topic}"] if row.topic and self._apart else []
        return [row.id, *record_ids(row.parents), *topic, *(_asked(q) for q in questions_of(row))]


def _asked(text: str) -> str:
    return f"question:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def _told(sides: Mapping[SplitName, str]) -> str:
    return ", ".join(f"{who} ({side})" for side, who in sorted(sides.items()))


def _drop(row: Example | Preference, why: str) -> Drop:
    return Drop(
        record=row.id,
        stage=STAGE,
        reason=JOINS_TWO_SIDES,
        detail=why,
        source=row.source,
        parents=(row.id,),
    )


def _assign(
    members: Mapping[str, int],
    strata: Mapping[str, str],
    fixed: Mapping[str, SplitName],
    seed: int,
    settings: SplitSettings,
) -> dict[str, SplitName]:
    """Give whole new groups to test, then to validation, until each has its share.

    Args:
        members: Group → its number of rows.
        strata: Group → what each side shall have its share of, one after the other: what one of
            them gave too much is asked less of the next.
        fixed: Groups whose side stands.
        seed: Draws the groups.
        settings: The shares.
    """
    free = [group for group in members if group not in fixed]
    order = sorted(free, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).hexdigest())
    wanted: list[tuple[Literal["test", "validation"], float]] = [
        ("test", settings.test),
        ("validation", settings.validation),
    ]
    sides: dict[str, SplitName] = {}
    for side, share in wanted:
        held = sum(members[group] for group in _on(side, fixed) if group in members)
        due = 0.0
        left: dict[str, list[str]] = defaultdict(list)
        for group in order:
            if group not in sides:
                left[strata[group]].append(group)
        sizes: Counter[str] = Counter()
        for group, count in members.items():
            sizes[strata[group]] += count
        for stratum in sorted(sizes):
            due += share * sizes[stratum]
            for group in _filling(left[stratum], members, due - held):
                sides[group] = side
                held += members[group]
    rest = [group for group in order if group not in sides]
    if not rest and not any(group in members for group in _on("train", fixed)):
        raise UserError(
            f"{len(members)} groups of rows are too few for train, validation and test",
            fix="give rows a topic each, at least three different ones",
        )
    return sides | dict.fromkeys(rest, "train")


def _filling(groups: Sequence[str], members: Mapping[str, int], missing: float) -> Iterator[str]:
    """Yield groups until nothing is missing: each is the one that comes closest to what still is.

    Near enough is as good, and of several the first in order is taken.
    """
    by_size: dict[int, deque[tuple[int, str]]] = defaultdict(deque)
    for place, group in enumerate(groups):
        by_size[members[group]].append((place, group))
    while missing > 0 and by_size:
        size = min(by_size, key=lambda size: (abs(missing - size) // 3, by_size[size][0]))
        yield by_size[size].popleft()[1]
        if not by_size[size]:
            del by_size[size]
        missing -= size


def _on(side: SplitName, fixed: Mapping[str, SplitName]) -> Iterable[str]:
    return (group for group, its in fixed.items() if its == side)
