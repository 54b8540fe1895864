"""The judge's gate, trait by trait: whom it lets through, whom not, and how sure it can be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.calibration import (
    REVIEWED,
    Calibration,
    calibrate,
    judge_traits,
    reviewed_responses,
)
from tests.present import present
from workbench.inference.judge import meaning_of
from workbench.persona import Persona
from workbench.records import Example, Review, ReviewStatus, Score, user_prompt

ROWS = 60
Labels = NDArray[np.bool_]


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def judged(persona: Persona) -> Persona:
    """Two traits that only a judge can check, and a rule that names its meaning."""
    data = persona.model_dump(mode="json", by_alias=True)
    rule = {**data["traits"][0], "check": data["traits"][0]["check"] | {"judge": "Meant so?"}}
    data["traits"] = [rule] + [
        {"id": name, "name": name, "about": "A trait.", "check": {"judge": "Is it there?"}}
        for name in ("kind", "tough")
    ]
    return Persona.model_validate(data)


def review(
    row: int, reviewer: str, problems: Iterable[str] = (), status: ReviewStatus = "submitted"
) -> Review:
    answers = {"fidelity": 4, "problems": list(problems)}
    return Review(reviewer=reviewer, record=f"ex-{row}", status=status, answers=answers)


def noisy(labels: Labels, kappa: float, draw: np.random.Generator) -> Labels:
    """Another's word on the same rows, of a true kappa: the same, or as it falls."""
    same = draw.random(len(labels)) < kappa
    return np.where(same, labels, draw.random(len(labels)) < labels.mean())


def people(labels: Mapping[str, Sequence[Labels]]) -> list[Review]:
    """Reviewers who name a trait as a problem where they did not see it."""
    team, rows = len(next(iter(labels.values()))), len(next(iter(labels.values()))[0])
    return [
        review(row, f"r-{who}", [trait for trait, own in labels.items() if not own[who][row]])
        for who in range(team)
        for row in range(rows)
    ]


def words(labels: dict[str, Labels]) -> list[Score]:
    return [
        Score(
            arm=REVIEWED,
            prompt_id=f"ex-{row}",
            response=f"rs-{row}",
            metric=trait,
            value=float(shown),
        )
        for trait, own in labels.items()
        for row, shown in enumerate(own)
    ]


def calibrated(
    persona: Persona,
    draw: np.random.Generator,
    *,
    judge: float,
    team: float = 0.8,
    rows: int = ROWS,
    share: float = 0.6,
) -> Calibration:
    """On ``kind`` any two of reviewers and judge agree by their kappas; ``tough`` is shuffled."""
    kind, tough = (draw.random(rows) < share for _ in range(2))
    # Two who hear the truth each with κ √k agree with each other with κ k.
    labels = {
        name: [noisy(own, team**0.5, draw) for _ in range(2)]
        for name, own in {"kind": kind, "tough": tough}.items()
    }
    own = {"kind": noisy(kind, judge / team**0.5, draw), "tough": draw.permutation(tough)}
    return calibrate(persona, words(own), people(labels), judge="j", resamples=1000)


def test_a_judge_that_agrees_on_one_trait_counts_on_that_trait_alone(
    judged: Persona, draw: np.random.Generator
) -> None:
    """Of a rating of 1 to 5 such a judge got half a kappa, and was refused altogether."""
    result = calibrated(judged, draw, judge=0.8)

    kind, tough = result.traits["kind"], result.traits["tough"]
    assert (result.trusted, result.rows, result.reviewers) == (("kind",), ROWS, 2)
    assert present(kind.kappa.low) > kind.bar
    assert (tough.reason, tough.trusted) == ("below_bar", False)
    assert result.weights(judged) == (("address", "kind"), {"tough": "below_bar"})


def test_the_bar_follows_what_reviewers_reach_among_themselves(
    judged: Persona, draw: np.random.Generator
) -> None:
    alike, apart = (calibrated(judged, draw, judge=0.5, team=team) for team in (0.95, 0.5))
    for result in (alike, apart):
        gate = result.traits["kind"]
        assert gate.bar == pytest.approx(result.share * present(gate.ceiling.value))
    assert alike.traits["kind"].bar > apart.traits["kind"].bar + 0.1


