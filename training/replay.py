"""Going on from an earlier round's adapter: its new rows, and a share of the old ones again.

What was learned first is forgotten least where a share of it is heard again while the new is
learned (experience replay: https://arxiv.org/abs/1811.11682; for language models, where a small
share is enough: https://arxiv.org/abs/2403.08763).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from workbench.records import Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Drawn(Generic[R]):
    """The rows of a run that goes on from an earlier round."""

    rows: list[R]
    """New and replayed ones, in the order in which they came."""
    new: int
    replayed: int
    earlier: int
    """Rows that the adapter was trained on already; the replayed ones are among them."""


def draw(rows: Sequence[R], known: Collection[str], share: float, seed: int) -> Drawn[R]:
    """Return the rows to train on: all new ones, and a share of those known already.

    Which are replayed depends on the seed and their ids alone, not on the order of the file.

    Args:
        rows: All rows of the training side.
        known: Ids of the rows that the adapter was trained on; others than ``rows`` may be among
            them, which this round does not have any more and nobody replays.
        share: Of the known rows, 0 to 1; any share above 0 replays at least one.
        seed: Of the draw.
    """
    earlier = [row.id for row in rows if row.id in known]
    order = sorted(earlier, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).hexdigest())
    # 0.07 of 100 rows is 7.000000000000001 in floating point: not eight.
    again = set(order[: math.ceil(round(share * len(earlier), 9))])
    taken = [row for row in rows if row.id not in known or row.id in again]
    return Drawn(taken, len(taken) - len(again), len(again), len(earlier))
