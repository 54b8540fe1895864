"""How "find similar" compares rows: by meaning where an embedder is there, else by letters.

In: the configuration's embedder, the persona's language, and the vectors of a dataset that is there
already. Out: the vector of each question. :mod:`curation.argilla.push` asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from workbench.inference.embedder import NGRAMS, embedder_name, make_embedder, named

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.inference.embedder import Embedder
    from workbench.inference.endpoint import Endpoint


class Named(Protocol):
    """What has a name, such as a dataset's vectors."""

    @property
    def name(self) -> str:
        """The name."""


VECTOR = "similar"
"""Name of the vectors of letters; those of an embedder have its name after it."""
DIMENSIONS = 256
"""Numbers of a vector of letters; an embedder has its own number."""
LONGEST = 2000
"""Characters of a question that are compared: embedders see some 256 tokens."""
_OTHER = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Similarity:
    """What the vectors of one dataset are made by."""

    embedder: Embedder | None = None
    """None for letters: character n-grams, which need no model."""

    @property
    def dimensions(self) -> int:
        """Numbers of a vector."""
        return len(self.vectors(["?"])[0])

    @property
    def name(self) -> str:
        """The vectors' name in a dataset, which says what they were made by."""
        return name_of(self.embedder.name if self.embedder else "")

    def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector of length 1 for each text, which depends on that text alone.

        So rows pushed later are comparable with those pushed before.

        Raises:
            UserError: The embedder's endpoint does not answer.
        """
        if not texts:
            return []
        some = [text[:LONGEST] for text in texts]
        table = (self.embedder.embed(some) if self.embedder else by_letters(some)).round(4)
        return [[float(value) for value in row] for row in table]


def name_of(embedder: str) -> str:
    """Return the name of the vectors of an embedder, or of letters, as Argilla takes it."""
    return "-".join(filter(None, (VECTOR, _OTHER.sub("-", embedder.lower()).strip("-"))))


def by_letters(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return (n, :data:`DIMENSIONS`): character n-grams inside words, hashed.

    Questions that share words or parts of words (Korean stems with other endings) are near.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=DIMENSIONS, norm="l2"
    )
    table: NDArray[np.float64] = hashing.transform(texts).toarray()
    return table


def similarity(setting: str | Endpoint, language: str) -> Similarity:
    """Return what the vectors of a new dataset are made by.

    Args:
        setting: The configuration's embedder.
        language: The persona's.

    Raises:
        UserError: The embedder is not there.
    """
    if named(setting, language) == NGRAMS:
        return Similarity()
    return Similarity(make_embedder(setting, language, ()))


def held_similarity(
    setting: str | Endpoint, language: str, vectors: Iterable[Named]
) -> Similarity | None:
    """Return what a dataset's vectors, which it keeps, are made by; None where that is gone.

    Args:
        setting: The configuration's embedder.
        language: The persona's.
        vectors: The dataset's.
    """
    names = {vector.name for vector in vectors}
    if VECTOR in names:
        return Similarity()
    wanted = name_of(embedder_name(named(setting, language)))
    return similarity(setting, language) if wanted in names else None
