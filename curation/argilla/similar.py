"""Vectors for "find similar", made offline and without a model."""

from __future__ import annotations

from collections.abc import Sequence

VECTOR = "similar"
DIMENSIONS = 256


def vectors(texts: Sequence[str]) -> list[list[float]]:
    """Return a vector of :data:`DIMENSIONS` numbers for each text, of length 1.

    Character n-grams inside words are hashed into the dimensions, so questions that share words
    or parts of words (Korean stems with other endings) are near each other. The vector of a text
    depends on that text alone: rows pushed later are comparable with those pushed before.
    """
    if not texts:
        return []
    from sklearn.feature_extraction.text import (
        HashingVectorizer,
    )

    hashing = HashingVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), n_features=DIMENSIONS, norm="l2"
    )
    table = hashing.transform(texts).toarray().round(4)
    return [[float(value) for value in row] for row in table]
