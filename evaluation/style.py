"""The style classifier: persona answers against baseline ones, by the characters they are made of.

In: the training split and the base's baseline answers to it. Out: a classifier and its report.
Called by the stage of evaluation; its probabilities are the metric ``style``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.records import Example, Response
from workbench.text import counted
from workbench.values import Frozen

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FOLDS = 5
NGRAMS = (2, 4)
"""Characters an n-gram, inside words: endings and particles of Korean as well as English words."""
SHOWN = 12
"""n-grams of each class that are named, so that one sees what the classifier looks at."""


class StyleReport(Frozen):
    """What the classifier learned from and how good it is on topics it never saw."""

    persona_rows: int
    baseline_rows: int
    topics: int
    folds: int
    """Groups of whole topics, each held out once."""
    accuracy: float
    """Share of the held-out rows classified rightly, over all folds."""
    majority: float
    """Share that always saying the larger class would get: what accuracy must be held against."""
    accuracy_by_fold: tuple[float, ...]
    auc: float
    """Chance that a held-out persona answer gets more than a held-out baseline one."""
    persona_ngrams: tuple[str, ...]
    baseline_ngrams: tuple[str, ...]


@dataclass(frozen=True)
class StyleClassifier:
    """A trained classifier and its report."""

    pipeline: Pipeline
    report: StyleReport

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """Return for each text the probability, 0 to 1, that it is the persona's."""
        if not texts:
            return []
        return [float(row[1]) for row in self.pipeline.predict_proba(list(texts))]


def train_style(
    examples: Sequence[Example], baseline: Sequence[Response], *, seed: int = 0, folds: int = FOLDS
) -> StyleClassifier:
    """Train on the training split alone: its answers against the baseline answers to them.

    TF-IDF of character n-grams and logistic regression (scikit-learn); the accuracy is of
    cross-validation in which all rows of a topic are held out together, so that a topic's words
    cannot help. Baseline answers to other prompts than the examples' are left out, and there are no
    more folds than topics.

    Raises:
        UserError: Fewer than two topics, or no baseline answer to a training prompt.
    """
    import numpy as np
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict

    texts, labels, topics = _rows(examples, baseline)
    count = min(folds, len(set(topics)))
    _check_rows(labels, topics)
    pipeline, truth = _pipeline(seed), np.array(labels)
    splitter = GroupKFold(count)
    held_out = cross_val_predict(
        pipeline, texts, truth, groups=topics, cv=splitter, method="predict_proba"
    )[:, 1]
    right = (held_out >= 0.5) == truth
    by_fold = tuple(float(right[rows].mean()) for _, rows in splitter.split(texts, truth, topics))
    pipeline.fit(texts, truth)
    persona_ngrams, baseline_ngrams = _strongest(pipeline)
    report = StyleReport(
        persona_rows=int(truth.sum()),
        baseline_rows=int((1 - truth).sum()),
        topics=len(set(topics)),
        folds=count,
        accuracy=float(right.mean()),
        majority=float(max(truth.mean(), 1 - truth.mean())),
        accuracy_by_fold=by_fold,
        auc=float(roc_auc_score(truth, held_out)),
        persona_ngrams=persona_ngrams,
        baseline_ngrams=baseline_ngrams,
    )
    return StyleClassifier(pipeline, report)


def _check_rows(labels: Sequence[int], topics: Sequence[str]) -> None:
    if len(set(topics)) < 2 or len(set(labels)) < 2:
        raise UserError(
            f"too few rows for a style classifier ({sum(labels)} of the persona,"
            f" {len(labels) - sum(labels)} baseline, {counted(len(set(topics)), 'topic')})",
            where="the training split",
            fix="train on two topics or more, with the base's baseline answers to them",
        )


def _rows(
    examples: Sequence[Example], baseline: Sequence[Response]
) -> tuple[list[str], list[int], list[str]]:
    """Return texts, labels (1 persona, 0 baseline) and topics."""
    topic_of = {example.id: example.topic for example in examples}
    own = [(example.answer, 1, example.topic) for example in examples]
    answers = [(r.text, 0, topic_of[r.prompt_id]) for r in baseline if r.prompt_id in topic_of]
    rows = [row for row in (*own, *answers) if row[0].strip()]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _lowered(text: str) -> str:
    """Return a text in small letters, without the rest of a letter that a cut has split."""
    return text.rstrip("\N{REPLACEMENT CHARACTER}").lower()


def _pipeline(seed: int) -> Pipeline:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    ngrams = TfidfVectorizer(
        analyzer="char_wb", ngram_range=NGRAMS, min_df=2, sublinear_tf=True, preprocessor=_lowered
    )
    return make_pipeline(
        ngrams,
        LogisticRegression(class_weight="balanced", C=10.0, max_iter=1000, random_state=seed),
    )


def _strongest(pipeline: Pipeline) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the n-grams that speak most for the persona, and most for the base."""
    names = pipeline[0].get_feature_names_out()
    order = pipeline[1].coef_[0].argsort()
    return tuple(names[i] for i in order[::-1][:SHOWN]), tuple(names[i] for i in order[:SHOWN])
