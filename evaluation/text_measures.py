"""Measures of a text's wording, without a judge: likeness to reviewed answers, and repetition.

In: texts. Out: numbers from 0 to 1. The scorers call all of it, the stage of evaluation the
diversity of each arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from workbench.parts import WORD
from workbench.records import Response
from workbench.values import Frozen


class Diversity(Frozen):
    """One arm's answers to different questions, taken together."""

    answers: int
    different: float
    """Share of the answers that no other one repeats word for word; 0 to 1."""
    distinct_1: float
    """Different words over all words (Li et al. 2016, "A diversity-promoting objective function
    for neural conversation models"). It falls as texts grow longer: compare like with like."""
    distinct_2: float
    """The same of pairs of neighbouring words."""
    self_similarity: float | None
    """Mean likeness of two answers, 0 to 1; None for fewer than two."""


def diversity(texts: Sequence[str]) -> Diversity:
    """Return the diversity of answers to different questions."""
    words = [WORD.findall(text.casefold()) for text in texts]
    flat = [word for answer in words for word in answer]
    pairs = [pair for answer in words for pair in pairwise(answer)]
    kinds = [" ".join(answer) for answer in words]
    own = [value for value in varieties(texts) if value is not None]
    return Diversity(
        answers=len(texts),
        different=sum(kinds.count(kind) == 1 for kind in kinds) / len(kinds) if kinds else 0.0,
        distinct_1=len(set(flat)) / len(flat) if flat else 0.0,
        distinct_2=len(set(pairs)) / len(pairs) if pairs else 0.0,
        self_similarity=1 - sum(own) / len(own) if own else None,
    )


def diversity_by_arm(responses: Sequence[Response]) -> dict[str, Diversity]:
    """Return each arm's diversity over its answers to held-out questions, probes left out.

    Of answers drawn with several seeds the first seed's count: others answer the same questions.
    """
    arms: dict[str, dict[str, str]] = {}
    for response in responses:
        if not response.probe:
            arms.setdefault(response.arm, {}).setdefault(response.prompt_id, response.text)
    return {arm: diversity(list(texts.values())) for arm, texts in arms.items()}


def varieties(texts: Sequence[str]) -> list[float | None]:
    """Return for each text 1 less its mean likeness to the others; None for an only one.

    Likeness is rapidfuzz's ``ratio`` over 100: the share of characters that stay when one text is
    turned into the other by insertions and deletions, 1.0 for the same text.
    """
    from rapidfuzz.fuzz import ratio
    from rapidfuzz.process import cdist

    if len(texts) < 2:
        return [None] * len(texts)
    likeness = cdist(texts, texts, scorer=ratio, dtype="float64") / 100
    totals = likeness.sum(axis=1) - likeness.diagonal()
    return [float(1 - total / (len(texts) - 1)) for total in totals]


def chrf(answer: str, reference: str) -> float:
    """Return chrF, 0 to 1: F2 of shared character n-grams (Popović 2015; library: sacrebleu).

    It needs no words to be cut, so it serves Korean and English alike; it knows no meaning, and
    two answers in one voice share n-grams whatever they advise.
    """
    from sacrebleu.metrics import CHRF

    return float(CHRF().sentence_score(answer, [reference]).score) / 100
