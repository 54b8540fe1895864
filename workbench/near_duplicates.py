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
from functools import cache, lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, overload

from workbench.console import tracked
from workbench.cores import on_all_cores
from workbench.parts import WORD

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sketch = NDArray[np.uint32]
    Hashes = NDArray[np.uint32]

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
_BLOCK = 256
"""Pieces that are permuted at a time."""
_SPACE = re.compile(r"\W+")


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
    flat = _flat(text)
    return {flat[i : i + size] for i in range(max(1, len(flat) - size + 1))}


def _flat(text: str) -> str:
    return _SPACE.sub(" ", text[:LONGEST].casefold()).strip()


def jaccard(left: set[str], right: set[str]) -> float:
    """Return the Jaccard similarity of two sets: shared over all."""
    union = len(left | right)
    return len(left & right) / union if union else 1.0


def beginnings(text: str) -> set[str]:
    """Return the beginnings of the words of ``text``, whatever their order and endings.

    Five letters of a Latin word, two syllables of a Korean one, whose endings come after.
    """
    words = WORD.findall(text[:LONGEST].casefold())
    return {word[:5] if word.isascii() else word[:2] for word in words}


def repeats(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier, later, similarity) of each text that repeats an earlier one.

    It is ``threshold`` alike to it by the exact Jaccard similarity of their shingles (Broder 1997,
    "On the resemblance and containment of documents"), and the earlier one repeats none itself.
    Candidates come from locality-sensitive hashing. Of a text only its sketch is kept.
    """
    yield from _alike(texts, BY_SHINGLES, threshold, first_only=True)


def paraphrase_pairs(
    texts: Sequence[str], threshold: float, kinds: Sequence[str] | None = None
) -> list[tuple[int, int, float]]:
    """Return (earlier, later, similarity) of questions that ask the same in nearly the same words.

    The similarity is the larger of two Jaccard similarities: of the shingles, and, from
    :data:`FEWEST_WORDS` words on, of the words' beginnings, which finds a paraphrase whose parts
    stand in another order. Of a crowd of texts that are all alike not every pair comes, but each
    text with some others. Pairs of one kind are left out, but for the kind "".
    """
    similarities: dict[tuple[int, int], float] = {}
    for way in (BY_SHINGLES, BY_WORDS):
        for earlier, later, similarity in _alike(texts, way, threshold, kinds):
            best = similarities.get((earlier, later), 0.0)
            similarities[earlier, later] = max(similarity, best)
    return [(*pair, similarity) for pair, similarity in sorted(similarities.items())]


def _enough_words(text: str) -> set[str]:
    words = beginnings(text)
    return words if len(words) >= FEWEST_WORDS else set()


class Way(NamedTuple):
    """How texts are compared: by which pieces, and the hashes of these, which is much quicker."""

    pieces: Callable[[str], set[str]]
    hashes: Callable[[str], Hashes]


def _alike(
    texts: Sequence[str],
    way: Way,
    threshold: float,
    kinds: Sequence[str] | None = None,
    *,
    first_only: bool = False,
) -> Iterator[tuple[int, int, float]]:
    @lru_cache(maxsize=_KEPT)
    def of(place: int) -> set[str]:
        return way.pieces(texts[place])

    # A lower threshold for candidates, since hashing may miss pairs close to its own.
    buckets = _Buckets(max(0.1, threshold - 0.15))
    sketches: Iterator[Sketch | None] = on_all_cores(partial(sketches_of, way), texts)
    for later, sketch in enumerate(tracked("comparing texts", sketches, len(texts))):
        if sketch is None:
            continue
        keys, kind, repeated = buckets.keys(sketch), kinds[later] if kinds else "", False
        for earlier in buckets.near(sketch, keys, kind, threshold - _SLACK)[:_CHECKED]:
            similarity = jaccard(of(earlier), of(later))
            if similarity >= threshold:
                yield earlier, later, similarity
                if repeated := first_only:
                    break
        if not repeated:
            buckets.add(later, sketch, keys, kind)


class _Buckets:
    """Locality-sensitive hashing of sketches, with bounds on what crowds of alike texts cost.

    Texts whose sketches agree in all values of one band meet in a bucket. From the threshold on two
    texts are likely to meet.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        best = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self._bands, self._rows = best.b, best.r
        self._tables: dict[str, list[dict[int, tuple[int, ...]]]] = {}
        """Kind → for each band, bucket → the first places in it."""
        self._sketches: dict[int, Sketch] = {}

    def near(
        self, sketch: Sketch, keys: Sequence[int], kind: str = "", least: float = 0.0
    ) -> list[int]:
        """Return places that met this sketch, of other kinds or of none, the likest first.

        They are estimated to be ``least`` alike, and among the :data:`_CANDIDATES` that met it in
        most bands. ``keys`` are the sketch's buckets, as :meth:`keys` gives them.
        """
        import numpy as np

        tables = [own for name, own in self._tables.items() if not (name and name == kind)]
        met = [
            bucket
            for own in tables
            for table, key in zip(own, keys, strict=True)
            if (bucket := table.get(key))
        ]
        if not met:
            return []
        meetings = Counter(chain.from_iterable(met))
        places = sorted(place for place, _ in meetings.most_common(_CANDIDATES))
        alike = (np.stack([self._sketches[place] for place in places]) == sketch).mean(axis=1)
        order = np.argsort(-alike, kind="stable")
        return [places[at] for at in order if alike[at] >= least]

    def add(self, place: int, sketch: Sketch, keys: Sequence[int], kind: str = "") -> None:
        """Remember the place of a sketch; a full bucket takes no more."""
        tables = self._tables.setdefault(kind, [{} for _ in range(self._bands)])
        self._sketches[place] = sketch
        for table, key in zip(tables, keys, strict=True):
            bucket = table.get(key, ())
            if len(bucket) < _BUCKET:
                table[key] = (*bucket, place)

    def keys(self, sketch: Sketch) -> list[int]:
        """Return a sketch's bucket in each band."""
        data, width = sketch.tobytes(), self._rows * sketch.itemsize
        return [hash(data[start : start + width]) for start in range(0, self._bands * width, width)]


