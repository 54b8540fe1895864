from __future__ import annotations

import json
import random

import krippendorff
import numpy as np
import pytest

from curation.review.agreement import agreement
from curation.review.reliability import against_gold, dawid_skene
from curation.review.votes import ballots
from workbench.config import Policy
from workbench.records import Example, Review, user_prompt
from workbench.stats.agreement import RATINGS, Level, RaterAgreement, alpha, alphas

# The 4 observers × 12 units of Krippendorff (2011), "Computing Krippendorff's
# Alpha-Reliability": nominal 0.743, ordinal 0.815.
OBSERVERS = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}


def rows(count: int, topics: int = 2) -> list[Example]:
    return [
        Example(prompt=user_prompt(f"Question {n}?"), answer="Answer.", topic=f"topic-{n % topics}")
        for n in range(count)
    ]


def say(row: Example, reviewer: str, fidelity: int, problems: tuple[str, ...] = ()) -> Review:
    answers = {"fidelity": fidelity, "problems": list(problems), "corrected": "", "note": ""}
    return Review(reviewer=reviewer, record=row.id, answers=answers)


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743), ("ordinal", 0.815)])
def test_alpha_equals_the_published_example(level: str, value: float) -> None:
    cells = [
        (unit, observer, rating)
        for observer, ratings in OBSERVERS.items()
        for unit, rating in enumerate(ratings)
        if rating is not None
    ]
    found = alpha(cells, level, RATINGS)  # type: ignore[arg-type]
    assert found.value == pytest.approx(value, abs=0.0005)
    assert found.rows == 11  # the twelfth unit has one observer
    assert found.low is not None and found.high is not None
    assert found.low < value < found.high


def test_same_seed_same_interval() -> None:
    rng = random.Random(1)
    cells = [(n, who, rng.choice(RATINGS)) for n in range(40) for who in "ab"]
    assert alpha(cells, "ordinal", RATINGS, seed=3) == alpha(cells, "ordinal", RATINGS, seed=3)
    assert alpha(cells, "ordinal", RATINGS, seed=3) != alpha(cells, "ordinal", RATINGS, seed=4)


def test_interval_covers_chance_for_random_votes() -> None:
    rng = random.Random(0)
    cells = [(n, who, rng.choice(RATINGS)) for n in range(200) for who in "ab"]
    found = alpha(cells, "ordinal", RATINGS)
    assert found.low is not None and found.high is not None
    assert found.low < 0 < found.high


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([(1, "a", 5), (2, "a", 4)], "too_few_rows"),
        ([(n, who, 5) for n in range(9) for who in "ab"], "same_value"),
    ],
)
def test_what_cannot_be_computed_is_unscored_with_the_reason(
    cells: list[tuple[int, str, int]], reason: str
) -> None:
    found = alpha(cells, "ordinal", RATINGS)
    assert (found.value, found.low, found.unscored) == (None, None, reason)


def test_value_without_an_interval_says_why() -> None:
    # Two records: half of the resamples hold one of them twice, and then everyone agrees.
    cells = [(n, who, int(n == 0)) for n in range(2) for who in "ab"]
    found = alpha(cells, "nominal", resamples=200)
    assert (found.value, found.low) == (1.0, None)
    assert found.unscored == "too few differing values for an interval"


@pytest.mark.parametrize("level", ["nominal", "ordinal"])
def test_resamples_at_once_are_what_the_library_says_of_each(level: Level) -> None:
    rng = np.random.default_rng(5)
    table = np.array(
        [np.bincount(rng.integers(0, 5, rng.integers(2, 5)), minlength=5) for _ in range(30)]
    ).astype(float)
    draws = rng.integers(0, 30, size=(40, 30))
    times = np.array([np.bincount(rows, minlength=30) for rows in draws])
    expected = [
        krippendorff.alpha(
            value_counts=table[rows], value_domain=list(range(5)), level_of_measurement=level
        )
        for rows in draws
    ]
    assert alphas(table, times, level) == pytest.approx(np.array(expected), abs=1e-12)
    one_value = alphas(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([[2, 0], [1, 1]]), level)
    assert np.isnan(one_value[0]) and np.isfinite(one_value[1])


def test_rows_needed_grow_with_the_square_of_precision() -> None:
    wide = RaterAgreement(value=0.5, low=0.3, high=0.7, rows=100)
    assert wide.rows_needed(0.2) == 400
    assert wide.rows_needed(0.4) == 100
    assert wide.rows_needed(0.8) == 100
    assert RaterAgreement(unscored="too_few_rows").rows_needed(0.2) is None


def test_agreement_per_question_topic_pair_and_reviewer() -> None:
    examples = rows(30)
    reviews = []
    for number, row in enumerate(examples):
        rating = 1 + number % 5
        bad = ("unsafe_advice",) if number % 3 == 0 else ()
        reviews += [say(row, "a", rating, bad), say(row, "b", rating, bad)]
        reviews.append(say(row, "c", 6 - rating, ()))
    found = agreement(
        examples, reviews, Policy(), problems=("unsafe_advice", "refusal"), resamples=200
    )
    assert (found.records, found.overlapping) == (30, 30)
    assert found.pairs["a / b"]["fidelity"].value == 1.0
    against = found.pairs["a / c"]["fidelity"].value
    assert against is not None and against < -0.5
    assert set(found.pairs["a / b"]) == {"fidelity", "decision"}
    problem = found.questions["problem:unsafe_advice"].value  # a and b name it, c never does
    assert problem is not None and 0 < problem < 1
    assert found.questions["problem:refusal"].unscored == "same_value"
    assert set(found.topics) == {"topic-0", "topic-1"}
    assert found.topics["topic-0"]["fidelity"].records == 15
    assert found.reviewers["a"].reviews == 30
    mine, theirs = found.reviewers["a"].consensus.value, found.reviewers["c"].consensus.value
    assert mine is not None and theirs is not None and mine > theirs
    assert json.loads(found.model_dump_json())["questions"]["fidelity"]["records"] == 30


def test_discarded_reviews_are_no_votes() -> None:
    (row,) = rows(1)
    gone = Review(reviewer="b", record=row.id, status="discarded", answers={"fidelity": 1})
    found = agreement([row], [say(row, "a", 5), gone], Policy())
    assert (found.records, found.overlapping) == (1, 0)


def test_gold_tells_the_reviewer_who_does_not_read() -> None:
    examples = rows(20)
    gold = {row.id: "keep" if n % 2 else "unsafe_advice" for n, row in enumerate(examples)}
    reviews = []
    for row in examples:
        bad = ("unsafe_advice",) if gold[row.id] == "unsafe_advice" else ()
        reviews += [say(row, "careful", 5, bad), say(row, "careless", 5)]
    scores = against_gold(ballots(reviews), Policy(), gold)
    assert [(s.reviewer, s.right, s.seen, s.share) for s in scores] == [
        ("careful", 20, 20, 1.0),
        ("careless", 10, 20, 0.5),
    ]
    trust = dawid_skene(ballots(reviews), Policy(), gold)
    assert trust.reviewers["careful"] == pytest.approx(1.0, abs=1e-6)
    assert trust.reviewers["careless"] == pytest.approx(0.5, abs=1e-6)


def test_dawid_skene_with_nothing_but_one_outcome_is_certain() -> None:
    examples = rows(3)
    trust = dawid_skene(ballots(say(row, who, 5) for row in examples for who in "ab"), Policy())
    assert trust.posteriors[examples[0].id] == {"keep": 1.0}
    assert trust.reviewers == {"a": 1.0, "b": 1.0}
