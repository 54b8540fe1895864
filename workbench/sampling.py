"""Taking fewer rows without losing topics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from workbench.records import Example

T = TypeVar("T", bound=Example)


def take_spread(rows: Sequence[T], count: int | None) -> list[T]:
    """Return ``count`` rows taken in turn from every topic, in their original order.

    All rows are returned when ``count`` is None or not smaller than their number.
    """
    if count is None or count >= len(rows):
        return list(rows)
    by_topic: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_topic[row.topic].append(index)
    turns = max(len(indices) for indices in by_topic.values())
    order = [
        group[turn] for turn in range(turns) for group in by_topic.values() if turn < len(group)
    ]
    return [rows[index] for index in sorted(order[:count])]
