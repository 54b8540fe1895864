"""Train, validation and test by leakage group, so that no test question has a relative in training.

Rows that share an ancestor (the same row, its edit, a pair made of it), rows whose questions are
near duplicates and, unless topics are spread, rows of one topic are one group, and a group goes
whole to one split. A group that an earlier round has put in a split stays there. Of two rows that
ask the same in other words and still stand in two splits, the one nearer to training is dropped.
The split stage calls :func:`split_rows` and writes what comes out.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from curation.related_rows import LeakageGroups, Placed
from curation.reworded import Rewordings
from workbench.config import SplitSettings
from workbench.errors import UserError
from workbench.paraphrases import Meaning
from workbench.records import SPLITS, Drop, Example, Preference, SplitAssignment, SplitName
from workbench.text import counted

STAGE = "split"
JOINS_TWO_SPLITS = "joins_two_splits"
ASKS_THE_SAME = "asks_the_same"
"""Why a row is dropped that asks in other words what a row of another split asks."""


@dataclass(frozen=True)
class SplitRows:
    """Examples and preferences by split, and the assignments that put them there."""

    examples: dict[SplitName, list[Example]]
    preferences: dict[SplitName, list[Preference]]
    assignments: list[SplitAssignment]
    drops: list[Drop] = field(default_factory=list)
    """Rows that would have joined two splits, or that ask what another split asks."""

    def add(self, row: Example | Preference, split: SplitName, group: str) -> None:
        """Put a row of ``group`` in a split."""
        if isinstance(row, Example):
            self.examples[split].append(row)
        else:
            self.preferences[split].append(row)
        self.assignments.append(
            SplitAssignment(record=row.id, split=split, group=group, parents=(row.id,))
        )

    def groups(self, split: SplitName) -> list[str]:
        """Return the groups of a split, sorted."""
        return sorted({one.group for one in self.assignments if one.split == split})


def split_rows(
    examples: Sequence[Example],
    preferences: Sequence[Preference],
    *,
    seed: int,
    settings: SplitSettings | None = None,
    earlier: Sequence[Placed] = (),
    meaning: Meaning | None = None,
    train_only: Collection[str] = (),
) -> SplitRows:
    """Put whole groups of rows in one split each.

    Which new groups are held out depends on the seed and their names alone, so a run repeated with
    the same rows gives the same splits, in whatever order the rows come. A new row that is related
    to rows in two splits is dropped as :data:`JOINS_TWO_SPLITS`: moving the others would leak what
    earlier rounds were trained or tested on. The splits of ``earlier`` rows stand, and a pair
    follows the group of its question. Topics of ``train_only`` are trained on as a whole, and count
    for no share.

    Raises:
        UserError: Too few groups to fill the splits asked for, or earlier rounds contradict
            each other.
    """
    settings = settings or SplitSettings()
    rows: list[Example | Preference] = [*examples, *preferences]
    groups = LeakageGroups([*(placed.row for placed in earlier), *rows], settings)
    for placed in earlier:
        groups.place(placed)
    drops = _admit(rows, {placed.row.id for placed in earlier}, groups)
    dropped = {drop.record for drop in drops}
    rows = [row for row in rows if row.id not in dropped]
    known = {placed.row.id: placed.row for placed in earlier}
    everything = list((known | {row.id: row for row in rows}).values())
    group_of = {row.id: groups.group(row) for row in everything}
    fixed = groups.splits()
    reworded = Rewordings(everything, meaning)
    topics = {row.topic for row in rows} if settings.topics == "apart" else set()
    reworded.join(group_of, {*fixed, *topics})
    splits = fixed | _assigned(
        [row for row in rows if row.topic not in train_only], group_of, fixed, seed, settings
    )
    split_of = {row: splits.get(group, "train") for row, group in group_of.items()}
    across = reworded.across(split_of, known)
    gone = [row for row in rows if row.id in across]
    drops += [Drop.of(row, STAGE, ASKS_THE_SAME, across[row.id]) for row in gone]
    result = SplitRows({name: [] for name in SPLITS}, {name: [] for name in SPLITS}, [], drops)
    for row in rows:
        if row.id not in across:
            result.add(row, split_of[row.id], group_of[row.id])
    return result


def _assigned(
    rows: Sequence[Example | Preference],
    group_of: Mapping[str, str],
    fixed: Mapping[str, SplitName],
    seed: int,
    settings: SplitSettings,
) -> dict[str, SplitName]:
    members = Counter(group_of[row.id] for row in rows if isinstance(row, Example))
    spread = settings.topics == "spread"
    strata = {group_of[row.id]: row.topic if spread else "" for row in rows}
    return assign_groups(members, strata, fixed, seed, settings)


def _admit(
    rows: Sequence[Example | Preference], known: set[str], groups: LeakageGroups
) -> list[Drop]:
    """Take up the rows, those of earlier rounds first, and return drops of those that can't be."""
    drops: dict[str, Drop] = {}
    for row in sorted(rows, key=lambda row: (row.id not in known, row.id)):
        if row.id not in drops and (why := groups.admit(row)):
            drops[row.id] = Drop.of(row, STAGE, JOINS_TWO_SPLITS, why)
    return list(drops.values())


def assign_groups(
    members: Mapping[str, int],
    strata: Mapping[str, str],
    fixed: Mapping[str, SplitName],
    seed: int,
    settings: SplitSettings,
) -> dict[str, SplitName]:
    """Give whole new groups to test, then to validation, until each has its share.

    ``members`` is group → its number of rows; ``strata`` group → what each split shall have its
    share of, one after the other: what one of them gave too much is asked less of the next. The
    splits of ``fixed`` groups stand.

    Raises:
        UserError: No group is left to train on.
    """
    free = [group for group in members if group not in fixed]
    order = sorted(free, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).hexdigest())
    wanted: list[tuple[Literal["test", "validation"], float]] = [
        ("test", settings.test),
        ("validation", settings.validation),
    ]
    splits: dict[str, SplitName] = {}
    for split, share in wanted:
        held = sum(members[group] for group in _of(split, fixed) if group in members)
        due = 0.0
        left: dict[str, list[str]] = defaultdict(list)
        for group in order:
            if group not in splits:
                left[strata[group]].append(group)
        sizes: Counter[str] = Counter()
        for group, count in members.items():
            sizes[strata[group]] += count
        for stratum in sorted(sizes):
            due += share * sizes[stratum]
            for group in _filling(left[stratum], members, due - held):
                splits[group] = split
                held += members[group]
    rest = [group for group in order if group not in splits]
    if not rest and not any(group in members for group in _of("train", fixed)):
        raise UserError(
            f"too few for train, validation and test: {counted(len(members), 'group')} of rows",
            fix="bring rows of at least three topics, each named in its row,"
            " or many rows of one with split: {topics: spread} in the configuration",
        )
    return splits | dict.fromkeys(rest, "train")


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


def _of(split: SplitName, fixed: Mapping[str, SplitName]) -> Iterable[str]:
    return (group for group, its in fixed.items() if its == split)
