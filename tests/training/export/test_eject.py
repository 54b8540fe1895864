"""The plain script that trains the same adapter: its losses are those of our own run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.conftest import (
    DPO,
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
from training.run import TrainingRun
from training.trainer import train
from workbench.errors import UserError
from workbench.inference import processor
from workbench.persona import Persona

MOST_LINES = 150


def _checked(script: Path) -> None:
    """The script passes ruff and is short."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check", "--select", "E,F,I,UP,B"], ["format", "--check"]):
        done = subprocess.run(
            [*ruff, *command, "--line-length", "100", "--isolated", str(script)],
            cwd=script.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout
    assert len(script.read_text("utf-8").splitlines()) <= MOST_LINES


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


@pytest.mark.parametrize("part", [{"loraplus": {"loraplus_lr_ratio": 16}}, {"method": "grpo"}])
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
