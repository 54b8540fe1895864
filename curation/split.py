"""Train, validation and test by topic group, so that no test question has a sibling in training."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.filters.near import near_pairs
from workbench.errors import UserError
from workbench.records import Example, Preference, Side, Split


class SplitSettings(BaseModel):
    """How large the held-out sides are, and what counts as siblings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of the rows that the test side gets at the least."""
    validation: float = Field(default=0.08, ge=0, lt=1)
    sibling: float = Field(default=0.6, gt=0, le=1)
    """Jaccard similarity of two questions from which they are siblings, whatever their topic."""


@dataclass(frozen=True)
class SplitRows:
    """Examples and preferences by side, and the assignment that put them there."""

    examples: dict[Side, list[Example]]
    preferences: dict[Side, list[Preference]]
    splits: list[Split]

    def groups(self, side: Side) -> list[str]:
        """Return the groups on a side, sorted."""
        return sorted({split.group for split in self.splits if split.side == side})


def split_rows(
    examples: Sequence[Example],
    preferences: Sequence[Preference],
    *,
    seed: int,
    settings: SplitSettings | None = None,
) -> SplitRows:
    """Put whole groups of rows on one side each.

    Rows of one topic, rows that share an ancestor and rows whose questions are near duplicates are
    in one group. Which groups are held out depends on the seed and their names alone, so a run
    repeated with the same rows gives the same sides.

    Raises:
        UserError: Too few groups to fill the sides asked for.
    """
    settings = settings or SplitSettings()
    rows: list[Example | Preference] = [*examples, *preferences]
    groups = _groups(rows, settings.sibling)
    members: dict[str, int] = defaultdict(int)
    for group in groups[: len(examples)]:
        members[group] += 1
    sides = _assign(dict(members), len(examples), seed, settings)
    result: SplitRows = SplitRows({side: [] for side in _SIDES}, {side: [] for side in _SIDES}, [])
    for row, group in zip(rows, groups, strict=True):
        side = sides.get(group, "train")
        if isinstance(row, Example):
            result.examples[side].append(row)
        else:
            result.preferences[side].append(row)
        result.splits.append(Split(record=row.id, side=side, group=group, parents=(row.id,)))
    return result


_SIDES: tuple[Side, ...] = ("train", "validation", "test")


def _groups(rows: Sequence[Example | Preference], threshold: float) -> list[str]:
    """Return the group of each row: connected components over topic, ancestors and likeness."""
    from scipy.cluster.hierarchy import DisjointSet

    joined = DisjointSet(range(len(rows)))
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        ancestors = [p for p in row.parents if p.startswith(("ex-", "pf-"))]
        keys = [row.id, *ancestors, *([f"topic:{row.topic}"] if row.topic else [])]
        for key in keys:
            joined.merge(first.setdefault(key, index), index)
    where: dict[str, int] = {}
    for index, row in enumerate(rows):
        joined.merge(where.setdefault(_question(row), index), index)
    questions = list(where)
    for earlier, later, _ in near_pairs(questions, threshold):
        joined.merge(where[questions[earlier]], where[questions[later]])
    names: dict[int, str] = {}
    for index, row in enumerate(rows):
        root = joined[index]
        label = row.topic or f"row:{row.id}"
        names[root] = min(names.get(root, label), label)
    return [names[joined[index]] for index in range(len(rows))]


def _question(row: Example | Preference) -> str:
    return "\n".join(message.content for message in row.prompt if message.role == "user")


def _assign(
    members: dict[str, int], total: int, seed: int, settings: SplitSettings
) -> dict[str, Side]:
    """Give whole groups to test, then to validation, until each has its share."""
    order = sorted(members, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).hexdigest())
    wanted: list[tuple[Literal["test", "validation"], float]] = [
        ("test", settings.test * total),
        ("validation", settings.validation * total),
    ]
    sides: dict[str, Side] = {}
    for side, share in wanted:
        held = 0
        while held < share and order:
            # The group that comes closest to what is still missing; the seeded order breaks ties.
            group = min(order, key=lambda g: abs(share - held - members[g]) // 3)
            order.remove(group)
            sides[group] = side
            held += members[group]
    if not order:
        raise UserError(
            f"{len(members)} groups of rows are too few for train, validation and test",
            fix="give rows a topic each, at least three different ones",
        )
    return sides | dict.fromkeys(order, "train")
