"""TRL's own trainers take one step on each form of exported rows, without our readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from generation.row_forms import RowFormat, RowKind, write_rows
from training.device import quiet
from workbench.records import Example, Preference, Row, UnpairedPreference, user_prompt

STEP: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "max_steps": 1,
    "report_to": "none",
    "use_cpu": True,
    "save_strategy": "no",
    "logging_steps": 1,
}


def _rows(kind: RowKind) -> list[Row]:
    asked = [user_prompt(f"question {number} of the trainer") for number in range(4)]
    good, bad = "champ walks right now today", "the question answers the trainer"
    if kind == "preferences":
        return [Preference(prompt=one, chosen=good, rejected=bad, topic="t") for one in asked]
    if kind == "unpaired":
        return [
            UnpairedPreference(prompt=one, answer=text, label=text == good, topic="t")
            for one in asked
            for text in (good, bad)
        ]
    return [Example(prompt=one, answer=good, topic="t") for one in asked]


def _trainer(kind: RowKind, **parts: object) -> Any:
    import trl

    names = {"sft": "SFT", "preferences": "DPO", "unpaired": "KTO", "prompts": "GRPO"}
    more: dict[str, Any] = {}
    if kind == "prompts":
        more = {"num_generations": 4, "max_completion_length": 4}
        parts["reward_funcs"] = [
            # The reference answer comes beside the prompt.
            lambda completions, answer, **_: [float(len(text)) for text in answer]
        ]
    config = getattr(trl, f"{names[kind]}Config")(**STEP, **more, output_dir=str(parts.pop("out")))
    return getattr(trl, f"{names[kind]}Trainer")(args=config, **parts)


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("sft", "trl"),
        ("sft", "messages"),
        ("sft", "parquet"),
        ("preferences", "trl"),
        ("unpaired", "trl"),
        ("prompts", "trl"),
    ],
)
def test_trl_takes_a_step(tmp_path: Path, tiny_model: Path, kind: RowKind, form: RowFormat) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_rows({(kind, "train"): _rows(kind)}, form, tmp_path, "gym")
    (file,) = tmp_path.glob(f"{kind}-train.*")
    loader = "parquet" if form == "parquet" else "json"
    rows = load_dataset(
        loader, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )
    with quiet():
        trainer = _trainer(
            kind,
            model=AutoModelForCausalLM.from_pretrained(tiny_model),
            processing_class=AutoTokenizer.from_pretrained(tiny_model),
            train_dataset=rows,
            out=tmp_path / "out",
        )
        result = trainer.train()
    assert result.global_step == 1
