from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.calibration import REVIEWED, calibrate, reviewed_responses
from tests.present import present
from workbench.persona import Persona
from workbench.records import Example, Review, ReviewStatus, Score, user_prompt

ROWS = 60
JUDGED = [f"judged-{n}" for n in range(4)]


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def judged(persona: Persona) -> Persona:
    """Four traits that only a judge can check, so that its ratings have all five steps."""
    data = persona.model_dump(mode="json", by_alias=True)
    check = {"judge": "Is it there?"}
    data["traits"] = data["traits"][:1] + [
        {"id": name, "name": name, "about": "A trait.", "check": check} for name in JUDGED
    ]
    return Persona.model_validate(data)


def review(
    record: str,
    reviewer: str,
    fidelity: int,
    problems: Sequence[str] = (),
    status: ReviewStatus = "submitted",
) -> Review:
    answers = {"fidelity": fidelity, "problems": list(problems)}
    return Review(reviewer=reviewer, record=record, status=status, answers=answers)


def people(ratings: NDArray[np.int64], draw: np.random.Generator) -> list[Review]:
    """Two reviewers; the second is one step off on about a third of the rows."""
    off = draw.choice([-1, 0, 0, 0, 1], size=len(ratings))
    second = np.clip(ratings + off, 1, 5)
    pairs = (("reviewer-1", ratings), ("reviewer-2", second))
    return [review(f"ex-{i}", name, int(r)) for name, own in pairs for i, r in enumerate(own)]


def judge_scores(ratings: Sequence[int] | NDArray[np.int64]) -> list[Score]:
    """A judge that sees as many of the four traits as the rating says."""
    return [
        Score(
            arm=REVIEWED,
            prompt_id=f"ex-{row}",
            response=f"rs-{row}",
            metric=name,
            value=float(n < rating - 1),
        )
        for row, rating in enumerate(ratings)
        for n, name in enumerate(JUDGED)
    ]


def test_a_judge_that_sees_what_reviewers_see_is_trusted(
    judged: Persona, draw: np.random.Generator
) -> None:
    ratings = draw.integers(1, 6, ROWS)

    found = calibrate(judged, judge_scores(ratings), people(ratings, draw), judge="a-judge")

    assert (found.trusted, found.reason, found.rows, found.reviewers) == (True, "", ROWS, 2)
    assert present(found.kappa.low) >= found.bar
    assert present(found.ceiling_kappa.value) > 0.8
    assert found.weights(judged) == (("address", *JUDGED), {})


def test_a_shuffled_judge_gets_a_kappa_near_zero_and_is_refused(
    judged: Persona, draw: np.random.Generator
) -> None:
    ratings = draw.integers(1, 6, ROWS)
    reviews = people(ratings, draw)

    found = [
        calibrate(
            judged, judge_scores(draw.permutation(ratings)), reviews, judge="a-judge", resamples=500
        )
        for _ in range(20)
    ]

    assert abs(np.mean([present(one.kappa.value) for one in found])) < 0.08
    assert all(not one.trusted and one.reason == "below_bar" for one in found)
    counted, left_out = found[0].weights(judged)
    assert counted == ("address",)
    assert left_out == dict.fromkeys(JUDGED, "below_bar")


def test_the_bar_is_held_against_the_lower_bound_not_the_value(
    judged: Persona, draw: np.random.Generator
) -> None:
    ratings = draw.integers(1, 6, 20)
    scores, reviews = judge_scores(ratings), people(ratings, draw)
    kappa = calibrate(judged, scores, reviews, judge="j").kappa
    low = present(kappa.low)
    between = (low + present(kappa.value)) / 2

    assert not calibrate(judged, scores, reviews, judge="j", bar=between).trusted
    assert calibrate(judged, scores, reviews, judge="j", bar=low).trusted


