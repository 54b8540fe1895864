"""Agreement of raters: published values, the libraries' values, and when there is none."""

from __future__ import annotations

import random

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tests.present import present
from workbench.stats.agreement import (
    RATINGS,
    Level,
    RaterAgreement,
    alpha,
    alphas,
    gate_power,
    rows_for_gate,
    two_raters,
    weighted_kappa,
)

# The 4 observers × 12 units of Krippendorff (2011), "Computing Krippendorff's
# Alpha-Reliability": nominal 0.743, ordinal 0.815.
OBSERVERS = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}


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
    assert found.unscored == "too_few_differing"


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


def test_kappa_is_that_of_the_library() -> None:
    draw = np.random.default_rng(11)
    first = draw.integers(1, 6, 60)
    second = np.clip(first + draw.integers(-1, 2, 60), 1, 5)
    rows = [[(float(a), float(b))] for a, b in zip(first, second, strict=True)]

    kappa = two_raters(rows, weighted_kappa, (1.0, 2.0, 3.0, 4.0, 5.0))

    assert kappa.value == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))
    assert present(kappa.low) < present(kappa.value) < present(kappa.high)


@pytest.mark.parametrize(
    ("kappa", "rows", "power"), [(0.7, 60, 0.84), (0.5, 60, 0.16), (0.7, 152, 1.0), (0.5, 152, 0.3)]
)
def test_the_power_of_a_gate_is_what_simulated_judges_get(
    kappa: float, rows: int, power: float
) -> None:
    """A bar of 0.4, half of the rows yes: what two raters' own intervals say, redone here."""
    draw = np.random.default_rng(7)
    passed = 0
    for _ in range(200):
        first = draw.random(rows) < 0.5
        second = np.where(draw.random(rows) < kappa, first, draw.random(rows) < 0.5)
        pairs = [[(float(a), float(b))] for a, b in zip(first, second, strict=True)]
        passed += present(two_raters(pairs, weighted_kappa, (0.0, 1.0), resamples=500).low) >= 0.4

    told = gate_power(kappa, 0.4, rows, 0.5)

    assert told == pytest.approx(power, abs=0.06)
    assert passed / 200 == pytest.approx(told, abs=0.1)


def test_rows_for_a_gate_are_the_fewest_that_give_its_power() -> None:
    rows = present(rows_for_gate(0.7, 0.4, 0.5))
    assert gate_power(0.7, 0.4, rows, 0.5) == pytest.approx(0.8, abs=0.06)
    assert present(rows_for_gate(0.7, 0.4, 0.9)) > rows  # a rare no is harder to agree on
    assert rows_for_gate(0.45, 0.44, 0.5) is None
