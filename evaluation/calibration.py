"""Is the judge any good: its scores beside reviewers' on the same rows, and what follows.

In: reviewed rows, their reviews, and the judge's scores of them. Out: a :class:`Calibration`, which
says what fidelity is made of. Called by the stage of evaluation.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from functools import partial
from hashlib import sha256
from statistics import median_low

from pydantic import Field

from evaluation.judge import CONTENT
from workbench.checks import Judge
from workbench.persona import Persona
from workbench.records import Example, Response, Review, Score
from workbench.stats.agreement import (
    FEWEST_ROWS,
    RaterAgreement,
    spearman,
    two_raters,
    weighted_kappa,
)
from workbench.stats.bootstrap import RESAMPLES
from workbench.values import Frozen

REVIEWED = "reviewed"
"""Name of the arm whose answers are the reviewed rows'."""
BAR = 0.4
"""Default of the least lower bound of kappa: Landis and Koch 1977 call 0.4 and up moderate."""
ROWS = 60
RATINGS = (1.0, 2.0, 3.0, 4.0, 5.0)
_YES_NO = (0.0, 1.0)
CONTENT_FAULTS = frozenset({"unsafe_advice", "wrong_fact", "refusal", "off_topic"})
"""General problems that are of the advice and not of the voice."""


class Calibration(Frozen):
    """How the judge stands to the reviewers: ``calibration.json``."""

    judge: str = ""
    """Model of the judge; empty where there is none."""
    bar: float = BAR
    rows: int = 0
    """Reviewed rows that the judge scored."""
    reviewers: int = 0
    kappa: RaterAgreement = RaterAgreement()
    """Weighted kappa of the judge's rating and the reviewers' median, 1 to 5."""
    spearman: RaterAgreement = RaterAgreement()
    ceiling_kappa: RaterAgreement = RaterAgreement()
    """The same of each reviewer with the median of the others: what people reach."""
    ceiling_spearman: RaterAgreement = RaterAgreement()
    traits: dict[str, RaterAgreement] = Field(default_factory=dict)
    """Trait → kappa of the judge's yes or no and the reviewers' majority."""
    content: RaterAgreement = RaterAgreement()
    """Kappa of the judge's word on the advice, and whether most reviewers found no fault in it."""
    unscored: dict[str, int] = Field(default_factory=dict)
    """Why the judge gave no score → how many."""
    trusted: bool = False
    """Whether the judge's scores carry weight in the headline."""
    reason: str = ""
    """Why they do not: no_judge, no_reviews, too_few_rows, same_value, too_few_differing or
    below_bar; empty where they do."""

    def weights(self, persona: Persona) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the traits that fidelity is made of, and trait → why it is left out.

        ``compare`` takes them as ``traits`` and ``left_out``.
        """
        judged = set(judge_traits(persona))
        counted = tuple(t.id for t in persona.traits if self.trusted or t.id not in judged)
        return counted, {} if self.trusted else dict.fromkeys(judge_traits(persona), self.reason)


def judge_traits(persona: Persona) -> list[str]:
    """Return the ids of the traits that only a judge can check."""
    return [trait.id for trait in persona.traits if isinstance(trait.check, Judge)]


def reviewed_responses(
    examples: Iterable[Example], reviews: Iterable[Review], *, rows: int = ROWS
) -> list[Response]:
    """Return reviewed rows as responses of the arm :data:`REVIEWED`, for the judge to score.

    Rows are taken in turn from the ratings, so that bad rows are among them where there are any;
    which ones depends on their ids alone, never on a judge. Rows without a rating are passed over.
    The judge must not have been shown one as an example.
    """
    ratings = _ratings(reviews)
    by_rating: dict[int, list[Example]] = defaultdict(list)
    for example in sorted(examples, key=lambda one: sha256(one.id.encode()).hexdigest()):
        if own := ratings.get(example.id):
            by_rating[median_low(own.values())].append(example)
    turns = [(turn, one) for group in by_rating.values() for turn, one in enumerate(group)]
    chosen = [one for _, one in sorted(turns, key=lambda pair: pair[0])][:rows]
    return [
        Response(
            arm=REVIEWED,
            prompt_id=one.id,
            prompt=one.prompt,
            text=one.answer,
            topic=one.topic,
            parents=(one.id,),
        )
        for one in chosen
    ]


def calibrate(
    persona: Persona,
    scores: Sequence[Score],
    reviews: Sequence[Review],
    *,
    judge: str = "",
    bar: float = BAR,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Calibration:
    """Compare the judge with the reviewers, and decide whether its scores carry weight.

    Its rating of a row is the share of its traits that it saw, on the reviewers' scale of 1 to 5.
    It is trusted where the lower end of kappa's interval is no less than ``bar``. ``scores`` are of
    what :func:`reviewed_responses` returned, whose ``prompt_id`` is the row's id.
    """
    names, ratings = judge_traits(persona), _ratings(reviews)
    own = [s for s in scores if s.arm == REVIEWED and s.metric in (*names, CONTENT)]
    judged = {row: values for row, values in _by_row(own, names).items() if row in ratings}
    pairs = [[(_rating(values), _median(ratings[row]))] for row, values in judged.items()]
    people = [_with_others(ratings[row]) for row in judged if len(ratings[row]) > 1]
    advice = _faultless(CONTENT, CONTENT_FAULTS, _by_row(own, [CONTENT]), reviews)
    agreement = partial(two_raters, seed=seed, resamples=resamples)
    kappa = agreement(pairs, weighted_kappa, RATINGS)
    reason = _reason(judge, ratings, kappa, bar)
    return Calibration(
        judge=judge,
        bar=bar,
        rows=len(judged),
        reviewers=len({name for row in judged for name in ratings[row]}),
        kappa=kappa,
        spearman=agreement(pairs, spearman, RATINGS),
        ceiling_kappa=agreement(people, weighted_kappa, RATINGS),
        ceiling_spearman=agreement(people, spearman, RATINGS),
        traits={
            name: agreement(_faultless(name, {name}, judged, reviews), weighted_kappa, _YES_NO)
            for name in (names if judged else ())
        },
        content=agreement(advice, weighted_kappa, _YES_NO),
        unscored=dict(Counter(s.unscored for s in own if s.value is None).most_common()),
        trusted=not reason,
        reason=reason,
    )


def _reason(
    judge: str, ratings: Mapping[str, Mapping[str, int]], kappa: RaterAgreement, bar: float
) -> str:
    if not judge:
        return "no_judge"
    if not ratings:
        return "no_reviews"
    if kappa.rows < FEWEST_ROWS or kappa.low is None:
        return kappa.unscored
    return "" if kappa.low >= bar else "below_bar"


def _ratings(reviews: Iterable[Review]) -> dict[str, dict[str, int]]:
    """Return record → reviewer → fidelity, 1 to 5, submitted ones only."""
    ratings: dict[str, dict[str, int]] = defaultdict(dict)
    for review in reviews:
        rating = review.answers.get("fidelity")
        if review.status == "submitted" and rating is not None:
            ratings[review.record][review.reviewer] = int(rating)
    return ratings


def _rating(values: Mapping[str, float]) -> float:
    """Return the mean of values of 0 to 1 as a rating of 1 to 5, halves rounded up."""
    return float(int(1 + 4 * sum(values.values()) / len(values) + 0.5))


def _median(ratings: Mapping[str, int]) -> float:
    return float(median_low(ratings.values()))


def _with_others(ratings: Mapping[str, int]) -> list[tuple[float, float]]:
    """Return each reviewer's rating beside the median of the others'."""
    return [
        (float(rating), _median({other: r for other, r in ratings.items() if other != name}))
        for name, rating in ratings.items()
    ]


def _by_row(scores: Sequence[Score], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return row → metric → the judge's score; rows without any are left out."""
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for score in scores:
        if score.metric in metrics and score.value is not None:
            rows[score.prompt_id][score.metric] = score.value
    return rows


def _faultless(
    metric: str,
    faults: Set[str],
    judged: Mapping[str, Mapping[str, float]],
    reviews: Iterable[Review],
) -> list[list[tuple[float, float]]]:
    """Return the judge's and the reviewers' word on one metric, 1 for good and 0 not, row by row.

    A reviewer who named one of ``faults`` among the problems did not find it good; half of them
    are enough.
    """
    faulty: dict[str, list[bool]] = defaultdict(list)
    for review in reviews:
        if review.status == "submitted" and review.record in judged:
            faulty[review.record].append(bool(faults & set(review.answers.get("problems") or ())))
    return [
        [(float(values[metric] >= 0.5), float(2 * sum(faulty[row]) < len(faulty[row])))]
        for row, values in judged.items()
        if metric in values and faulty[row]
    ]
