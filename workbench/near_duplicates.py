"""Near duplicates, by MinHash (library: datasketch).

Texts come in, pairs that are alike come out, each with its similarity. Filters drop near duplicates
by it, splits and leak checks relate rows by it, and new questions are compared with old ones as
they come. Time grows with the number of texts, of twenty thousand that are all alike too: a text is
held against a bounded number of others, those first whose sketch has most in common with its own.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from workbench.console import tracked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sketch = NDArray[np.uint32]

SHINGLE = 5
"""Characters a shingle; works for Korean and English alike."""
PERMUTATIONS = 128
FEWEST_WORDS = 5
"""Different words of a question below which its words alone say nothing."""
LONGEST = 20_000
"""Characters of a text that are looked at: the pieces of a book would take gigabytes."""
_KEPT = 128
"""Sets of pieces that are kept; those of all texts would take some fifty times the texts' size."""
_BUCKET = 24
"""Texts of one bucket that are remembered; more are in one only where texts are alike anyway."""
_CANDIDATES = 48
"""Texts that met one text whose sketches are held against its own."""
_CHECKED = 12
"""The likest of them, which are held against it piece by piece."""
_SLACK = 0.1
"""How far an estimate by sketches may lie below the similarity: 2.4 standard deviations at 0.6."""
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
    flat = _SPACE.sub(" ", text[:LONGEST].casefold()).strip()
    return {flat[i : i + size] for i in range(max(1, len(flat) - size + 1))}


def jaccard(left: set[str], right: set[str]) -> float:
    """Return the Jaccard similarity of two sets: shared over all."""
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def beginnings(text: str) -> set[str]:
    """Return the beginnings of the words of ``text``, whatever their order and endings.

    Five letters of a Latin word, two syllables of a Korean one, whose endings come after.
    """
    words = _WORD.findall(text[:LONGEST].casefold())
    return {word[:5] if word.isascii() else word[:2] for word in words}


def repeats(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier, later, similarity) of each text that repeats an earlier one.

    It is ``threshold`` alike to it by the exact Jaccard similarity of their shingles (Broder 1997,
    "On the resemblance and containment of documents"), and the earlier one repeats none itself.
    Candidates come from locality-sensitive hashing. Of a text only its sketch is kept.
    """
    yield from _alike(texts, shingles, threshold, first_only=True)


def paraphrase_pairs(
    texts: Sequence[str], threshold: float, kinds: Sequence[str] | None = None
) -> list[tuple[int, int, float]]:
    """Return (earlier, later, similarity) of questions that ask the same in nearly the same words.

    The similarity is the larger of two Jaccard similarities: of the shingles, and, from
    :data:`FEWEST_WORDS` words on, of the words' beginnings, which finds a paraphrase whose parts
    stand in another order. Of a crowd of texts that are all alike not every pair comes, but each
    text with some others.

    Args:
        texts: The questions.
        threshold: Similarity from which two are paraphrases.
        kinds: A kind for each text; pairs of one kind are left out, but for the kind "".
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
    kinds: Sequence[str] | None = None,
    *,
    first_only: bool = False,
) -> Iterator[tuple[int, int, float]]:
    @lru_cache(maxsize=_KEPT)
    def of(place: int) -> set[str]:
        return pieces(texts[place])

    # A lower threshold for candidates, since hashing may miss pairs close to its own.
    buckets = _Buckets(max(0.1, threshold - 0.15))
    for later in tracked("comparing texts", range(len(texts))):
        own = pieces(texts[later])
        if not own:
            continue
        sketch, kind, repeated = _sketch(own), kinds[later] if kinds else "", False
        for earlier in buckets.near(sketch, kind, threshold - _SLACK)[:_CHECKED]:
            similarity = jaccard(of(earlier), own)
            if similarity >= threshold:
                yield earlier, later, similarity
                if repeated := first_only:
                    break
        if not repeated:
            buckets.add(later, sketch, kind)


class _Buckets:
    """Locality-sensitive hashing of sketches, with bounds on what crowds of alike texts cost.

    Texts whose sketches agree in all values of one band meet in a bucket.

    Args:
        threshold: Similarity from which two texts are likely to meet.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        best = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self._bands, self._rows = best.b, best.r
        self._tables: dict[str, list[dict[int, tuple[int, ...]]]] = {}
        """Kind → for each band, bucket → the first places in it."""
        self._sketches: dict[int, Sketch] = {}

    def near(self, sketch: Sketch, kind: str = "", least: float = 0.0) -> list[int]:
        """Return places that met this sketch, of other kinds or of none, the likest first.

        They are estimated to be ``least`` alike, and among the :data:`_CANDIDATES` that met it in
        most bands.
        """
        import numpy as np

        tables = [own for name, own in self._tables.items() if not (name and name == kind)]
        meetings: Counter[int] = Counter()
        for band, key in enumerate(self._keys(sketch)):
            for own in tables:
                meetings.update(own[band].get(key, ()))
        places = sorted(place for place, _ in meetings.most_common(_CANDIDATES))
        if not places:
            return []
        alike = (np.stack([self._sketches[place] for place in places]) == sketch).mean(axis=1)
        order = np.argsort(-alike, kind="stable")
        return [places[at] for at in order if alike[at] >= least]

    def add(self, place: int, sketch: Sketch, kind: str = "") -> None:
        """Remember the place of a sketch; a full bucket takes no more."""
        tables = self._tables.setdefault(kind, [{} for _ in range(self._bands)])
        self._sketches[place] = sketch
        for table, key in zip(tables, self._keys(sketch), strict=True):
            bucket = table.get(key, ())
            if len(bucket) < _BUCKET:
                table[key] = (*bucket, place)

    def _keys(self, sketch: Sketch) -> list[int]:
        bands = sketch[: self._bands * self._rows].reshape(self._bands, self._rows)
        return [hash(band.tobytes()) for band in bands]


def _sketch(pieces: set[str]) -> Sketch:
    import numpy as np
    from datasketch import MinHash

    sketch = MinHash(
        num_perm=PERMUTATIONS, seed=1, permutations=_permutations(), hashfunc=zlib.crc32
    )
    sketch.update_batch([piece.encode() for piece in pieces])
    values: Sketch = sketch.hashvalues.astype(np.uint32)
    return values


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
        self.threshold = threshold
        self._texts: dict[Hashable, str] = {}
        self._keys: list[Hashable] = []
        # One changed letter changes three shingles, so short near duplicates share few of them.
        self._buckets = _Buckets(0.3)

    def add(self, key: Hashable, text: str) -> None:
        """Take up a text; of two with the same key the first stays."""
        if key not in self._texts:
            self._texts[key] = words = _sorted_words(text)
            self._buckets.add(len(self._keys), _sketch(shingles(words, 3)))
            self._keys.append(key)

    def nearest(self, text: str) -> tuple[Hashable, float] | None:
        """Return the key and the similarity (0 to 100) of the nearest near duplicate, or None."""
        from rapidfuzz import fuzz, process

        words = _sorted_words(text)
        places = self._buckets.near(_sketch(shingles(words, 3)))
        near = {key: self._texts[key] for key in map(self._keys.__getitem__, places)}
        best = process.extractOne(words, near, scorer=fuzz.ratio, score_cutoff=self.threshold)
        return (best[2], best[1]) if best else None


def _sorted_words(text: str) -> str:
    return " ".join(sorted(_WORD.findall(text[:LONGEST].casefold())))
