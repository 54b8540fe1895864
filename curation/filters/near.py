"""Near duplicates, by MinHash over character shingles (library: datasketch)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

SHINGLE = 5
"""Characters a shingle; works for Korean and English alike."""
PERMUTATIONS = 128
_SPACE = re.compile(r"\W+")


def shingles(text: str) -> set[str]:
    """Return the character shingles of ``text``, case, spaces and punctuation aside."""
    flat = _SPACE.sub(" ", text.casefold()).strip()
    return {flat[i : i + SHINGLE] for i in range(max(1, len(flat) - SHINGLE + 1))}


def jaccard(left: set[str], right: set[str]) -> float:
    """Return the Jaccard similarity of two sets: shared over all."""
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def near_pairs(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier, later, similarity) of texts at least ``threshold`` alike.

    Candidates come from locality-sensitive hashing; the similarity yielded is the exact Jaccard
    similarity of the shingles (Broder 1997, "On the resemblance and containment of documents").
    Time grows with the number of texts and of candidate pairs.
    """
    from datasketch import MinHash, MinHashLSH

    # A lower threshold for candidates, since hashing may miss pairs close to its own.
    index = MinHashLSH(threshold=max(0.1, threshold - 0.15), num_perm=PERMUTATIONS)
    sets = [shingles(text) for text in texts]
    for later, found in enumerate(sets):
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([shingle.encode() for shingle in found])
        for earlier in sorted(index.query(sketch)):
            similarity = jaccard(sets[earlier], found)
            if similarity >= threshold:
                yield earlier, later, similarity
        index.insert(later, sketch)
