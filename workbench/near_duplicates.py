"""Near duplicates and paraphrases, by MinHash (library: datasketch).

Texts come in, pairs that are alike come out, each with its similarity. Filters drop near duplicates
by it, splits and leak checks relate rows by it, and new questions are compared with old ones as
they come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar, overload

if TYPE_CHECKING:
    import numpy as np
    from datasketch import MinHash
    from numpy.typing import NDArray

SHINGLE = 5
"""Characters a shingle; works for Korean and English alike."""
PERMUTATIONS = 128
FEWEST_WORDS = 5
"""Different words of a question below which its words alone say nothing."""
_KEPT = 8
"""Sets of pieces that are kept; those of all texts would take some fifty times the texts' size."""
_SPACE = re.compile(r"\W+")
_WORD = re.compile(r"\w+")


T = TypeVar("T")


class LazyTexts(Sequence[str], Generic[T]):
    """Texts that are made of things when they are looked at, and never all held at once."""

    def __init__(self, things: Sequence[T], make: Callable[[T], str]) -> None:
        self._things, self._make = things, make

    def __len__(self) -> int:
        return len(self._things)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return LazyTexts(self._things[index], self._make)
        return self._make(self._things[index])


def shingles(text: str, size: int = SHINGLE) -> set[str]:
    """Return the character shingles of ``text``, case, spaces and punctuation aside."""
    flat = _SPACE.sub(" ", text.casefold()).strip()
    return {flat[i : i + size] for i in range(max(1, len(flat) - size + 1))}


def jaccard(left: set[str], right: set[str]) -> float:
    """Return the Jaccard similarity of two sets: shared over all."""
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def beginnings(text: str) -> set[str]:
    """Return the beginnings of the words of ``text``, whatever their order and endings.

    Five letters of a Latin word, two syllables of a Korean one, whose endings come after.
    """
    words = _WORD.findall(text.casefold())
    return {word[:5] if word.isascii() else word[:2] for word in words}


def near_pairs(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier, later, similarity) of texts whose shingles are ``threshold`` alike.

    Candidates come from locality-sensitive hashing; the similarity yielded is the exact Jaccard
    similarity of the shingles (Broder 1997, "On the resemblance and containment of documents").
    Time grows with the number of texts and of candidate pairs; of a text only its sketch is kept.
    """
    yield from _alike(texts, shingles, threshold, None)


def paraphrase_pairs(
    texts: Sequence[str], threshold: float, kinds: Sequence[Hashable] | None = None
) -> list[tuple[int, int, float]]:
    """Return (earlier, later, similarity) of questions that ask the same in nearly the same words.

    The similarity is the larger of two Jaccard similarities: of the shingles, and, from
    :data:`FEWEST_WORDS` words on, of the words' beginnings, which finds a paraphrase whose parts
    stand in another order.

    Args:
        texts: The questions.
        threshold: Similarity from which two are paraphrases.
        kinds: A kind for each text; pairs of one kind are left out.
    """
    similarities: dict[tuple[int, int], float] = {}
    for pieces in (shingles, _enough_words):
        for earlier, later, similarity in _alike(texts, pieces, threshold, kinds):
            best = similarities.get((earlier, later), 0.0)
            similarities[earlier, later] = max(similarity, best)
    return [(*pair, similarity) for pair, similarity in sorted(similarities.items())]


def _enough_words(text: str) -> set[str]:
    words = beginnings(text)
    return words if len(words) >= FEWEST_WORDS else set()


def _alike(
    texts: Sequence[str],
    pieces: Callable[[str], set[str]],
    threshold: float,
    kinds: Sequence[Hashable] | None,
) -> Iterator[tuple[int, int, float]]:
    from datasketch import MinHashLSH

    @lru_cache(maxsize=_KEPT)
    def of(place: int) -> set[str]:
        return pieces(texts[place])

    # A lower threshold for candidates, since hashing may miss pairs close to its own.
    index = MinHashLSH(threshold=max(0.1, threshold - 0.15), num_perm=PERMUTATIONS)
    for later in range(len(texts)):
        own = of(later)
        if not own:
            continue
        sketch = _sketch(own)
        for earlier in sorted(index.query(sketch)):
            if kinds and kinds[earlier] == kinds[later]:
                continue
            similarity = jaccard(of(earlier), own)
            if similarity >= threshold:
                yield earlier, later, similarity
        index.insert(later, sketch)


def _sketch(pieces: set[str]) -> MinHash:
    from datasketch import MinHash

    sketch = MinHash(num_perm=PERMUTATIONS, seed=1, permutations=_permutations())
    sketch.update_batch([piece.encode() for piece in pieces])
    return sketch


@cache
def _permutations() -> NDArray[np.uint64]:
    """Return what every sketch is made with; drawing it takes half as long as a sketch."""
    from datasketch import MinHash

    permutations: NDArray[np.uint64] = MinHash(num_perm=PERMUTATIONS, seed=1).permutations
    return permutations


class NearTextIndex:
    """Short texts, one added after another, and whether a new one says the same as an earlier one.

    Candidates come from locality-sensitive hashing over three-letter shingles of the sorted words;
    what decides is the edit similarity of the sorted words (rapidfuzz). Time for ``n`` texts grows
    with ``n`` and the number of candidates, not with ``n`` squared.

    Args:
        threshold: Similarity (0 to 100) from which two texts are near duplicates.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.threshold = threshold
        self._texts: dict[Hashable, str] = {}
        # One changed letter changes three shingles, so short near duplicates share few of them.
        self._index = MinHashLSH(threshold=0.3, num_perm=PERMUTATIONS)

    def add(self, key: Hashable, text: str) -> None:
        """Take up a text; of two with the same key the first stays."""
        if key not in self._texts:
            self._texts[key] = words = _sorted_words(text)
            self._index.insert(key, _sketch(shingles(words, 3)))

    def nearest(self, text: str) -> tuple[Hashable, float] | None:
        """Return the key and the similarity (0 to 100) of the nearest near duplicate, or None."""
        from rapidfuzz import fuzz, process

        words = _sorted_words(text)
        near = {key: self._texts[key] for key in self._index.query(_sketch(shingles(words, 3)))}
        best = process.extractOne(words, near, scorer=fuzz.ratio, score_cutoff=self.threshold)
        return (best[2], best[1]) if best else None


def _sorted_words(text: str) -> str:
    return " ".join(sorted(_WORD.findall(text.casefold())))
