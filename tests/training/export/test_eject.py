"""The plain script that trains the same adapter: its losses are those of our own run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.conftest import (
    DPO,
    GRPO,
    SFT,
    curve,
    examples,  # noqa: F401 — a fixture
    preferences,  # noqa: F401 — a fixture
    recipe_of,
    run_of,
    sft_adapter,  # noqa: F401 — a fixture
)
from tests.training.test_self_distillation import SDFT
from training.export.eject import eject
from training.recipe import load_recipe, recipe_path
from training.rewards import text_of
from training.run import TrainingRun, TrainSummary
from training.trainer import train
from workbench.errors import UserError
from workbench.inference import processor
from workbench.persona import Persona, load_persona
from workbench.store import read_json_lines

MOST_LINES = 150


def _checked(script: Path) -> None:
    """The script passes ruff and is short, and so are its rewards where it has some."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select", "E,F,I,UP,B"], ["format", "--check"]):
        done = subprocess.run(
            [*ruff, *command, "--line-length", "100", "--isolated", "."],
            cwd=script.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout
    for file in script.parent.glob("*.py"):
        assert len(file.read_text("utf-8").splitlines()) <= MOST_LINES, file


@pytest.fixture
def float32() -> Iterator[None]:
    """Compute in float32: in bfloat16 the kernels of the run and the script round differently."""
    processor.use(processor.ProcessorSettings(dtype="float32"))
    yield
    processor.use(processor.ProcessorSettings())


def _same_losses(run: TrainingRun, folder: Path) -> None:
    script = eject(run, folder, name="Coach")
    _checked(script)
    train(run)
    done = subprocess.run(
        [sys.executable, str(script), "--model", str(run.model)],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    log = json.loads((folder / "adapter" / "log.json").read_text("utf-8"))
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses == pytest.approx([e["loss"] for e in curve(run.out) if "loss" in e], rel=1e-4)
    assert len(losses) == run.recipe.trainer["max_steps"]


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_the_script_trains_the_same_sft_adapter(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    recipe = recipe_of(SFT, max_steps=4, eval_strategy="steps", eval_steps=2)
    _same_losses(
        run_of(recipe, tiny_model, examples, tmp_path / "run", validation=examples),
        tmp_path / "ejected",
    )


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_the_script_goes_on_from_the_same_adapter(
    tiny_model: Path,
    preferences: Path,  # noqa: F811
    sft_adapter: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    recipe = recipe_of(DPO, max_steps=3)
    _same_losses(
        run_of(recipe, tiny_model, preferences, tmp_path / "run", adapter=sft_adapter),
        tmp_path / "ejected",
    )


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_the_script_distils_as_the_run_does(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    small_persona: Persona,
    tmp_path: Path,
) -> None:
    run = run_of(
        recipe_of(SDFT, max_steps=3), tiny_model, examples, tmp_path / "run", persona=small_persona
    )
    _same_losses(run, tmp_path / "ejected")
    read = (tmp_path / "ejected" / "teacher_prompt.txt").read_text("utf-8")
    assert "{prompt}" in read and "{privileged_context}" in read and small_persona.name in read


def test_unsloths_variant_is_a_script_too(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    run = run_of(recipe_of(SFT), tiny_model, examples, tmp_path / "run")
    script = eject(run, tmp_path / "ejected", name="Coach", engine="unsloth")
    _checked(script)
    assert "FastLanguageModel.get_peft_model(base, **LORA)" in script.read_text("utf-8")
    assert "unsloth" in (tmp_path / "ejected" / "requirements.txt").read_text("utf-8").split()


@pytest.mark.slow
@pytest.mark.usefixtures("float32")
def test_the_script_rewards_as_the_run_does(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    sft_adapter: Path,  # noqa: F811
    small_persona: Persona,
    tmp_path: Path,
) -> None:
    # Traits that random letters show now and then: else nothing is learnt and compared.
    about = small_persona.model_dump(mode="json", by_alias=True)
    about["traits"][0]["check"]["max"] = 6
    about["traits"][1]["check"]["patterns"] = ["[a-z]"]
    recipe = recipe_of(GRPO, max_steps=4, learning_rate=0.01)
    run = run_of(
        recipe,
        tiny_model,
        examples,
        tmp_path / "run",
        validation=examples,
        adapter=sft_adapter,
        persona=Persona.model_validate(about),
    )
    _same_losses(run, tmp_path / "ejected")
    log = json.loads((tmp_path / "ejected" / "adapter" / "log.json").read_text("utf-8"))
    for name in ("reward", "rewards/short/mean", "rewards/walks/mean"):
        own = [entry[name] for entry in curve(run.out) if name in entry]
        assert [entry[name] for entry in log if name in entry] == pytest.approx(own)
        assert len(own) == 4
        assert len(set(own)) > 1, f"{name} is always {own[0]}"
    # A gain is measured as the run measures it; the trait that is held out has weight 0.
    rewards = [entry["eval_reward"] for entry in log if "eval_reward" in entry]
    summary = TrainSummary.model_validate_json((run.out / "summary.json").read_text("utf-8"))
    assert summary.held_out_reward is not None
    gain = summary.held_out_reward
    assert rewards == pytest.approx([gain.before, gain.after])
    traits = json.loads((tmp_path / "ejected" / "traits.json").read_text("utf-8"))
    assert [(one["id"], one["weight"]) for one in traits] == [("short", 1.0), ("walks", 0)]


def test_the_scripts_rewards_are_the_personas_checks(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    sft_adapter: Path,  # noqa: F811
    repo: Path,
    tmp_path: Path,
) -> None:
    """The shipped recipe and trainer, reasoning rewarded too."""
    persona = load_persona(repo / "datasets" / "gym-trainer")
    recipe = load_recipe(recipe_path("grpo-embedded"))
    rewarded = recipe.rewards.model_copy(update={"think": 0.5}) if recipe.rewards else None
    run = run_of(
        recipe.model_copy(update={"rewards": rewarded}),
        tiny_model,
        examples,
        tmp_path / "run",
        validation=examples,
        adapter=sft_adapter,
        persona=persona,
    )
    script = eject(run, tmp_path / "ejected", name=persona.name)
    _checked(script)
    spec = importlib.util.spec_from_file_location("ejected", script.with_name("rewards.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    answers = [
        row["output"] for _, row in read_json_lines(repo / "datasets/gym-trainer/seeds.jsonl")
    ]
    texts = [*answers[:40], "", "Hm. 💪", "<think>why</think>Champ, right now! 💪💪", "<think>on"]
    texts += ["1. This.\n2. I'll wait… 🔥", "Why? because\n\n!!! 😀😀😀😀", "Perhaps today, champ."]
    texts += [
        "<thinking>x 💪</thinking>Hi champ",
        "Hi champ <think>x 💪💪💪💪</think> there 🔥",
        "why, why 💪💪💪💪</think>Right now, champ! 💪",
        "Type `<think>` first, champ.",
        "Champ uses the word <think> here.",
    ]
    seen = set()
    for trait, function in zip(module.TRAITS, module.REWARDS[:-1], strict=True):
        own = next(one for one in persona.rule_traits if one.id == trait["id"])
        values = function([[{"role": "assistant", "content": text}] for text in texts])
        assert values == [float(bool(own.passes(text_of(text)))) for text in texts], own.id
        assert function.__name__ == own.id
        seen |= {(own.id, value) for value in values}
    assert len(seen) == 2 * len(persona.rule_traits)  # each is earned by some, and not by others
    assert module.WEIGHTS[-1] == 0.5 and module.WEIGHTS.count(0) == 2
    assert module.REWARDS[-1].__name__ == "think_format_reward"


def test_what_only_a_language_can_check_is_refused_by_name(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    sft_adapter: Path,  # noqa: F811
    repo: Path,
    tmp_path: Path,
) -> None:
    korean = load_persona(repo / "datasets" / "gym-trainer-ko")
    recipe = recipe_of({**GRPO, "rewards": {"held_out": ["emoji"]}})
    more = {"adapter": sft_adapter, "persona": korean}
    run = run_of(recipe, tiny_model, examples, tmp_path / "run", **more)
    with pytest.raises(UserError, match=r"cannot check address, .* with the language 'ko'"):
        eject(run, tmp_path / "ejected", name="Coach")


@pytest.mark.parametrize("weight", ["judge", "sense", "reward_model"])
def test_a_reward_that_no_rule_gives_is_refused(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    small_persona: Persona,
    tmp_path: Path,
    weight: str,
) -> None:
    recipe = recipe_of({**GRPO, "rewards": {weight: 1.0}})
    run = run_of(recipe, tiny_model, examples, tmp_path / "run", persona=small_persona)
    with pytest.raises(UserError, match=f"does not carry a .*{weight.replace('_', ' ')}"):
        eject(run, tmp_path / "ejected", name="Coach")
    assert not (tmp_path / "ejected").exists()


@pytest.mark.parametrize("part", [{"loraplus": {"loraplus_lr_ratio": 16}}])
def test_what_a_plain_script_does_not_carry_is_refused(
    tiny_model: Path,
    examples: Path,  # noqa: F811
    tmp_path: Path,
    part: dict[str, object],
) -> None:
    recipe = recipe_of(SFT).model_copy(update=part)
    run = run_of(recipe, tiny_model, examples, tmp_path / "run")
    with pytest.raises(UserError, match="a plain script does not carry"):
        eject(run, tmp_path / "ejected", name="Coach")
    assert not (tmp_path / "ejected").exists()
