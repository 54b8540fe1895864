"""Which stages run, in which order, and what is checked before any of them does."""

from __future__ import annotations

from pathlib import Path

import pytest

from rounds.arms import check_primary, own_arms, parse_arms
from rounds.context import RoundContext, open_context
from rounds.layout import DROPS, STAGE_EXAMPLES, STAGES
from rounds.pipeline import _SPECS, run_stages, stages_until
from workbench.config import METHODS
from workbench.errors import UserError, every_mistake


@pytest.fixture
def context(repo: Path, tmp_path: Path) -> RoundContext:
    return open_context(persona=repo / "datasets" / "gym-trainer", runs=tmp_path)


def test_every_stage_has_its_function() -> None:
    assert set(_SPECS) == set(STAGES)


def test_tables_by_stage_are_in_the_order_of_stages() -> None:
    for table in (DROPS, STAGE_EXAMPLES):
        assert list(table) == [stage for stage in STAGES if stage in table]


@pytest.mark.parametrize(
    ("last", "methods", "names"),
    [
        (None, ("sft",), [*STAGES[:6], "sft", "evaluate", "report"]),
        ("filter", ("sft", "dpo"), ["import", "generate", "filter"]),
        ("dpo", ("sft", "dpo"), [*STAGES[:6], "sft", "dpo"]),
        # A method that a run does not train is trained where it is asked for by its name.
        ("grpo", ("sft",), [*STAGES[:6], "sft", "grpo"]),
    ],
)
def test_stages_up_to_the_last_one(
    last: str | None, methods: tuple[str, ...], names: list[str]
) -> None:
    assert stages_until(last, methods) == names


def test_an_unknown_stage_is_refused_with_the_nearest(context: RoundContext) -> None:
    with pytest.raises(UserError, match="there is no stage 'splitt' — did you mean 'split'"):
        run_stages(context, ["splitt"])
    with pytest.raises(UserError, match="--until: there is no stage 'evaluat'"):
        stages_until("evaluat")
    assert not context.round.folder.exists()


def test_every_check_is_made_and_each_mistake_is_told_once() -> None:
    made = []

    def check(name: str) -> None:
        made.append(name)
        raise UserError(f"{name[0]} is wrong")

    with pytest.raises(UserError) as caught:
        every_mistake([lambda: check("a"), lambda: check("b"), lambda: check("a again")])
    assert made == ["a", "b", "a again"]
    assert caught.value.lines() == ["a is wrong", "b is wrong"]
    every_mistake([lambda: None])


def test_the_usual_arms_are_the_base_and_the_trained_stages(context: RoundContext) -> None:
    arms = [(arm.name, arm.stage, arm.prompted) for arm in own_arms(context)]
    assert arms == [
        ("base", "", False),
        ("base+prompt", "", True),
        ("sft", "sft", False),
        ("sft+dpo", "dpo", False),
        ("sft+dpo+prompt", "dpo", True),
    ]
    assert {arm.stage for arm in own_arms(context)} <= {"", *METHODS}


def test_prompts_that_try_harder_and_self_distillation_are_arms_of_the_base(
    repo: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "train: {methods: [sft, sdft]}\nevaluate: {prompt_arms: [few-shot]}\n", encoding="utf-8"
    )
    folder = repo / "datasets" / "gym-trainer"
    context = open_context(persona=folder, runs=tmp_path, config=config)
    arms = [(arm.name, arm.stage, arm.prompted) for arm in own_arms(context)]
    assert arms == [
        ("base", "", False),
        ("base+prompt", "", True),
        ("base+few-shot", "", True),
        ("sft", "sft", False),
        ("sdft", "sdft", False),
        ("sdft+prompt", "sdft", True),
    ]


def test_the_measure_that_counts_is_one_that_will_be_there(repo: Path, tmp_path: Path) -> None:
    def check(primary: str) -> None:
        config = tmp_path / "config.yaml"
        config.write_text(f"evaluate: {{primary: {primary}}}\n", encoding="utf-8")
        folder = repo / "datasets" / "gym-trainer"
        check_primary(open_context(persona=folder, runs=tmp_path, config=config))

    for name in ("fidelity", "sense", "address"):
        check(name)
    with pytest.raises(UserError, match=r"no measure 'sens' that could count.*'sense'"):
        check("sens")
    with pytest.raises(UserError, match="only a judge can tell 'content', and none is configured"):
        check("content")


def test_options_that_name_arms() -> None:
    assert parse_arms(("first=round-001/sft", "other = a/model ")) == {
        "first": "round-001/sft",
        "other": "a/model",
    }
    for text in ("first", "first=", "=x"):
        with pytest.raises(UserError, match="does not name a new arm"):
            parse_arms((text,))
