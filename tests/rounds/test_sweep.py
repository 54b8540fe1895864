"""Sweep and bake-off: what decides, what is held against what, and a call that was killed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import rounds.sweep
from app.cli.main import main
from app.cli.sweep import parse_try
from evaluation.sweep import SweepTrial
from rounds.context import RoundContext, open_context
from rounds.layout import SWEEP, TEST, VALIDATION
from rounds.pipeline import run_stages
from rounds.sweep import run_bakeoff, run_sweep
from tests.round_to_evaluate import write_round
from tests.training.conftest import QUANTIZED, TRAINER
from training.run import Recipe
from workbench.errors import UserError
from workbench.records import Example, user_prompt
from workbench.store import read_records, write_records

SPACE: dict[str, list[Any]] = {"trainer.learning_rate": [0.001, 0.02], "lora.r": [2]}


@pytest.fixture
def context(repo: Path, tiny_model: Path, tmp_path: Path) -> RoundContext:
    """A round that is split, without a test row: whoever reads one fails."""
    splits = tmp_path / "runs" / "gym-trainer" / "round-001" / "split"
    for split, count in (("train", 8), ("validation", 8)):
        rows = [
            Example(prompt=user_prompt(f"{split} {n} of the trainer"), answer="the trainer walks.")
            for n in range(count)
        ]
        write_records(splits / f"{split}.jsonl", rows)
    recipe = {
        "method": "sft",
        "trainer": {**TRAINER, "max_steps": 4, "save_steps": 2}
        | {"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 8},
        "lora": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        "quantization": QUANTIZED,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    settings = {
        "persona": str(repo / "datasets/gym-trainer"),
        "model": str(tiny_model),
        "train": {"sft": str(tmp_path / "recipe.yaml")},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    return open_context(config=tmp_path / "run.yaml", runs=tmp_path / "runs")


Trained = Callable[..., SweepTrial]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """In place of trainings: rows are learnt best at a rate of 0.01 and a rank of 2."""
    calls: list[dict[str, Any]] = []

    def train(
        _: RoundContext, recipe: Recipe, out: Path, rows: Sequence[Example], watch: object
    ) -> SweepTrial:
        assert recipe.lora is not None
        calls.append({"rate": recipe.trainer["learning_rate"], "r": recipe.lora["r"]})
        loss = 5.0 + abs(recipe.trainer["learning_rate"] - 0.01) * 100 + 0.1 * recipe.lora["r"]
        by_row = {row.id: loss + n / 100 for n, row in enumerate(rows)}
        return SweepTrial(changes={}, loss=loss, base_loss=9.0, by_row=by_row)

    monkeypatch.setattr(rounds.sweep, "_train", train)
    return calls


def test_the_recipe_itself_comes_first_and_the_best_is_held_against_it(
    context: RoundContext, trained: list[dict[str, object]]
) -> None:
    report = run_sweep(context, "sft", SPACE, trials=10)
    assert trained[0] == {"rate": 0.01, "r": 4}
    # Three rates and two ranks, the recipe's own among them; none is paid for twice.
    assert len(trained) == len({str(one) for one in trained}) == len(report.trials) == 6
    assert report.best.changes == {"trainer.learning_rate": 0.01, "lora.r": 2}
    assert report.reference == {"trainer.learning_rate": 0.01, "lora.r": 4}
    losses = [one.loss or 0 for one in report.trials]
    assert losses == sorted(losses)
    assert report.gain is not None and report.gain.mean == pytest.approx(0.2)
    assert report.gain.pairs == 8 and report.is_sure
    assert report.advice.startswith("take trainer.learning_rate=0.01, lora.r=2: 0.20 nats")


def test_other_prompts_to_rehearse_are_other_trainings(
    context: RoundContext, trained: list[dict[str, object]], tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts" / "en.jsonl"
    prompts.parent.mkdir()
    changes = {"rehearsal": prompts.parent, "overrides": {"sft": {"rehearsal.rows": 2}}}
    train = context.config.train.model_copy(update=changes)
    own = replace(context, config=context.config.model_copy(update={"train": train}))
    for text, trainings in (("one", 2), ("one", 2), ("two", 4)):
        prompts.write_text(text, encoding="utf-8")
        run_sweep(own, "sft", {"lora.r": [2]}, trials=2)
        assert len(trained) == trainings


def test_a_best_that_chance_explains_is_not_advised(
    context: RoundContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(
        _: RoundContext, recipe: Recipe, out: Path, rows: Sequence[Example], watch: object
    ) -> SweepTrial:
        rank = (recipe.lora or {})["r"]
        by_row = {r.id: 5.0 + ((-1) ** n - 0.1) * (rank == 2) for n, r in enumerate(rows)}
        return SweepTrial(changes={}, loss=sum(by_row.values()) / 8, by_row=by_row)

    monkeypatch.setattr(rounds.sweep, "_train", train)
    report = run_sweep(context, "sft", {"lora.r": [2]}, trials=4)
    assert report.best.changes == {"lora.r": 2} and not report.is_sure
    assert report.advice.startswith("keep lora.r=4") and "chance may explain" in report.advice


def test_a_killed_sweep_goes_on_and_pays_for_nothing_twice(
    context: RoundContext, trained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = rounds.sweep._train

    def dies(*args: Any) -> SweepTrial:
        if len(trained) == 2:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(rounds.sweep, "_train", dies)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(context, "sft", SPACE, trials=4)
    before = list(trained)
    monkeypatch.setattr(rounds.sweep, "_train", plain)
    report = run_sweep(context, "sft", SPACE, trials=4)
    assert trained[:2] == before and len(trained) == 4 == len(report.trials)
    run_sweep(context, "sft", SPACE, trials=4)
    assert len(trained) == 4
    run_sweep(context, "sft", SPACE, trials=6)
    assert len(trained) == 6


def test_real_trainings_read_no_test_row_and_leave_no_adapter(
    context: RoundContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(tmp_path / "run.yaml"), "--runs", str(tmp_path / "runs")]
    assert main(["sweep", "--try", "trainer.learning_rate=1e-6", "--trials", "2", *options]) == 0
    out = capsys.readouterr().out
    assert "keep trainer.learning_rate=0.01" in out or "take trainer.learning_rate=1e-06" in out
    assert not context.round.path(TEST).exists()
    report = json.loads(context.round.path(SWEEP).read_text("utf-8"))
    learnt, still = sorted(report["trials"], key=lambda one: one["loss"])
    # At so small a rate nothing is learnt: the base's own loss, per hundred characters.
    assert still["loss"] == pytest.approx(still["base_loss"], rel=0.01)
    assert learnt["loss"] < still["loss"] and len(learnt["by_row"]) == 8
    scratch = context.round.folder / ".sweep.scratch"
    assert not list(scratch.rglob("adapter_model.safetensors"))


_OPENED: list[str] = []
"""Files of a test split that this process opened, by whatever library."""


@lru_cache(maxsize=1)
def _watch_test_splits() -> None:
    """Hear of every file that is opened: a hook of the interpreter, which no library passes by."""

    def heard(event: str, args: tuple[object, ...]) -> None:
        if event == "open" and str(args[0]).endswith("split/test.jsonl"):
            _OPENED.append(str(args[0]))

    sys.addaudithook(heard)


def test_the_test_split_is_opened_by_the_evaluation_alone_once_the_choice_is_made(
    repo: Path, tiny_model: Path, tmp_path: Path, context: RoundContext
) -> None:
    folder, config, _ = write_round(tmp_path / "own", repo / "datasets/gym-trainer", tiny_model)
    rows = list(read_records(folder / "split" / "train.jsonl", Example))
    write_records(folder / "split" / "validation.jsonl", rows[:4])
    settings = json.loads(config.read_text("utf-8"))
    settings["train"] = {"sft": str(tmp_path / "recipe.yaml")}
    settings["evaluate"] |= {"arms": ["base"], "conversations": 0, "drift": 0}
    config.write_text(json.dumps(settings), "utf-8")
    own = open_context(config=config, runs=tmp_path / "own" / "runs")
    _watch_test_splits()
    _OPENED.clear()
    report = run_sweep(own, "sft", {"lora.r": [2]}, trials=2)
    assert _OPENED == []
    # What decided is the validation rows, each training's loss being their mean.
    for one in report.trials:
        assert set(one.by_row) == {row.id for row in rows[:4]}
        assert one.loss == pytest.approx(sum(one.by_row.values()) / 4)
    run_stages(own, ["evaluate"])
    assert set(_OPENED) == {str(own.round.path(TEST))}


def test_bases_are_held_against_the_first_on_the_same_characters(
    context: RoundContext, trained: list[dict[str, object]], tiny_model: Path, tmp_path: Path
) -> None:
    other = str(shutil.copytree(tiny_model, tmp_path / "other"))
    report = run_bakeoff(context, (str(tiny_model), other), "sft")
    assert [one.changes["model"] for one in report.trials] == [str(tiny_model), other]
    assert len(trained) == 2 and report.reference == {"model": str(tiny_model)}
    assert report.advice == f"keep model={tiny_model}: nothing that was tried has a lower loss"
    with pytest.raises(UserError, match="takes two bases or more") as mistake:
        run_bakeoff(context, (other, other), "sft")
    assert mistake.value.where == "--base"


def test_mistakes_come_before_any_training(
    context: RoundContext, trained: list[dict[str, object]]
) -> None:
    with pytest.raises(UserError, match=r"does not say 'trainer.weight_decay' — one of trainer"):
        run_sweep(context, "sft", {"trainer.weight_decay": [0.1]}, trials=2)
    with pytest.raises(UserError, match="out of range"):
        run_sweep(context, "sft", {"trainer.learning_rate": [5.0]}, trials=2)
    context.round.path(VALIDATION).write_text("", "utf-8")
    with pytest.raises(UserError, match="there are no validation rows to decide by"):
        run_sweep(context, "sft", SPACE, trials=2)
    assert trained == []
    assert parse_try("a.b=1e-4, 8,x") == ("a.b", [0.0001, 8, "x"])
    with pytest.raises(UserError, match="names no key with values"):
        parse_try("lora.r=")
