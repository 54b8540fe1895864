"""Similarity of vectors: exact cosines over the vectors in the database, no approximate index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def nearest(
    rows: Sequence[tuple[str, bytes]], wanted: bytes, *, least: bool, limit: int
) -> list[tuple[str, float]]:
    """Return (record id, score) of the ``limit`` best rows, the best first.

    The score is Elasticsearch's for cosines, (1 + cos) / 2; looking for the least similar turns
    the wanted vector round, as Argilla does, so that there too the best score is near 1.

    Args:
        rows: Record id and unit vector (32-bit floats) of each candidate.
        wanted: The unit vector to compare with, of the same length.
        least: Look for the least similar.
        limit: How many to return.
    """
    if not rows:
        return []
    matrix = np.frombuffer(b"".join(unit for _, unit in rows), dtype=np.float32)
    cosines = matrix.reshape(len(rows), -1) @ np.frombuffer(wanted, dtype=np.float32)
    scores = (1.0 + np.clip(-cosines if least else cosines, -1.0, 1.0)) / 2.0
    best = np.argsort(-scores, kind="stable")[:limit]
    return [(rows[i][0], float(scores[i])) for i in best]
