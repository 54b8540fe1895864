"""Rows and recipes at their smallest, for real runs on the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from workbench.records import Example, Preference, user_prompt
from workbench.store import write_records

QUANTIZED = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}
TRAINER = {
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
SFT = {
    "method": "sft",
    "trainer": TRAINER,
    "lora": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "quantization": QUANTIZED,
}
DPO = {
    "method": "dpo",
    "trainer": {**TRAINER, "learning_rate": 0.002, "beta": 0.1},
    "quantization": QUANTIZED,
}

WriteRecipe = Callable[[dict[str, Any]], Path]


@pytest.fixture
def write_recipe(tmp_path: Path) -> WriteRecipe:
    """Write a recipe's YAML and return its path."""

    def write(data: dict[str, Any]) -> Path:
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
