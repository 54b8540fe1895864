"""What a run is foretold to take, and what is said of it when it is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rounds.context import RoundContext, open_context, preset_path
from rounds.foretelling import (
    _ANSWER,
    _PASSES,
    _SCORED,
    _TRAINED,
    _WIDER,
    TOLERANCE,
    StageWork,
    _Work,
    foretell,
    foretold_line,
    foretold_lines,
)
from rounds.layout import Manifest
from rounds.runner import Outcome
from rounds.safety import SafetyCheck
from rounds.stages.split import own_probes
from workbench.inference.processor import Processor, choose

WEIGHTS = 100.0
"""Millions."""


def a_processor(threads: int = 2, passes: float = _PASSES, factor: float = 1.0) -> Processor:
    """One that does 80 GFLOP/s in float32 where rows are many and 50 where they are few."""
    speeds = {"float32 pass": 80.0 * factor, "float32 step": 50.0 * factor}
    return choose("a", speeds, passes).model_copy(update={"threads": threads})


def test_seconds_are_products_and_what_is_beside_them_over_all_threads() -> None:
    answered = StageWork(answers=1000, fixed=3.0)
    beside = _ANSWER * _WIDER["answers"]
    milliseconds = 2 / 50 + beside  # of a token and a million weights

    assert answered.seconds(a_processor(), WEIGHTS) == pytest.approx(3 + 50 * milliseconds)
    assert answered.seconds(a_processor(threads=1), WEIGHTS) == pytest.approx(
        3 + 100 * milliseconds
    )
    # A faster processor spares products, faster passes what is beside them.
    assert answered.seconds(a_processor(factor=2), WEIGHTS) == pytest.approx(
        3 + 50 * (1 / 50 + beside)
    )
    assert answered.seconds(a_processor(passes=2 * _PASSES), WEIGHTS) == pytest.approx(
        3 + 50 * (2 / 50 + beside / 2)
    )


def test_a_token_that_comes_back_costs_twice_one_that_does_not() -> None:
    there, back = (
        StageWork(**{way: 1000.0}).seconds(a_processor(), WEIGHTS) for way in ("there", "back")
    )
    assert (
        back
        == pytest.approx(50 * (4 / 80 + _TRAINED * _WIDER["trained"]))
        == pytest.approx(2 * there)
    )


@pytest.fixture(scope="module")
def context(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> RoundContext:
    folder = repo / "datasets" / "gym-trainer"
    return open_context(persona=folder, runs=tmp_path_factory.mktemp("runs"))


def test_a_run_is_foretold_from_its_rows_and_recipes(context: RoundContext) -> None:
    names = ["filter", "review", "sft", "dpo", "evaluate"]
    slow, fast = (foretell(context, names, a_processor(factor=one)) for one in (1, 10))

    assert list(slow) == names
    for name in ("sft", "dpo", "evaluate"):
        # Ten times the products' speed leaves what is beside them.
        before, after = slow[name], fast[name]
        assert before and after and before / 10 < after < before
    assert slow["filter"] == fast["filter"]


AVX512 = {"bfloat16 step": 186.8, "bfloat16 pass": 192.7, "float32 step": 89.1}
AVX512 |= {"float32 pass": 98.6}
HELD = {"float32 step": 105.7, "float32 pass": 99.4, "bfloat16 pass": 19.5}
SMOKE = ["import", "generate", "filter", "review", "resolve", "split", "sft", "dpo", "evaluate"]


@pytest.mark.parametrize(
    ("preset", "speeds", "taken"),
    [
        ("default", AVX512, {"generate": 50, "sft": 183, "dpo": 96, "evaluate": 344, "review": 20}),
        ("default", HELD, {"generate": 91, "sft": 296, "dpo": 146, "evaluate": 457, "review": 23}),
        ("smoke", AVX512, {"generate": 5, "review": 11}),
    ],
)
def test_the_runs_that_its_constants_are_from_are_foretold_within_the_tolerance(
    repo: Path, tmp_path: Path, preset: str, speeds: dict[str, float], taken: dict[str, float]
) -> None:
    one = open_context(
        config=preset_path(preset), persona=repo / "datasets" / "gym-trainer", runs=tmp_path
    )
    own = choose("a", speeds, _PASSES).model_copy(update={"threads": 2})
    foretold = foretell(one, [*SMOKE, "report"], own)

    for stage, seconds in taken.items():
        assert foretold[stage] == pytest.approx(seconds, abs=TOLERANCE * (foretold[stage] or 0))
    if preset == "smoke":
        assert sum(filter(None, foretold.values())) == pytest.approx(110, rel=TOLERANCE)


def test_both_arms_of_the_safety_case_are_counted(repo: Path, tmp_path: Path) -> None:
    def evaluated(prompts: int) -> tuple[float, int]:
        """Return the fixed seconds of an evaluation, and how many safety prompts it has."""
        context = open_context(persona=repo / "datasets" / "gym-trainer", runs=tmp_path)
        settings = context.config.evaluate.model_copy(update={"safety": prompts, "requests": 0})
        context = replace(context, config=context.config.model_copy(update={"evaluate": settings}))
        work = _Work(context).of("evaluate")
        assert work is not None
        return work.fixed, len(SafetyCheck.of(context, own_probes(context)).prompts)

    (more, many), (less, few) = evaluated(3), evaluated(1)
    # The base and the last trained arm: each prompt is two answers to score.
    assert many > few
    assert more - less == pytest.approx(2 * (many - few) * _SCORED)


def test_large_sources_are_not_read_for_it(
    context: RoundContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rounds.foretelling._MOST_READ", 1000)
    assert foretell(context, ["filter", "sft"], a_processor()) == {}


def test_what_waits_for_people_or_an_endpoint_is_not_foretold(context: RoundContext) -> None:
    waiting = context.with_settings("review", people=True)
    foretold = foretell(waiting, ["filter", "review"], a_processor())

    assert foretold["review"] is None
    assert foretold_line(foretold).endswith("; not foretold: review")


def test_the_line_names_the_longest_stages_in_the_order_of_a_run() -> None:
    seconds = {"filter": 3.0, "sft": 180.0, "dpo": 120.0, "evaluate": 420.0, "generate": 66.0}
    assert foretold_line(seconds) == (
        "about 13 min: generate 66 s, sft 3 min, dpo 2 min, evaluate 7 min"
    )


def outcome(stage: str, foretold: float | None, seconds: float, *, ran: bool = True) -> Outcome:
    manifest = Manifest(
        stage=stage,
        inputs={},
        settings={},
        seed=0,
        key="",
        started="",
        seconds=seconds,
        foretold=foretold,
        peak_mib=0,
    )
    return Outcome(stage, ran, manifest)


def test_at_the_end_foretold_stands_beside_taken() -> None:
    within = [outcome("sft", 100, 120), outcome("filter", 1, 2.5), outcome("review", None, 900)]
    beyond = [outcome("dpo", 100, 130), outcome("evaluate", 400, 1, ran=False)]

    assert foretold_lines(within) == ["Foretold 2 min, taken 2 min"]
    assert foretold_lines([*within, *beyond]) == [
        "Foretold 3 min, taken 4 min; more than 25% off: dpo 100 s foretold, 130 taken"
    ]
    assert foretold_lines([outcome("review", None, 9), *beyond[1:]]) == []
