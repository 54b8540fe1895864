"""Self-tests of every kind of score and of the outcome: truth is planted, and has to come out.

An arm against itself finds nothing, labels that were shuffled between the arms find nothing, and an
effect of the least size that is said to be found is found as often as is said.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.outcome import ArmSense, MeanEstimate, SenseReport, outcome_of
from evaluation.scorers import SENSE
from tests.present import present
from workbench.persona import FIDELITY
from workbench.records import Score
from workbench.stats import compare
from workbench.stats.bootstrap import mean_intervals
from workbench.stats.comparison import differences_of
from workbench.stats.significance import detectable

Array = NDArray[np.float64]
PROMPTS, RERUNS = 36, 600


def fidelity(draw: np.random.Generator, gain: float) -> Array:
    """A mean of nine traits that show or not."""
    return draw.binomial(9, np.clip(0.4 + gain, 0, 1), PROMPTS) / 9


def sense(draw: np.random.Generator, gain: float, none: float = 1 / 6) -> Array:
    """Agreement around its mean; a guard makes one in six answers nothing at all."""
    values = draw.normal(0.15 + gain * 1.2, 0.2, PROMPTS)
    return np.where(draw.random(PROMPTS) < none, 0.0, values)


def share(draw: np.random.Generator, gain: float) -> Array:
    """Such as echo, copy and on_question: a share with a long tail."""
    return np.clip(draw.beta(2, 5, PROMPTS) + gain, 0, 1)


def passed(draw: np.random.Generator, gain: float) -> Array:
    """Yes or no, such as fluent, language, safe, disclosure and instructions followed."""
    return (draw.random(PROMPTS) < 0.5 + gain).astype(np.float64)


Draw = Callable[[np.random.Generator, float], Array]
KINDS = pytest.mark.parametrize("kind", [fidelity, sense, share, passed])


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(31)


@KINDS
def test_an_arm_against_itself_finds_nothing(kind: Draw, draw: np.random.Generator) -> None:
    samples = [kind(draw, 0.0) - kind(draw, 0.0) for _ in range(RERUNS)]
    found = [present(one) for one in differences_of(samples, resamples=1000)]
    assert np.mean([one.excludes_zero for one in found]) <= 0.07
    assert np.mean([present(one.p) < 0.05 for one in found]) <= 0.07
    same = present(differences_of([np.zeros(PROMPTS)])[0])
    assert (same.mean, same.p, same.excludes_zero) == (0.0, None, False)


@KINDS
def test_labels_shuffled_between_the_arms_find_nothing(
    kind: Draw, draw: np.random.Generator
) -> None:
    """There is an effect, but nobody knows any more whose answer is whose."""
    samples = []
    for _ in range(RERUNS):
        swapped = draw.random(PROMPTS) < 0.5
        difference = kind(draw, 0.2) - kind(draw, 0.0)
        samples.append(np.where(swapped, -difference, difference))
    found = [present(one) for one in differences_of(samples, resamples=1000)]
    assert np.mean([one.excludes_zero for one in found]) <= 0.07
    assert np.mean([present(one.p) < 0.05 for one in found]) <= 0.07


@KINDS
def test_a_planted_effect_of_the_least_size_is_found_with_the_stated_power(
    kind: Draw, draw: np.random.Generator
) -> None:
    noise = np.std([kind(draw, 0.0) - kind(draw, 0.0) for _ in range(200)])
    least = present(detectable(float(noise), PROMPTS))
    # A guard takes a sixth of the answers: 1.2 times as much in the others is a mean of one.
    samples = [kind(draw, least) - kind(draw, 0.0) for _ in range(RERUNS)]
    found = [present(one) for one in differences_of(samples, resamples=1000)]
    power = [
        np.mean([one.excludes_zero for one in found]),
        np.mean([present(one.p) < 0.05 for one in found]),
    ]
    assert power == [pytest.approx(0.8, abs=0.09)] * 2


def outcome(draw: np.random.Generator, voice: float, gain: float, *, shuffled: bool = False) -> str:
    """What twelve questions amount to for one arm: gains of fidelity and of sense are planted."""
    values = {
        ("base", FIDELITY): fidelity(draw, 0.0),
        ("base", SENSE): sense(draw, 0.15),
        ("sft", FIDELITY): fidelity(draw, voice),
        ("sft", SENSE): sense(draw, 0.15 + gain, none=0.03),
    }
    if shuffled:
        swapped = draw.random(PROMPTS) < 0.5
        for metric in (FIDELITY, SENSE):
            base, arm = values["base", metric], values["sft", metric]
            values["base", metric] = np.where(swapped, arm, base)
            values["sft", metric] = np.where(swapped, base, arm)
    scores = [
        Score(
            arm=arm,
            prompt_id=f"ex-{n}",
            response=f"rs-{arm}-{n}",
            metric=metric,
            value=float(value),
        )
        for (arm, metric), own in values.items()
        for n, value in enumerate(own)
    ]
    own = values["sft", SENSE]
    (interval,) = mean_intervals([own], resamples=300)
    estimate = MeanEstimate(mean=float(own.mean()), low=interval.low, high=interval.high)
    report = SenseReport(
        **{"embedder": "e", "by_meaning": True, "loss": "l", "floor": 0.2, "controls": {}},
        arms=(
            ArmSense(
                arm="sft",
                voice=estimate,
                sense=estimate,
                answers=PROMPTS,
                answered=int((own >= 0.15).sum()),
                guards={},
            ),
        ),
    )
    return outcome_of(compare(scores, resamples=300), report, "sft")


def test_the_outcome_finds_what_is_planted_and_nothing_else(draw: np.random.Generator) -> None:
    def successes(voice: float, gain: float, *, shuffled: bool = False) -> float:
        outcomes = [outcome(draw, voice, gain, shuffled=shuffled) for _ in range(60)]
        return outcomes.count("success") / len(outcomes)

    assert successes(0.0, 0.25) <= 0.07, "the arm is the base in voice, and makes sense"
    assert successes(0.4, 0.25, shuffled=True) <= 0.07, "nobody knows whose answer is whose"
    assert successes(0.4, -0.2) <= 0.02, "the voice alone rises"
    assert successes(0.4, 0.25) >= 0.8
