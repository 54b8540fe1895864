"""The labelled pairs of questions, and what a way to compare finds of them.

The test asserts what the shipped thresholds find on the half that they were not chosen on; the
benchmark prints the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.inference.embedder import Embedder
from workbench.near_duplicates import beginnings, jaccard, shingles
from workbench.paraphrases import WORDING, shared_wording

PAIRS = Path("datasets/paraphrases")
SEEDS = {"en": Path("datasets/gym-trainer"), "ko": Path("datasets/gym-trainer-ko")}
Likenesses = NDArray[np.floating]
Compare = Callable[[Sequence[str], Sequence[str]], Likenesses]
"""Of n and m texts the (n, m) likenesses."""


NATURAL = 0.001
"""Share of pairs of different questions that a threshold may join."""


def likenesses(left: Sequence[str], right: Sequence[str], embedder: Embedder) -> Likenesses:
    """Return the (n, m) likenesses of n and m texts, as :class:`workbench.paraphrases.Meaning`."""
    cosines = embedder.embed(left) @ embedder.embed(right).T
    shared = np.array([[shared_wording(one, other) for other in right] for one in left])
    return (cosines - WORDING * shared).astype(np.float32)


def threshold_of(natural: Likenesses) -> float:
    """Return the lowest threshold, in hundredths, that joins at most :data:`NATURAL` of pairs."""
    most = int(NATURAL * natural.size)
    return float(np.floor(np.sort(natural.ravel())[::-1][most] * 100 + 1) / 100)


@dataclass(frozen=True)
class Pair:
    """Two questions, and whether a person called them the same."""

    one: str
    other: str
    same: bool


@dataclass(frozen=True)
class Tried:
    """What a threshold does to pairs that it was not chosen on."""

    threshold: float
    recall: float
    """Of the 50 paraphrases."""
    lookalikes: float
    """Share of the 50 look-alikes that are joined as well."""
    precision: float
    natural: float
    """Share of all pairs of different labelled questions that are joined."""
    seeds: float
    """The same of the shipped rows' questions."""


def pairs_of(language: str) -> list[Pair]:
    """Return the labelled pairs of a language."""
    lines = (PAIRS / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
    data = [json.loads(line) for line in lines]
    return [Pair(row["one"], row["other"], row["same"]) for row in data]


def seeds_of(language: str) -> list[str]:
    """Return the different questions of the shipped rows."""
    lines = (SEEDS[language] / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(json.loads(line)["instruction"] for line in lines))


def by_wording(left: Sequence[str], right: Sequence[str]) -> Likenesses:
    """Return what MinHash finds: the larger Jaccard similarity, of shingles or of words."""

    def alike(pieces: Callable[[str], set[str]]) -> Likenesses:
        ones, others = [pieces(text) for text in left], [pieces(text) for text in right]
        return np.array([[jaccard(one, other) for other in others] for one in ones])

    return np.maximum(alike(shingles), alike(beginnings))


def by_embedder(embedder: Embedder) -> Compare:
    """Return the comparison of an embedder."""

    def compare(left: Sequence[str], right: Sequence[str]) -> Likenesses:
        return likenesses(left, right, embedder)

    return compare


def tried(compare: Compare, language: str, threshold: float | None = None) -> Tried:
    """Try a threshold on every other pair and on the shipped rows.

    Args:
        compare: How.
        language: Of the pairs.
        threshold: By default the one that the other half gives.
    """
    pairs, seeds = pairs_of(language), seeds_of(language)
    if threshold is None:
        threshold = threshold_of(_natural(compare, pairs[::2]))
    rest = pairs[1::2]
    alike = np.array([compare([pair.one], [pair.other])[0, 0] for pair in rest])
    same = np.array([pair.same for pair in rest])
    joined = alike >= threshold
    of_seeds = compare(seeds, seeds)[np.triu_indices(len(seeds), 1)]
    return Tried(
        threshold,
        recall=float(joined[same].mean()),
        lookalikes=float(joined[~same].mean()),
        precision=float(same[joined].mean()) if joined.any() else 1.0,
        natural=float((_natural(compare, rest) >= threshold).mean()),
        seeds=float((of_seeds >= threshold).mean()),
    )


def _natural(compare: Compare, pairs: Sequence[Pair]) -> Likenesses:
    """Return the likenesses of all pairs of different questions among the paraphrases."""
    same = [pair for pair in pairs if pair.same]
    texts = [text for pair in same for text in (pair.one, pair.other)]
    rows, columns = np.triu_indices(len(texts), 1)
    different = rows // 2 != columns // 2
    natural: Likenesses = compare(texts, texts)[rows[different], columns[different]]
    return natural
