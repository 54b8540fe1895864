"""Learning curves of known laws: the exponent is recovered, the advice follows the interval."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.learning_curve import fit_curve

SIZES = (16, 32, 64, 128)


def _losses(
    scale: float, exponent: float, floor: float, *, rows: int = 30, noise: float = 0.002
) -> list[list[float]]:
    """Return a law's losses for rows of different difficulty, which every size shares."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(-0.2, 0.2, rows)
    hard -= hard.mean()
    return [[scale * n**-exponent + floor + h + rng.normal(0, noise) for h in hard] for n in SIZES]


def test_a_planted_exponent_is_recovered() -> None:
    curve = fit_curve(SIZES, _losses(4.0, 0.5, 0.8), "validation_loss", resamples=100)
    assert curve is not None
    assert curve.exponent == pytest.approx(0.5, abs=0.05)
    assert curve.floor == pytest.approx(0.8, abs=0.05)
    true_now, true_doubled = 4 * 128**-0.5 + 0.8, 4 * 256**-0.5 + 0.8
    assert curve.doubled == pytest.approx(true_doubled, abs=0.01)
    assert curve.low is not None and curve.high is not None
    assert curve.low <= 1 - true_doubled / true_now <= curve.high
    assert curve.advice == "more"


def test_a_flat_curve_says_stop() -> None:
    curve = fit_curve(SIZES, _losses(0.0, 0.5, 1.2), "validation_loss", resamples=100)
    assert curve is not None
    assert curve.gain < 0.01
    assert curve.advice == "stop"


def test_a_curve_that_rises_foretells_no_gain() -> None:
    losses = [[mean] * 8 for mean in (1.0, 1.05, 1.1, 1.2)]
    curve = fit_curve(SIZES, losses, "validation_loss", resamples=20)
    assert curve is not None
    assert curve.gain == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("sizes", [SIZES[:3], SIZES])
def test_where_nothing_is_missed_nothing_can_be_gained(sizes: tuple[int, ...]) -> None:
    curve = fit_curve(sizes, [[0.0] * 8 for _ in sizes], "missed", resamples=20)
    assert curve is not None
    assert (curve.gain, curve.doubled, curve.high, curve.advice) == (0.0, 0.0, 0.0, "stop")


def test_three_sizes_have_no_floor_and_two_no_curve() -> None:
    losses = [[2 * n**-0.3] * 8 for n in SIZES[:3]]
    curve = fit_curve(SIZES[:3], losses, "missed", resamples=20)
    assert curve is not None
    assert curve.exponent == pytest.approx(0.3, abs=0.01)
    assert curve.floor == 0.0
    assert fit_curve(SIZES[:2], losses[:2], "missed") is None


def test_few_rows_give_no_interval_and_no_advice() -> None:
    curve = fit_curve(SIZES, [[2 * n**-0.3] * 5 for n in SIZES], "missed")
    assert curve is not None
    assert (curve.low, curve.high, curve.advice) == (None, None, "unclear")
