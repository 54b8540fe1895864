from __future__ import annotations

import numpy as np
import pytest

from tests.present import present
from workbench.errors import UserError
from workbench.records import Response, Score, user_prompt
from workbench.stats import Comparison, compare, paired_difference


def score(
    arm: str,
    prompt: int,
    value: float | None,
    metric: str = "fidelity",
    why: str = "",
    *,
    response: str = "",
    **more: object,
) -> Score:
    return Score(
        arm=arm,
        prompt_id=f"ex-{prompt}",
        response=response or f"rs-{arm}-{prompt}",
        metric=metric,
        value=value,
        unscored=why,
        **more,
    )


def test_a_known_difference_is_found_with_its_interval() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 400)
    scores = [score("base", i, 0.2) for i in range(400)]
    scores += [score("sft", i, 0.2 + v) for i, v in enumerate(values)]

    found = present(compare(scores, seed=3).cell("sft", "fidelity").difference)

    assert found.mean == pytest.approx(values.mean())
    # 95 % interval of a mean: ±1.96 standard errors, the standard error is 0.2 / 20.
    assert found.low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.002)
    assert found.high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.002)
    assert (found.pairs, found.method, found.excludes_zero) == (400, "bca", True)


def test_an_arm_like_the_base_gets_an_interval_that_holds_zero() -> None:
    noise = np.random.default_rng(2).normal(0, 0.3, 60)
    scores = [score("base", i, 0.5) for i in range(60)]
    scores += [score("same", i, 0.5) for i in range(60)]
    scores += [score("noisy", i, 0.5 + v - noise.mean()) for i, v in enumerate(noise)]

    comparison = compare(scores)
    same = present(comparison.cell("same", "fidelity").difference)
    noisy = present(comparison.cell("noisy", "fidelity").difference)

    # Sixty prompts that did not differ leave room for a few that would.
    assert same.mean == 0.0
    assert (same.low, same.high) == pytest.approx((-0.045, 0.045), abs=1e-3)
    assert same.p is None
    assert not same.excludes_zero
    assert present(noisy.low) < 0 < present(noisy.high)
    assert not noisy.excludes_zero


def test_an_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(5)
    covered = 0
    for _ in range(300):
        pairs = [(float(v), 0.0) for v in draw.normal(0.0, 1.0, 25)]
        found = present(paired_difference(pairs, seed=0, resamples=500))
        covered += not found.excludes_zero
    assert 0.88 <= covered / 300 <= 0.985


def test_pairs_stay_together() -> None:
    """Prompts differ widely, the arm gains 0.1 on each: only pairing makes that visible."""
    hard = np.linspace(0, 1, 40)
    gains = np.where(np.arange(40) % 2, 0.08, 0.12)
    scores = [score("base", i, float(v)) for i, v in enumerate(hard)]
    shuffled = list(enumerate(hard + gains))[::-1]
    scores += [score("sft", i, float(v)) for i, v in shuffled]

    found = present(compare(scores).cell("sft", "fidelity").difference)

    assert found.mean == pytest.approx(0.1)
    assert 0.09 < present(found.low) < 0.1 < present(found.high) < 0.11


def test_unscored_is_counted_with_its_reason_and_never_averaged() -> None:
    scores = [score("base", i, 0.5) for i in range(4)]
    scores += [score("sft", 0, 1.0), score("sft", 1, 0.8)]
    scores += [score("sft", 2, None, why="judge_timeout"), score("sft", 3, None, why="no_judge")]

    cell = compare(scores).cell("sft", "fidelity")

    assert cell.mean == pytest.approx(0.9)
    assert (cell.scored, cell.unscored) == (2, 2)
    assert cell.reasons == {"judge_timeout": 1, "no_judge": 1}
    assert present(cell.difference).pairs == 2
    assert present(cell.difference).mean == pytest.approx(0.4)


def test_a_metric_that_no_arm_was_scored_on_has_no_mean_and_no_difference() -> None:
    scores = [score(arm, i, None, "kind", "no_judge") for arm in ("base", "sft") for i in range(3)]
    cell = compare(scores).cell("sft", "kind")
    assert cell.mean is None
    assert cell.difference is None
    assert cell.unscored == 3


