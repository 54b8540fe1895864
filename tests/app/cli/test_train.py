"""Each method as a command, on the tiny model: what it reads, writes and goes on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from app.cli.main import main
from rounds.layout import Manifest
from workbench.errors import EXIT_USER_ERROR
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
def options(repo: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A round that is split, and the options that name it."""
    folder = tmp_path_factory.mktemp("round")
    sides = folder / "runs" / "gym-trainer" / "round-001" / "split"
    for side, count in (("train", 8), ("validation", 4), ("test", 2)):
        prompts = [user_prompt(f"{side} question {n} of the trainer") for n in range(count)]
        write_records(
            sides / f"{side}.jsonl", [Example(prompt=p, answer="champ walks") for p in prompts]
        )
        write_records(
            sides / f"preferences-{side}.jsonl",
            [Preference(prompt=p, chosen="champ walks", rejected="it sets") for p in prompts],
        )
    grpo = {
        "trainer.max_completion_length": 8,
        "trainer.per_device_eval_batch_size": 4,
        "trainer.num_generations": 4,
    }
    config = {
        "persona": str(repo / "datasets/gym-trainer"),
        "model": str(tiny_model),
        "train": {
            "methods": ["sft", "grpo"],
            "overrides": {
                "sft": SHORT,
                "dpo": SHORT,
                "kto": {k: v for k, v in SHORT.items() if "eval" not in k},
                "grpo": {**{k: v for k, v in SHORT.items() if "eval" not in k}, **grpo},
            },
        },
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return ["--config", str(path), "--runs", str(folder / "runs")]


def round_of(options: list[str]) -> Path:
    return Path(options[-1]) / "gym-trainer" / "round-001"


def test_grpo_before_sft_says_what_is_missing(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "grpo", *options]) == EXIT_USER_ERROR
    assert "grpo needs sft/adapter, which is not there yet" in capsys.readouterr().err


def test_every_method_trains_from_the_sft_adapter(options: list[str]) -> None:
    for method in ("sft", "dpo", "grpo", "kto"):
        assert main(["train", method, *options]) == 0
        folder = round_of(options) / method
        assert (folder / "adapter" / "adapter_model.safetensors").exists()
        manifest = Manifest.load(folder / "manifest.json")
        assert ("sft/adapter" in manifest.inputs) == (method != "sft")
    unpaired = (round_of(options) / "kto" / "unpaired-train.jsonl").read_text().splitlines()
    good = [json.loads(line)["label"] for line in unpaired]
    gain = json.loads((round_of(options) / "grpo" / "summary.json").read_text())["held_out_reward"]

    # 8 rows that reviewers took, and the 8 answers that they turned down.
    assert (good.count(True), good.count(False)) == (8, 8)
    assert gain["prompts"] == 4


def test_a_plan_is_of_the_round_s_rows_and_of_the_device_that_is_named(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "sft", "--plan", "--json", "--device-memory"]

    assert main([*asked, "16GiB", *options]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["steps"], plan["memory_mib"]) == (8, 2, 16384)
    assert plan["fits"] and plan["seconds"] is None
    assert main([*asked, "16", *options]) == EXIT_USER_ERROR
    assert "'16' is 16 bytes — such as 16GiB" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--recipe", "sft-dora"], ["--device-memory", "16GiB"], ["--json"]]
)
def test_an_option_of_the_plan_does_not_train_something_else(
    option: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "sft", *option, *options]) == EXIT_USER_ERROR
    assert f"{option[0]}: is for --plan alone — add --plan" in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_is_told_before_anything_runs(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.util import find_spec

    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed here")

    assert main(["train", "sft", *options, "--force", "--tracker", "wandb"]) == EXIT_USER_ERROR
    assert "the tracker wandb is not installed — pip install wandb" in capsys.readouterr().err


def test_unsloth_says_what_it_misses(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    path = Path(options[1])
    config = yaml.safe_load(path.read_text())
    config["train"]["sft"] = "sft-unsloth"
    other = path.with_name("unsloth.yaml")
    other.write_text(yaml.safe_dump(config))

    assert main(["train", "sft", "--config", str(other), *options[2:]]) == EXIT_USER_ERROR
    assert "engine: unsloth needs a GPU, which is not here" in capsys.readouterr().err
