import math

import numpy as np
import pytest

from evaluation.statistics import compare, paired_difference
from workbench.errors import UserError
from workbench.records import Score


def score(arm: str, prompt: int, value: float | None, metric: str = "fidelity", why: str = ""):
    return Score(
        arm=arm,
        prompt_id=f"ex-{prompt}",
        response=f"rs-{arm}-{prompt}",
        metric=metric,
        value=value,
        unscored=why,
    )


def test_a_known_difference_is_found_with_its_interval():
    values = np.random.default_rng(1).normal(0.5, 0.2, 400)
    scores = [score("base", i, 0.2) for i in range(400)]
    scores += [score("sft", i, 0.2 + v) for i, v in enumerate(values)]

    found = compare(scores, seed=3).cell("sft", "fidelity").difference

    assert found.mean == pytest.approx(values.mean())
    # 95 % interval of a mean: ±1.96 standard errors, the standard error is 0.2 / 20.
    assert found.low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.002)
    assert found.high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.002)
    assert (found.pairs, found.method, found.excludes_zero) == (400, "bca", True)


def test_an_arm_like_the_base_gets_an_interval_that_holds_zero():
    noise = np.random.default_rng(2).normal(0, 0.3, 60)
    scores = [score("base", i, 0.5) for i in range(60)]
    scores += [score("same", i, 0.5) for i in range(60)]
    scores += [score("noisy", i, 0.5 + v - noise.mean()) for i, v in enumerate(noise)]

    comparison = compare(scores)
    same = comparison.cell("same", "fidelity").difference
    noisy = comparison.cell("noisy", "fidelity").difference

    assert (same.mean, same.low, same.high, same.method) == (0.0, 0.0, 0.0, "percentile")
    assert not same.excludes_zero
    assert noisy.low < 0 < noisy.high
    assert not noisy.excludes_zero


def test_an_interval_covers_the_true_difference_about_as_often_as_it_says():
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        pairs = [(float(v), 0.0) for v in draw.normal(0.0, 1.0, 25)]
        found = paired_difference(pairs, seed=0, resamples=500)
        covered += not found.excludes_zero
    assert 0.88 <= covered / 300 <= 0.985


def test_pairs_stay_together():
    """Prompts differ widely, the arm gains 0.1 on each: only pairing makes that visible."""
    hard = np.linspace(0, 1, 40)
    gains = np.where(np.arange(40) % 2, 0.08, 0.12)
    scores = [score("base", i, float(v)) for i, v in enumerate(hard)]
    shuffled = list(enumerate(hard + gains))[::-1]
    scores += [score("sft", i, float(v)) for i, v in shuffled]

    found = compare(scores).cell("sft", "fidelity").difference

    assert found.mean == pytest.approx(0.1)
    assert 0.09 < found.low < 0.1 < found.high < 0.11


def test_unscored_is_counted_with_its_reason_and_never_averaged():
    scores = [score("base", i, 0.5) for i in range(4)]
    scores += [score("sft", 0, 1.0), score("sft", 1, 0.8)]
    scores += [score("sft", 2, None, why="judge_timeout"), score("sft", 3, None, why="no_judge")]

    cell = compare(scores).cell("sft", "fidelity")

    assert cell.mean == pytest.approx(0.9)
    assert (cell.scored, cell.unscored) == (2, 2)
    assert cell.reasons == {"judge_timeout": 1, "no_judge": 1}
    assert cell.difference.pairs == 2
    assert cell.difference.mean == pytest.approx(0.4)


def test_a_metric_that_no_arm_was_scored_on_has_no_mean_and_no_difference():
    scores = [score(arm, i, None, "kind", "no_judge") for arm in ("base", "sft") for i in range(3)]
    cell = compare(scores).cell("sft", "kind")
    assert cell.mean is None
    assert cell.difference is None
    assert cell.unscored == 3


def test_one_pair_gives_a_difference_without_an_interval():
    found = paired_difference([(1.0, 0.25)])
    assert (found.mean, found.low, found.high, found.method) == (0.75, None, None, "none")
    assert not found.excludes_zero


def test_the_same_seed_gives_the_same_interval_and_another_a_near_one():
    draw = np.random.default_rng(7)
    pairs = [(float(a), float(b)) for a, b in draw.random((30, 2))]
    first, again, other = (paired_difference(pairs, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.low != other.low
    assert math.isclose(first.low, other.low, abs_tol=0.02)


def test_a_comparison_survives_json():
    scores = [score(arm, i, i / 4) for arm in ("base", "sft") for i in range(4)]
    comparison = compare(scores)
    assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison
    assert comparison.prompts == 4


def test_a_missing_base_and_a_doubled_score_are_told():
    with pytest.raises(UserError, match=r"no score of the arm 'base'.*there are: sft"):
        compare([score("sft", 0, 1.0)])
    with pytest.raises(UserError, match="given twice for ex-0"):
        compare([score("base", 0, 1.0), score("base", 0, 1.0)])