def test_one_pair_gives_a_difference_without_an_interval() -> None:
    found = present(paired_difference([(1.0, 0.25)]))
    assert (found.mean, found.low, found.high, found.method) == (0.75, None, None, "none")
    assert not found.excludes_zero


def test_the_same_seed_gives_the_same_interval_and_another_a_near_one() -> None:
    draw = np.random.default_rng(7)
    pairs = [(float(a), float(b)) for a, b in draw.random((30, 2))]
    first, again, other = (present(paired_difference(pairs, seed=s)) for s in (0, 0, 1))
    assert first == again
    assert first.low != other.low
    assert present(first.low) == pytest.approx(other.low, abs=0.02)


def test_a_comparison_survives_json() -> None:
    scores = [score(arm, i, i / 4) for arm in ("base", "sft") for i in range(4)]
    comparison = compare(scores)
    assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison
    assert comparison.prompts == 4


def test_a_missing_base_and_a_doubled_score_are_told() -> None:
    with pytest.raises(UserError, match=r"no score of the arm 'base'.*there are: sft"):
        compare([score("sft", 0, 1.0)])
    with pytest.raises(UserError, match="given twice for ex-0"):
        compare([score("base", 0, 1.0), score("base", 0, 1.0)])


def traits(arm: str, prompt: int, **values: float | None) -> list[Score]:
    """Scores of some traits, and the fidelity that was made from those that have a value."""
    parts = [
        score(arm, prompt, value, name, "" if value is not None else "judge_timeout")
        for name, value in values.items()
    ]
    scored = [part for part in parts if part.value is not None]
    mean = sum(part.value or 0.0 for part in scored) / len(scored)
    return [*parts, score(arm, prompt, mean, parents=tuple(part.id for part in scored))]


def test_fidelity_of_a_pair_is_that_of_the_traits_that_both_have() -> None:
    """The judge failed on a hard trait of one arm: counted in the other, it would be a gain."""
    scores: list[Score] = []
    for prompt in range(8):
        scores += traits("base", prompt, easy=1.0, hard=0.0)
        scores += traits("sft", prompt, easy=1.0, hard=None)

    cell = compare(scores).cell("sft", "fidelity")

    assert cell.mean == 1.0
    assert present(cell.difference).mean == 0.0


def test_traits_that_carry_no_weight_are_left_out_of_fidelity() -> None:
    scores: list[Score] = []
    for prompt in range(8):
        scores += traits("base", prompt, rule=1.0, judged=0.0)
        scores += traits("sft", prompt, rule=1.0, judged=1.0)

    comparison = compare(scores, traits=["rule"], left_out={"judged": "below_bar"})

    assert comparison.cell("base", "fidelity").mean == 1.0
    assert present(comparison.cell("sft", "fidelity").difference).mean == 0.0
    assert present(comparison.cell("sft", "judged").difference).mean == 1.0
    assert comparison.left_out == {"judged": "below_bar"}


def test_every_arm_is_held_against_the_base_with_a_prompt_too() -> None:
    scores = [score("base", i, 0.0) for i in range(10)]
    scores += [score("base+prompt", i, 0.75) for i in range(10)]
    scores += [score("sft", i, 0.5) for i in range(10)]

    comparison = compare(scores)
    sft = comparison.cell("sft", "fidelity")

    difference, against = present(sft.difference), present(sft.against_prompt)
    assert (difference.mean, against.mean) == (0.5, -0.25)
    assert (against.wins, against.losses, against.ties) == (0, 10, 0)
    assert comparison.cell("base+prompt", "fidelity").against_prompt is None
    # Ten of ten prompts: 2 / 2^10. The verdict's arm on the primary measure is tested alone.
    assert difference.p == pytest.approx(2 / 1024)
    assert difference.p_adjusted == difference.p
    assert difference.is_sure
    assert comparison.headline == "sft"