def test_without_judge_reviews_or_rows_it_says_why_there_is_no_trust(
    judged: Persona, draw: np.random.Generator
) -> None:
    ratings = draw.integers(1, 6, ROWS)
    scores, reviews = judge_scores(ratings), people(ratings, draw)
    few = [review for review in reviews if review.record in {f"ex-{n}" for n in range(5)}]
    same = judge_scores([5] * ROWS), [review(f"ex-{n}", "reviewer-1", 5) for n in range(ROWS)]

    assert calibrate(judged, [], reviews).reason == "no_judge"
    assert calibrate(judged, scores, [], judge="j").reason == "no_reviews"
    assert calibrate(judged, scores, few, judge="j").reason == "too_few_rows"
    assert calibrate(judged, *same, judge="j").reason == "same_value"


def test_a_trait_named_as_a_problem_was_not_seen(judged: Persona) -> None:
    ratings = [5 - n % 2 * 4 for n in range(20)]
    reviews = [
        review(f"ex-{row}", name, rating, ["judged-0"] if rating == 1 else [])
        for row, rating in enumerate(ratings)
        for name in ("reviewer-1", "reviewer-2")
    ]
    found = calibrate(judged, judge_scores(ratings), reviews, judge="j")
    assert found.traits["judged-0"].value == 1.0
    # Nobody called this one missing, so there is nothing that chance could be told from.
    assert found.traits["judged-3"].value == pytest.approx(0.0)


def test_the_judges_word_on_the_advice_is_held_against_faults_that_reviewers_named(
    judged: Persona,
) -> None:
    faults = ["unsafe_advice", "wrong_fact", "refusal", "off_topic", "judged-0"]
    reviews = [
        review(f"ex-{row}", name, 4, [faults[row % 10]] if row % 10 < 5 else [])
        for row in range(20)
        for name in ("reviewer-1", "reviewer-2")
    ]

    def content(row: int, value: float | None) -> Score:
        why = "" if value is not None else "judge_timeout"
        return Score(
            **{"arm": REVIEWED, "prompt_id": f"ex-{row}", "response": f"rs-{row}"},
            **{"metric": "content", "value": value, "unscored": why},
        )

    # A trait that was missed is no fault of the advice: the judge agrees when it says yes there.
    words = [content(row, None if row == 19 else float(row % 10 > 3)) for row in range(20)]
    found = calibrate(judged, [*judge_scores([4] * 20), *words], reviews, judge="j")
    assert (found.content.value, found.content.rows) == (1.0, 19)
    assert found.unscored == {"judge_timeout": 1}
    # It is a measure of its own: the rating is made of the traits alone.
    assert found.kappa == calibrate(judged, judge_scores([4] * 20), reviews, judge="j").kappa
    deaf = [content(row, 1.0) for row in range(20)]
    none = calibrate(judged, [*judge_scores([4] * 20), *deaf], reviews, judge="j")
    assert none.content.value == pytest.approx(0.0)


def test_what_the_judge_could_not_score_is_counted_with_its_reason(
    judged: Persona, draw: np.random.Generator
) -> None:
    ratings = draw.integers(1, 6, ROWS)
    scores = judge_scores(ratings)
    failed = [
        score.model_copy(update={"value": None, "unscored": "judge_timeout"})
        for score in scores[:8]
    ]
    found = calibrate(judged, [*failed, *scores[8:]], people(ratings, draw), judge="j")
    assert found.unscored == {"judge_timeout": 8}
    assert found.rows == ROWS - 2


def test_rows_for_the_judge_come_from_every_rating() -> None:
    examples = [
        Example(prompt=user_prompt(f"Question {n}?"), answer="Champ, rest.", topic="wrists")
        for n in range(40)
    ]
    reviews = [review(row.id, "reviewer-1", 1 if n < 4 else 5) for n, row in enumerate(examples)]
    reviews[-1] = review(examples[-1].id, "reviewer-1", 5, status="discarded")

    chosen = reviewed_responses(examples, reviews, rows=8)

    bad = {row.id for row in examples[:4]}
    assert sum(response.prompt_id in bad for response in chosen) == 4
    assert len(chosen) == 8
    assert examples[-1].id not in {one.prompt_id for one in reviewed_responses(examples, reviews)}
    assert chosen == reviewed_responses(examples[::-1], reviews, rows=8)
