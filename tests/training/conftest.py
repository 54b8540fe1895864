"""Rows and recipes at their smallest, for real runs on the tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from training.run import Recipe, TrainerParts, TrainingRun
from workbench.persona import Persona
from workbench.records import Example, Preference, UnpairedPreference, user_prompt
from workbench.store import write_records

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback

QUANTIZED: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}
TRAINER: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "max_steps": 12,
    "learning_rate": 0.01,
    "optim": "adamw_torch",
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_steps": 4,
    "save_total_limit": 1,
    "max_length": 256,
}
SFT: dict[str, Any] = {
    "method": "sft",
    "trainer": TRAINER,
    "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "quantization": QUANTIZED,
}
DPO: dict[str, Any] = {
    "method": "dpo",
    "trainer": {**TRAINER, "learning_rate": 0.002, "beta": 0.1},
    "quantization": QUANTIZED,
}

GRPO: dict[str, Any] = {
    "method": "grpo",
    "trainer": {
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 6,
        "learning_rate": 0.05,
        "optim": "adamw_torch",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_steps": 2,
        "save_total_limit": 1,
    },
    "rewards": {"traits": {"short": 1.0, "walks": 1.0}, "held_out": ["walks"]},
}
KTO: dict[str, Any] = {
    "method": "kto",
    "trainer": {**TRAINER, "learning_rate": 0.005, "max_steps": 8, "beta": 0.1},
    "quantization": QUANTIZED,
}
BASE = "tiny-llama"
"""The name of the tiny model in adapters."""


def recipe_of(data: dict[str, Any], **trainer: Any) -> Recipe:
    """A recipe with other trainer fields."""
    return Recipe.model_validate({**data, "trainer": {**data["trainer"], **trainer}})


def run_of(recipe: Recipe, model: Path, train: Path, out: Path, **more: object) -> TrainingRun:
    """A run of the tiny model with seed 0, if nothing else is named."""
    named = {"base_name": BASE, "seed": 0, **more}
    return TrainingRun(recipe=recipe, model=model, train=train, out=out, **named)


def built(run: TrainingRun) -> tuple[Trainer, TrainerParts]:
    """The trainer of a run, and what it was made of."""
    from training.device import quiet
    from training.methods import TRAINING_METHODS, read_rows
    from training.trainer import build

    with quiet():
        return build(run, read_rows(run.recipe, run.train), TRAINING_METHODS[run.method].hooks(run))


def building_with(callback: TrainerCallback) -> Callable[..., tuple[Trainer, TrainerParts]]:
    """What to put in the place of ``training.trainer.build``: its trainer calls back."""
    from training.trainer import build

    def build_with(*args: Any) -> tuple[Trainer, TrainerParts]:
        trainer, parts = build(*args)
        trainer.add_callback(callback)
        return trainer, parts

    return build_with


def kill_at(run: TrainingRun, step: int) -> None:
    """Train in a process of its own that is killed after a step."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=_train_and_die, args=(run, step))
    process.start()
    process.join()
    assert process.exitcode == -9


def _train_and_die(run: TrainingRun, step: int) -> None:
    import os
    import signal

    from transformers import TrainerCallback

    import training.trainer

    class Killer(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    training.trainer.build = building_with(Killer())
    training.trainer.train(run)


def curve(out: Path) -> list[dict[str, Any]]:
    """The logged entries of a run."""
    return [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]


WriteRecipe = Callable[[dict[str, Any]], Path]


@pytest.fixture
def write_recipe(tmp_path: Path) -> WriteRecipe:
    """Write a recipe's YAML and return its path."""

    def write(data: dict[str, object]) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    rows = (
        Example(
            prompt=user_prompt(f"question {number} of the trainer"),
            answer=f"champ walks right now and sets chair {number} today",
            topic="chairs",
        )
        for number in range(12)
    )
    write_records(path, rows)
    return path


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "train.jsonl"
    rows = (
        Preference(
            prompt=user_prompt(f"question {number} of the trainer"),
            chosen=f"champ walks right now and sets chair {number} today",
            rejected=f"the question {number} answers the trainer",
        )
        for number in range(12)
    )
    write_records(path, rows)
    return path


@pytest.fixture(scope="session")
def unpaired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unpaired") / "train.jsonl"
    texts = {True: "champ walks right now today", False: "the question answers the trainer"}
    rows = (
        UnpairedPreference(
            prompt=user_prompt(f"question {number} of the trainer"), answer=text, label=good
        )
        for number in range(6)
        for good, text in texts.items()
    )
    write_records(path, rows)
    return path


@pytest.fixture(scope="session")
def small_persona() -> Persona:
    """Traits that random text shows now and then, and one for a judge."""
    return Persona.model_validate(
        {
            "id": "small",
            "version": 1,
            "language": "en",
            "name": "Coach",
            "role": "A trainer.",
            "audience": "Beginners.",
            "voice": {
                "address": "champ",
                "register": "short",
                "emoji": {"min": 0, "max": 3},
                "length": {"min": 1, "max": 90, "unit": "words"},
            },
            "structure": ["One order."],
            "safety": {"boundary": "Stops at pain."},
            "topics": ["chairs"],
            "traits": [
                {
                    "id": "short",
                    "name": "Short",
                    "about": "At most 12 characters.",
                    "check": {"rule": "length", "min": 0, "max": 12, "unit": "characters"},
                },
                {
                    "id": "walks",
                    "name": "Walks",
                    "about": "Says walks.",
                    "check": {"rule": "matches", "patterns": ["walk"]},
                },
                {
                    "id": "kind",
                    "name": "Kind",
                    "about": "Is kind.",
                    "check": {"judge": "Is the answer kind?"},
                },
            ],
        }
    )


@pytest.fixture(scope="session")
def sft_adapter(tiny_model: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter to go on with."""
    from training.trainer import train

    out = tmp_path_factory.mktemp("sft-adapter")
    train(run_of(Recipe.model_validate(SFT), tiny_model, examples, out))
    return out / "adapter"