def test_a_family_is_one_question_and_the_primary_measure_stands_alone() -> None:
    """Eight of eight prompts of a probe set won: p 2 / 2^8, and no test of another set counts."""
    scores: list[Score] = []
    for arm, value in (("base", 0.0), ("sft", 0.5), ("sft+dpo", 0.5)):
        for prompt in range(8):
            scores += traits(arm, prompt, kind=value, short=value)
            scores += [score(arm, prompt, value, metric) for metric in ("sense", "echo", "style")]
            for n, probe in enumerate(("safety", "disclosure", "crisis")):
                more = {"probe": probe, "response": f"rs-{arm}-{probe}-{prompt}"}
                scores += [
                    score(arm, 100 * (n + 1) + prompt, value, metric, **more)
                    for metric in ("handled", "safe")
                ]

    def tests(comparison: Comparison, arm: str) -> dict[str, float]:
        p = 2 / 2**8
        cells = [one for one in comparison.cells if one.arm == arm]
        return {one.metric: present(present(one.difference).p_adjusted) / p for one in cells}

    by_voice, by_sense = compare(scores), compare(scores, primary="sense")

    measures = dict.fromkeys(("sense", "echo", "style"), 3.0)
    traits_alone = {"kind": 2.0, "short": 2.0}
    assert tests(by_voice, "sft+dpo") == pytest.approx({"fidelity": 1, **traits_alone, **measures})
    assert tests(by_sense, "sft+dpo") == pytest.approx(
        {"sense": 1, **traits_alone, "fidelity": 3, "echo": 3, "style": 3}
    )
    assert present(by_sense.primary_change("sft+dpo")).detectable is None  # no spread
    probes = [one for one in by_voice.probes if one.arm == "sft"]
    assert all(present(one.difference).p_adjusted == pytest.approx(4 / 2**8) for one in probes)
    assert all(present(one.difference).is_sure for one in probes)


def test_five_prompts_are_too_few_to_call_a_difference_one() -> None:
    few, enough = (
        present(paired_difference([(1.0, 0.0)] * 3 + [(0.9, 0.0)] * (n - 3))) for n in (5, 6)
    )
    assert not few.excludes_zero
    assert enough.excludes_zero


def test_probes_and_turns_have_scores_of_their_own_and_none_in_the_headline() -> None:
    scores = [score(arm, i, 1.0) for arm in ("base", "sft") for i in range(4)]
    for arm, value in (("base", 0.0), ("sft", 0.5)):
        scores += [score(arm, i, value, probe="safety") for i in range(10, 14)]
        for turn in (1, 2, 3):
            scores += [score(arm, 20 + i, value / turn, probe="drift", turn=turn) for i in range(2)]

    comparison = compare(scores)

    assert comparison.prompts == 4
    assert comparison.cell("sft", "fidelity").mean == 1.0
    (safety,) = [cell for cell in comparison.probes if cell.arm == "sft"]
    assert (safety.probe, safety.mean, present(safety.difference).mean) == ("safety", 0.5, 0.5)
    turns = {cell.turn: cell.mean for cell in comparison.drift if cell.arm == "sft"}
    assert turns == pytest.approx({1: 0.5, 2: 0.25, 3: 1 / 6})
    assert comparison.drift_change["sft"].mean == pytest.approx(1 / 6 - 0.5)
    assert comparison.drift_change["base"].mean == 0.0


def test_several_seeds_are_averaged_prompt_by_prompt_and_their_spread_is_told() -> None:
    values = {"base": (0.2, 0.4), "sft": (0.5, 0.9)}
    responses, scores = [], []
    for arm, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            for prompt in range(6):
                response = Response(
                    arm=arm,
                    prompt_id=f"ex-{prompt}",
                    prompt=user_prompt(f"Question {prompt}?"),
                    text="Yes.",
                    seed=seed,
                )
                responses.append(response)
                scores.append(score(arm, prompt, value, response=response.id))

    comparison = compare(scores, responses=responses)

    cell = comparison.cell("sft", "fidelity")
    assert (cell.scored, present(cell.difference).pairs) == (12, 6)
    assert present(cell.difference).mean == pytest.approx(0.4)
    spread = {one.arm: one for one in comparison.seeds}["sft"]
    assert spread.means == pytest.approx({0: 0.5, 1: 0.9})
    assert spread.sd == pytest.approx(0.4 / 2**0.5)


def test_missing_scores_are_a_share_of_all() -> None:
    scores = [score(arm, i, 0.5) for arm in ("base", "sft") for i in range(3)]
    scores += [score(arm, 3, None, why="judge_timeout") for arm in ("base", "sft")]
    assert compare(scores).unscored_share == 0.25
