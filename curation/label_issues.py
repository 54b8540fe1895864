"""Rows that look as if they had the wrong label: kept, but unlike what was kept, or the other way.

The plan of the next round hands over answers, and lists the issues for people to look at again. An
answer's label is whether people kept it as the persona's. Its neighbours are the other answers, the
base model's own to the same questions among those that are not the persona's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workbench.values import Frozen

FEWEST = 10
"""Answers that each label needs at the least."""
FOLDS = 5
NGRAMS = (2, 4)
"""Characters of the pieces that answers are compared by; within words, in any script."""


class LabelledAnswer(NamedTuple):
    """An answer and its label."""

    id: str
    prompt: str
    """What it answers; answers to one prompt are always judged by the same others."""
    answer: str
    label: bool
    """True where people kept it as the persona's."""


class LabelQuality(Frozen):
    """How well an answer's label is borne out by the others."""

    id: str
    label: bool
    quality: float
    """0 to 1: the probability of its label, by what the others are like."""
    issue: bool
    """Whether confident learning calls the label wrong."""


def label_quality(answers: Sequence[LabelledAnswer], *, seed: int = 0) -> list[LabelQuality]:
    """Return every answer's label quality, the lowest first; none with too few answers.

    Too few are also those of a label that only the prompts of one fold have.

    Out-of-sample probabilities come from a logistic regression on TF-IDF weights of character
    n-grams, cross-validated with whole prompts to one fold. cleanlab makes the rest of them: the
    quality is its self-confidence, an issue what confident learning finds (Northcutt, Jiang and
    Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70; cleanlab's
    ``filter.find_label_issues`` and ``rank.get_label_quality_scores``).

    Args:
        answers: At least :data:`FEWEST` of each label, to at least :data:`FOLDS` prompts.
        seed: Of the regression; the folds follow the order of prompts.
    """
    import numpy as np

    labels = np.array([int(one.label) for one in answers])
    prompts = {one.prompt: place for place, one in enumerate(answers)}
    if not answers or min(labels.sum(), (1 - labels).sum()) < FEWEST or len(prompts) < FOLDS:
        return []
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(analyzer="char_wb", ngram_range=NGRAMS, sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000, class_weight="balanced", random_state=seed),
    )
    texts, groups = [one.answer for one in answers], [prompts[one.prompt] for one in answers]
    folds = list(GroupKFold(FOLDS).split(texts, labels, groups))
    if any(len(set(labels[rest])) < 2 for rest, _ in folds):
        return []
    probabilities = cross_val_predict(model, texts, labels, cv=folds, method="predict_proba")
    quality = get_label_quality_scores(labels, probabilities)
    # One process: the work is small, and the processes of others cost more than it.
    issues = find_label_issues(labels, probabilities, n_jobs=1)
    qualities = [
        LabelQuality(id=one.id, label=one.label, quality=round(float(score), 4), issue=bool(issue))
        for one, score, issue in zip(answers, quality, issues, strict=True)
    ]
    return sorted(qualities, key=lambda one: (one.quality, one.id))
