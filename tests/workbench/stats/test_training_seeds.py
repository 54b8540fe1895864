"""What several trainings and several topics say together, held against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.present import present
from workbench.records import Response, Score, user_prompt
from workbench.stats import compare
from workbench.stats.training_seeds import (
    CrossedMean,
    SeedsReport,
    by_topic,
    crossed_mean,
    with_seeds,
)

PROMPTS, TOPICS = 36, 6
TOPIC_OF = {f"q{n}": f"t{n % TOPICS}" for n in range(PROMPTS)}


def drawn(
    draw: np.random.Generator, *, seeds: int, of_seeds: float, of_topics: float, mean: float = 0.2
) -> CrossedMean:
    """Differences that move with the seed, the topic, the prompt, and by chance."""
    topics = draw.normal(0, of_topics, TOPICS)
    prompts = draw.normal(0, 0.15, PROMPTS)
    values = {
        seed: {
            prompt: mean + shift + topics[n % TOPICS] + prompts[n] + draw.normal(0, 0.2)
            for n, prompt in enumerate(TOPIC_OF)
        }
        for seed, shift in enumerate(draw.normal(0, of_seeds, seeds))
    }
    return present(crossed_mean(values, TOPIC_OF))


@pytest.mark.parametrize(
    ("seeds", "of_seeds", "of_topics"),
    [(1, 0.0, 0.1), (3, 0.0, 0.1), (3, 0.1, 0.0), (3, 0.1, 0.1), (5, 0.05, 0.1)],
)
def test_the_interval_holds_the_truth_whatever_varies(
    seeds: int, of_seeds: float, of_topics: float
) -> None:
    draw = np.random.default_rng(seeds)
    means = [drawn(draw, seeds=seeds, of_seeds=of_seeds, of_topics=of_topics) for _ in range(400)]
    covered = np.mean([present(one.low) <= 0.2 <= present(one.high) for one in means])
    assert 0.92 <= covered <= 0.995


def test_no_effect_is_found_in_no_more_than_one_of_twenty() -> None:
    draw = np.random.default_rng(5)
    means = [drawn(draw, seeds=3, of_seeds=0.05, of_topics=0.1, mean=0.0) for _ in range(400)]
    assert np.mean([present(one.p) < 0.05 for one in means]) <= 0.07


def test_one_seed_misses_what_three_seeds_show() -> None:
    """A shift by the seed alone: one training's interval over topics is blind for it."""
    draw = np.random.default_rng(3)
    one, three = (
        [drawn(draw, seeds=seeds, of_seeds=0.2, of_topics=0.02) for _ in range(200)]
        for seeds in (1, 3)
    )
    covered = [
        np.mean([present(m.low) <= 0.2 <= present(m.high) for m in means]) for means in (one, three)
    ]
    assert covered[0] < 0.5 < 0.92 < covered[1]
    assert np.median([present(m.sd) for m in three]) > 0.1
    assert one[0].sd is None


def test_by_hand() -> None:
    """Two seeds, two topics of one prompt each."""
    values = {0: {"a": 0.1, "b": 0.3, "c": 9.0}, 1: {"a": 0.3, "b": 0.5}}
    mean = present(crossed_mean(values, {"a": "x", "b": "y"}))
    # Seeds' means 0.2 and 0.4: variance 0.02 over 2. Topics deviate by 0.1 each: 2 · 0.02 / 4.
    half = 4.302653 * (0.01 + 0.01) ** 0.5  # two degrees of freedom by Satterthwaite
    assert mean.mean == pytest.approx(0.3)
    assert (mean.low, mean.high) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-5)
    assert mean.seeds == pytest.approx({0: 0.2, 1: 0.4})
    assert (mean.prompts, mean.topics) == (2, 2)
    single = present(crossed_mean({0: {"a": 1.0}}, {}))
    assert (single.mean, single.low, single.p) == (1.0, None, None)
    assert crossed_mean({0: {"a": 1.0}, 1: {"b": 1.0}}, {}) is None


def test_the_verdicts_cell_is_that_of_all_trainings() -> None:
    def responses(arm: str) -> list[Response]:
        return [
            Response(
                arm=arm, prompt_id=p, prompt=user_prompt(f"{p}?"), text=arm + p, topic=TOPIC_OF[p]
            )
            for p in TOPIC_OF
        ]

    both = {arm: responses(arm) for arm in ("base", "sft")}
    scores = [
        Score(
            arm=arm,
            prompt_id=one.prompt_id,
            response=one.id,
            metric=metric,
            value=(0.2 if arm == "base" else 0.5) + 0.01 * (n % 5),
        )
        for arm, own in both.items()
        for n, one in enumerate(own)
        for metric in ("fidelity", "sense")
    ]
    comparison = compare(scores, resamples=200)
    one = present(by_topic(comparison, scores, [*both["base"], *both["sft"]]))
    assert one.topics == TOPICS
    assert one.mean == pytest.approx(0.3)

    wide = CrossedMean(
        mean=0.25, low=-0.05, high=0.55, p=0.08, prompts=36, topics=6, seeds={0: 0.3, 1: 0.2}
    )
    report = SeedsReport(
        arm="sft", seeds=(0, 1), measures={"fidelity": wide}, values={"fidelity": 0.47}
    )
    cell = with_seeds(comparison, report).cell("sft", "fidelity")

    difference = present(cell.difference)
    assert (cell.mean, difference.mean, difference.low) == (0.47, 0.25, -0.05)
    assert (difference.method, difference.p_adjusted) == ("crossed", 0.08)
    assert not difference.excludes_zero
    assert present(comparison.cell("sft", "fidelity").difference).is_sure
    assert with_seeds(comparison, report).cell("sft", "sense") == comparison.cell("sft", "sense")
    assert with_seeds(comparison, None) == comparison
