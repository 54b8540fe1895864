"""Self-tests of the statistics that could fail: reruns of an evaluation with known truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.present import present
from workbench.stats.bootstrap import TIE
from workbench.stats.comparison import differences_of
from workbench.stats.significance import (
    detectable,
    needed,
    power_of,
    sign_flip_test,
    sign_test,
)

Array = NDArray[np.float64]
RERUNS = 1000
TRAITS = 9


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(20)


def fidelity(draw: np.random.Generator, chances: Array, gain: float = 0.0) -> Array:
    """One arm's fidelity on each prompt: the share of its traits that happened to show."""
    shares: Array = (draw.random((len(chances), TRAITS)) < chances + gain).mean(axis=1)
    return shares


@pytest.mark.parametrize("prompts", [12, 36, 100])
def test_an_arm_against_itself_is_called_different_in_at_most_seven_percent(
    draw: np.random.Generator, prompts: int
) -> None:
    """Noise is drawn anew in every rerun; what is true stays: the arms are the same."""
    chances = draw.beta(2, 2, (prompts, TRAITS))
    samples = [fidelity(draw, chances) - fidelity(draw, chances) for _ in range(RERUNS)]

    found = [present(one) for one in differences_of(samples, resamples=2000)]

    holds = np.mean([present(one.low) <= 0 <= present(one.high) for one in found])
    assert holds >= 0.93
    assert holds <= 0.985  # an interval that always holds zero would say nothing either
    assert np.mean([one.excludes_zero for one in found]) <= 0.07
    assert np.mean([one.p is not None and one.p < 0.05 for one in found]) <= 0.07


@pytest.mark.parametrize("prompts", [20, 60])
def test_a_planted_effect_of_the_stated_minimum_size_is_found_with_the_stated_power(
    draw: np.random.Generator, prompts: int
) -> None:
    chances = draw.uniform(0.2, 0.6, (prompts, TRAITS))
    noise = float(np.std([fidelity(draw, chances) - fidelity(draw, chances) for _ in range(200)]))
    least = present(detectable(noise, prompts))

    samples = [fidelity(draw, chances, least) - fidelity(draw, chances) for _ in range(RERUNS)]
    found = np.mean([present(one).excludes_zero for one in differences_of(samples, resamples=2000)])

    assert found == pytest.approx(0.8, abs=0.05)


def test_half_of_the_effect_needs_about_four_times_the_prompts() -> None:
    least = present(detectable(0.2, 36))
    more = needed(least / 2, 0.2)

    assert power_of(least, 0.2, 36) == pytest.approx(0.8, abs=1e-6)
    assert 3.7 < more / 36 < 4.1  # a little less than 4: more prompts also narrow Student's t
    assert power_of(least / 2, 0.2, more) >= 0.8 > power_of(least / 2, 0.2, more - 1)


def test_without_a_spread_nothing_is_said_of_what_could_be_detected() -> None:
    assert detectable(0.0, 36) is None
    assert detectable(None, 36) is None
    assert detectable(0.2, 1) is None


def test_a_flip_of_signs_finds_what_counting_wins_overlooks(draw: np.random.Generator) -> None:
    """36 prompts, a gain of a tenth: how far each moved says more than which way alone."""
    chances = draw.uniform(0.2, 0.6, (36, TRAITS))
    samples = [fidelity(draw, chances, 0.1) - fidelity(draw, chances) for _ in range(RERUNS)]

    counts = [(int((one > TIE).sum()), int((one < -TIE).sum())) for one in samples]
    by_sign = np.mean([present(sign_test(*one)) < 0.05 for one in counts])
    by_flip = np.mean([present(p) < 0.05 for p in sign_flip_test(samples, resamples=2000)])

    assert (by_sign, by_flip) == pytest.approx((0.55, 0.71), abs=0.05)


@pytest.mark.parametrize("prompts", [6, 12, 36])
def test_a_flip_of_signs_raises_no_more_false_alarms_than_it_says(
    draw: np.random.Generator, prompts: int
) -> None:
    """Heavy tails and ties, as fidelity of nine traits has them; the arms are the same."""
    chances = draw.beta(2, 2, (prompts, TRAITS))
    samples = [fidelity(draw, chances) - fidelity(draw, chances) for _ in range(RERUNS)]
    p_values = [p for p in sign_flip_test(samples, resamples=2000) if p is not None]
    assert np.mean(np.array(p_values) < 0.05) <= 0.065