def _shingle_hashes(text: str, size: int = SHINGLE) -> Hashes:
    """Return CRC-32 of each shingle of ``text``, as often as it stands there, all at a time.

    It is computed byte by byte with the usual table of 256 (zlib gives the same); making the
    shingles and hashing one after the other takes six times as long.
    """
    import numpy as np

    flat = _flat(text)
    data = np.frombuffer(flat.encode(), np.uint8)
    # Where characters begin: all bytes of UTF-8 but those that go on with one.
    starts = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    count = max(1, len(flat) - size + 1)
    at = starts[:count].copy()
    ends = starts[size : size + count] if len(flat) > size else starts[-1:]
    table, hashes = _crc_table(), np.full(count, 0xFFFFFFFF, np.uint32)
    for _ in range(int((ends - at).max(initial=0))):
        here = np.flatnonzero(at < ends)
        before = hashes[here]
        hashes[here] = table[(before ^ data[at[here]]) & 0xFF] ^ (before >> 8)
        at += 1
    return ~hashes


def _word_hashes(text: str) -> Hashes:
    import numpy as np

    return np.array([zlib.crc32(word.encode()) for word in _enough_words(text)], np.uint32)


def sketches_of(way: Way, texts: Sequence[str]) -> list[Sketch | None]:
    """Return the sketch of each text, None of one without pieces."""
    sketch = Sketcher()
    return [sketch(hashes) if (hashes := way.hashes(text)).size else None for text in texts]


class Sketcher:
    """Makes sketches in rooms of its own: getting such memory anew each time takes as long."""

    def __init__(self) -> None:
        import numpy as np

        self._rooms = [
            np.empty((_BLOCK, PERMUTATIONS), kind) for kind in (np.uint64, np.uint32, np.uint32)
        ]

    def __call__(self, hashes: Hashes) -> Sketch:
        """Return the MinHash of pieces: for each permutation the least value of any of them.

        datasketch's own ``update_batch`` gives the same and takes three times as long: most of it
        goes into the remainder by 2^61 - 1, of which the low 32 bits alone are wanted. Those are
        what the low bits and the bits from the 61st on add up to (but for one value in 10^17).
        """
        import numpy as np

        multipliers, offsets = permutations()
        least = np.full(PERMUTATIONS, 0xFFFFFFFF, np.uint32)
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK, None]
            values, low, high = (room[: len(block)] for room in self._rooms)
            np.multiply(block, multipliers, out=values, dtype=np.uint64)
            values += offsets
            low[:] = values
            values >>= np.uint64(61)
            high[:] = values
            low += high
            np.minimum(least, low.min(axis=0), out=least)
        return least


BY_SHINGLES = Way(shingles, _shingle_hashes)
BY_WORDS = Way(_enough_words, _word_hashes)


@cache
def _crc_table() -> NDArray[np.uint32]:
    import numpy as np

    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1)
    return table


@cache
def permutations() -> NDArray[np.uint64]:
    """Return what every sketch is made with; drawing it takes half as long as a sketch."""
    from datasketch import MinHash

    permutations: NDArray[np.uint64] = MinHash(num_perm=PERMUTATIONS, seed=1).permutations
    return permutations


class NearTextIndex:
    """Short texts, one added after another, and whether a new one says the same as an earlier one.

    Candidates come from locality-sensitive hashing over three-letter shingles of the sorted words;
    what decides is the edit similarity of the sorted words (rapidfuzz). Time for ``n`` texts grows
    with ``n`` and the number of candidates, not with ``n`` squared. The threshold is from 0 to 100.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._texts: dict[Hashable, str] = {}
        self._keys: list[Hashable] = []
        # One changed letter changes three shingles, so short near duplicates share few of them.
        self._buckets, self._sketcher = _Buckets(0.3), Sketcher()

    def add(self, key: Hashable, text: str) -> None:
        """Take up a text; of two with the same key the first stays."""
        if key not in self._texts:
            self._texts[key] = words = _sorted_words(text)
            sketch = self._sketcher(_shingle_hashes(words, 3))
            self._buckets.add(len(self._keys), sketch, self._buckets.keys(sketch))
            self._keys.append(key)

    def nearest(self, text: str) -> tuple[Hashable, float] | None:
        """Return the key and the similarity (0 to 100) of the nearest near duplicate, or None."""
        from rapidfuzz import fuzz, process

        words = _sorted_words(text)
        sketch = self._sketcher(_shingle_hashes(words, 3))
        places = self._buckets.near(sketch, self._buckets.keys(sketch))
        near = {key: self._texts[key] for key in map(self._keys.__getitem__, places)}
        best = process.extractOne(words, near, scorer=fuzz.ratio, score_cutoff=self.threshold)
        return (best[2], best[1]) if best else None


def _sorted_words(text: str) -> str:
    return " ".join(sorted(WORD.findall(text[:LONGEST].casefold())))
