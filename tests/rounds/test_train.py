"""The training stages on a split round: what each starts from, and what it costs before it runs."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from rounds.context import RoundContext, open_context
from rounds.estimates import estimate_training
from rounds.layout import adapter, trained_rows, unpaired
from rounds.pipeline import run_stages
from workbench.config import METHODS
from workbench.errors import UserError
from workbench.records import Example, Preference, user_prompt
from workbench.store import write_records

pytestmark = pytest.mark.slow

SHORT = {
    "trainer.max_steps": 2,
    "trainer.save_steps": 2,
    "trainer.eval_strategy": "no",
    "trainer.per_device_train_batch_size": 4,
}


@pytest.fixture(scope="module")
def config(repo: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of a round that is split; its rounds lie beside it."""
    folder = tmp_path_factory.mktemp("round")
    splits = folder / "runs" / "gym-trainer" / "round-001" / "split"
    for split, count in (("train", 8), ("validation", 4), ("test", 2)):
        prompts = [user_prompt(f"{split} question {n} of the trainer") for n in range(count)]
        write_records(
            splits / f"{split}.jsonl", [Example(prompt=p, answer="champ walks") for p in prompts]
        )
        write_records(
            splits / f"preferences-{split}.jsonl",
            [Preference(prompt=p, chosen="champ walks", rejected="it sets") for p in prompts],
        )
    grpo = {
        "trainer.max_completion_length": 8,
        "trainer.per_device_eval_batch_size": 4,
        "trainer.num_generations": 4,
    }
    settings = {
        "persona": str(repo / "datasets/gym-trainer"),
        "model": str(tiny_model),
        "train": {
            "methods": ["sft", "grpo"],
            "overrides": {
                "sft": {**SHORT, "rehearsal.rows": 0},
                "dpo": SHORT,
                "kto": {k: v for k, v in SHORT.items() if "eval" not in k},
                "grpo": {**{k: v for k, v in SHORT.items() if "eval" not in k}, **grpo},
            },
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def context(config: Path) -> RoundContext:
    return open_context(config=config, runs=config.parent / "runs")


def test_grpo_before_sft_says_what_is_missing(context: RoundContext) -> None:
    with pytest.raises(UserError, match="grpo needs sft, which is not done yet"):
        run_stages(context, ["grpo"])


def test_what_the_base_itself_answers_is_trained_on_beside_the_rows(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the stage; what a random base says never ends, and is taken here all the same."""
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    lines = [
        {"id": f"r{n}", "prompt": f"Say {n}", "checks": [{"kind": "min_words", "min": 1}]}
        for n in range(3)
    ]
    (prompts / "en.jsonl").write_text("\n".join(map(json.dumps, lines)))
    settings = yaml.safe_load(config.read_text())
    settings["train"]["rehearsal"] = str(prompts)
    rehearsed = {"rehearsal.rows": 2, "rehearsal.max_new_tokens": 8}
    settings["train"]["overrides"]["sft"] |= rehearsed
    own = tmp_path / "run.yaml"
    own.write_text(yaml.safe_dump(settings))
    shutil.copytree(config.parent / "runs", tmp_path / "runs")
    monkeypatch.setattr("rounds.rehearsal._right", lambda answer, _: bool(answer.text.strip()))
    context = open_context(config=own, runs=tmp_path / "runs")

    run_stages(context, ["sft"], force=["sft"])

    manifest = context.round.manifest("sft")
    assert manifest is not None and manifest.counts["rehearsed"] == 2
    assert any("rehearsal" in name for name in manifest.inputs)
    rows = context.round.read(trained_rows("sft"))
    assert [row.origin for row in rows] == ["seed"] * 8 + ["rehearsal"] * 2


def test_every_method_that_makes_no_adapter_trains_from_that_of_sft(context: RoundContext) -> None:
    for outcome in run_stages(context, METHODS):
        weights = context.round.path(adapter(outcome.stage)) / "adapter_model.safetensors"
        assert weights.exists()
        goes_on = outcome.stage not in ("sft", "sdft")
        assert (adapter("sft").path in outcome.manifest.inputs) == goes_on
    labels = [row.label for row in context.round.read(unpaired("train"))]
    manifest = context.round.manifest("grpo")

    # 8 rows that reviewers took, and the 8 answers that they turned down.
    assert (labels.count(True), labels.count(False)) == (8, 8)
    assert manifest is not None and manifest.counts["held_out_reward"]["prompts"] == 4


def test_an_estimate_is_of_the_rounds_rows_and_of_the_device_that_is_named(
    context: RoundContext,
) -> None:
    plan = estimate_training(context, "sft", gpu_memory=16 << 30)
    assert (plan.rows, plan.steps, plan.memory_mib) == (8, 2, 16384)
    assert plan.fits and plan.seconds is None


def test_a_tracker_that_is_not_installed_is_a_mistake_before_anything_runs(
    context: RoundContext,
) -> None:
    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")
    with pytest.raises(UserError, match="the tracker wandb is not installed — pip install wandb"):
        run_stages(context.with_settings("train", tracker="wandb"), ["sft"], force=["sft"])


def test_unsloth_says_what_it_misses(config: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    settings = yaml.safe_load(config.read_text())
    settings["train"]["sft"] = "sft-unsloth"
    other = config.with_name("unsloth.yaml")
    other.write_text(yaml.safe_dump(settings))
    context = open_context(config=other, runs=config.parent / "runs")
    with pytest.raises(UserError, match="engine: unsloth needs a GPU, which is not here"):
        run_stages(context, ["sft"])