def test_where_reviewers_differ_like_chance_no_judge_can_be_told_good(judged: Persona) -> None:
    kind = np.arange(ROWS) % 2 == 0
    team = [kind, np.arange(ROWS) // 2 % 2 == 0]
    result = calibrate(judged, words({"kind": kind}), people({"kind": team}), judge="j")
    assert result.traits["kind"].reason == "low_ceiling"
    assert result.trusted == ()


def test_one_reviewer_a_row_leaves_the_ceiling_open_and_the_bar_fixed(
    judged: Persona, draw: np.random.Generator
) -> None:
    kind = draw.random(ROWS) < 0.6
    result = calibrate(judged, words({"kind": kind}), people({"kind": [kind]}), judge="j")
    gate = result.traits["kind"]
    assert gate.ceiling.unscored == "too_few_rows"
    assert gate.bar == pytest.approx(0.4)
    assert (gate.kappa.value, gate.trusted) == (1.0, True)


def test_a_shuffled_judge_gets_a_kappa_near_zero_and_is_refused(
    judged: Persona, draw: np.random.Generator
) -> None:
    gates = [calibrated(judged, draw, judge=0.0).traits["kind"] for _ in range(20)]
    assert abs(np.mean([present(one.kappa.value) for one in gates])) < 0.08
    assert not any(one.trusted for one in gates)


def test_what_the_gate_says_of_its_power_is_what_happens(
    judged: Persona, draw: np.random.Generator
) -> None:
    """A judge as good as one more reviewer, again and again."""
    results = [
        calibrated(judged, draw, judge=0.7, team=0.7, rows=40).traits["kind"] for _ in range(60)
    ]
    passed = np.mean([one.trusted for one in results])
    told = np.mean([present(one.power) for one in results])
    # Two reviewers a row say a little more than the one that is simulated.
    assert told - 0.1 <= passed <= told + 0.25
    assert 0.6 < told < 0.95


def test_rows_that_are_missing_are_counted(judged: Persona, draw: np.random.Generator) -> None:
    few, many = (calibrated(judged, draw, judge=0.6, team=0.6, rows=n) for n in (16, 150))
    gate = few.traits["kind"]
    assert present(gate.power) < 0.8
    assert gate.missing == present(gate.rows_needed) - 16
    assert present(gate.missing) > 0
    assert many.traits["kind"].missing == 0


def test_without_judge_reviews_or_rows_it_says_why_nothing_counts(
    judged: Persona, draw: np.random.Generator
) -> None:
    kind = draw.random(ROWS) < 0.6
    scores, reviews = words({"kind": kind}), people({"kind": [kind, kind]})
    none = words({"kind": np.ones(ROWS, dtype=bool)}), people({"kind": [np.ones(ROWS, dtype=bool)]})

    assert calibrate(judged, [], reviews).reason == "no_judge"
    assert calibrate(judged, scores, [], judge="j").reason == "no_reviews"
    few = calibrate(judged, scores[:5], reviews, judge="j")
    assert few.traits["kind"].reason == "too_few_rows"
    assert calibrate(judged, *none, judge="j").traits["kind"].reason == "same_value"
    left_out = calibrate(judged, [], reviews).weights(judged)[1]
    assert left_out == dict.fromkeys(judge_traits(judged), "no_judge")


def test_a_problem_of_the_better_answer_is_no_word_on_the_other(judged: Persona) -> None:
    chosen = review(0, "r-0", ["kind"])
    other = chosen.evolve(answers={**chosen.answers, "better": "alternative"})
    own = chosen.evolve(answers={**chosen.answers, "better": "candidate"})
    assert chosen.problems == own.problems == frozenset({"kind"})
    assert other.problems is None
    assert review(0, "r-0", status="discarded").problems is None


def test_the_judges_word_on_the_advice_is_held_against_faults_that_reviewers_named(
    judged: Persona,
) -> None:
    faults = ["unsafe_advice", "wrong_fact", "refusal", "off_topic", "kind"]
    reviews = [
        review(row, name, [faults[row % 10]] if row % 10 < 5 else [])
        for row in range(20)
        for name in ("r-0", "r-1")
    ]

    # A trait that was missed is no fault of the advice: the judge agrees when it says yes there.
    own = words({"content": np.array([row % 10 > 3 for row in range(20)])})
    own[-1] = own[-1].model_copy(update={"value": None, "unscored": "judge_timeout"})
    result = calibrate(judged, own, reviews, judge="j")
    content = present(result.content)
    assert (content.kappa.value, content.kappa.rows, content.trusted) == (1.0, 19, True)
    assert result.unscored == {"judge_timeout": 1}
    assert "content" not in result.trusted
    deaf = calibrate(judged, words({"content": np.ones(20, dtype=bool)}), reviews, judge="j")
    assert present(deaf.content).kappa.value == pytest.approx(0.0)


def test_a_rules_mark_stands_beside_what_it_means(
    judged: Persona, draw: np.random.Generator
) -> None:
    """The rule and the judge on the arms' answers: two arms answer each question."""
    mark = draw.random(80) < 0.5

    def scores(metric: str, values: Labels) -> list[Score]:
        return [
            Score(
                arm=f"arm-{n % 2}",
                prompt_id=f"ex-{n // 2}",
                response=f"rs-{n}",
                metric=metric,
                value=float(value),
            )
            for n, value in enumerate(values)
        ]

    def kappa(meant: Labels) -> float:
        arms = [*scores("address", mark), *scores(meaning_of("address"), meant)]
        result = calibrate(judged, [], [review(0, "r-0")], judge="j", arms=arms, resamples=500)
        assert result.meanings["address"].rows == 40
        return present(result.meanings["address"].value)

    assert kappa(mark) == 1.0
    assert abs(kappa(draw.random(80) < 0.5)) < 0.25
    assert calibrate(judged, [], [review(0, "r-0")], judge="j").meanings == {}


def test_answers_for_the_judge_are_good_and_bad_ones_and_those_of_arms_are_counted(
    judged: Persona,
) -> None:
    examples = [
        Example(prompt=user_prompt(f"Question {n}?"), answer="Champ, rest.", topic="wrists")
        for n in range(40)
    ]
    reviews = [
        Review(reviewer="r-0", record=row.id, answers={"problems": ["kind"] if n < 4 else []})
        for n, row in enumerate(examples)
    ]
    reviews[-1] = reviews[-1].evolve(status="discarded")

    chosen = reviewed_responses(examples, reviews, rows=8)

    bad = {row.id for row in examples[:4]}
    assert sum(response.prompt_id in bad for response in chosen) == 4
    assert len(chosen) == 8
    assert examples[-1].id not in {one.prompt_id for one in reviewed_responses(examples, reviews)}
    assert chosen == reviewed_responses(examples[::-1], reviews, rows=8)
    scores = [
        Score(arm=REVIEWED, prompt_id=one.prompt_id, response=one.id, metric="kind", value=1.0)
        for one in chosen
    ]
    result = calibrate(judged, scores, reviews, judge="j", of_arms={examples[0].id, "ex-other"})
    assert (result.rows, result.arm_rows) == (8, 1)
