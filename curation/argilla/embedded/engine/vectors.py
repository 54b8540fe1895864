"""Similarity of vectors: exact cosines over all of them, no approximate index.

Reading 10 000 vectors of 384 numbers from the database takes a tenth of a second, so the server
keeps the last few sets in memory (15 MB each). The pair (how many, the highest key) tells whether
a set is still the database's: keys only grow, a changed vector gets a new one, a dropped one
lowers the count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = Callable[..., Awaitable[Sequence[Any]]]
_KEPT_SETS = 4
_kept: OrderedDict[str, VectorSet] = OrderedDict()


@dataclass(frozen=True)
class VectorSet:
    """The vectors of one setting: row i of ``units`` (length 1) belongs to record ``keys[i]``."""

    state: tuple[int, int]
    keys: np.ndarray
    ids: list[str]
    units: np.ndarray

    def nearest(
        self,
        wanted: bytes,
        *,
        least: bool,
        limit: int,
        among: Iterable[int] | None = None,
        without: str | None = None,
    ) -> list[tuple[str, float]]:
        """Return (record id, score) of the ``limit`` best records, the best first.

        The score is Elasticsearch's for cosines, (1 + cos) / 2; looking for the least similar
        turns the wanted vector round, as Argilla does, so that there too the best is near 1.

        Args:
            wanted: The unit vector to compare with, as 32-bit floats.
            least: Look for the least similar.
            limit: How many to return.
            among: Keys of the records that may be returned; None for all.
            without: Id of a record that may not.
        """
        if not self.ids:
            return []
        cosines = self.units @ np.frombuffer(wanted, dtype=np.float32)
        scores = (1.0 + np.clip(-cosines if least else cosines, -1.0, 1.0)) / 2.0
        allowed = np.ones(len(self.ids), dtype=bool)
        if among is not None:
            allowed &= np.isin(self.keys, np.fromiter(among, dtype=np.int64))
        order = np.argsort(-scores, kind="stable")
        best = [i for i in order[allowed[order]] if self.ids[i] != without][:limit]
        return [(self.ids[i], float(scores[i])) for i in best]


async def vectors_of(settings_id: str, rows: Rows) -> VectorSet:
    """Return the vectors of a setting as they are in the database now.

    Args:
        settings_id: The setting's id, as SQLite stores it.
        rows: Runs a statement with named parameters and returns its rows.
    """
    counted = await rows(
        "SELECT count(*), coalesce(max(key), 0) FROM persona_vectors WHERE settings_id = :s",
        s=settings_id,
    )
    state = (int(counted[0][0]), int(counted[0][1]))
    known = _kept.get(settings_id)
    if known is None or known.state != state:
        vectors = await rows(
            "SELECT u.key, r.key, r.id, u.unit FROM persona_vectors u "
            "JOIN persona_records r ON r.id = u.record_id WHERE u.settings_id = :s ORDER BY r.key",
            s=settings_id,
        )
        units = np.frombuffer(b"".join(row[3] for row in vectors), dtype=np.float32)
        known = VectorSet(
            # What was read, not what was counted: it may have grown in between.
            state=(len(vectors), max((row[0] for row in vectors), default=0)),
            keys=np.array([row[1] for row in vectors], dtype=np.int64),
            ids=[row[2] for row in vectors],
            units=units.reshape(len(vectors), -1) if vectors else units,
        )
    _kept[settings_id] = known
    _kept.move_to_end(settings_id)
    while len(_kept) > _KEPT_SETS:
        _kept.popitem(last=False)
    return known
