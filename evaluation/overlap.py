"""Likeness of an answer to reviewed answers by their wording: chrF, and rank among the rows."""

from __future__ import annotations

from collections.abc import Sequence


def chrf(answer: str, reference: str) -> float:
    """Return chrF, 0 to 1: F2 of shared character n-grams (Popović 2015; library: sacrebleu).

    It needs no words to be cut, so it serves Korean and English alike; it knows no meaning, and
    two answers in one voice share n-grams whatever they advise.
    """
    from sacrebleu.metrics import CHRF

    return float(CHRF().sentence_score(answer, [reference]).score) / 100


def own_reference_rank(
    answers: Sequence[str], references: Sequence[str], own: Sequence[int]
) -> list[float]:
    """Return for each answer the share of other references that it is less like than its own.

    Likeness is the cosine of TF-IDF vectors of character n-grams (scikit-learn) whose weights come
    from the references: what all of them share, such as a form of address, weighs little. One
    answer given to every question gets 0.5 on average whatever it says: ties count half.

    Args:
        answers: n texts.
        references: m texts, two or more.
        own: Index of each answer's own reference, n values below m.

    Returns:
        n values from 0 to 1; 0.5 for a single reference.
    """
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    weights = vectorizer.fit_transform(references)
    likeness = (vectorizer.transform(answers) @ weights.T).toarray().round(9)
    mine = likeness[np.arange(len(answers)), list(own)][:, None]
    below, equal = (likeness < mine).sum(axis=1), (likeness == mine).sum(axis=1) - 1
    return [float(value) for value in (below + 0.5 * equal) / (len(references) - 1)]
