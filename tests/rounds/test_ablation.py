"""A round trained again without a group: really trained, on a tiny model, beside the round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from app.cli.compare import compare
from app.cli.next import next_
from rounds.planning.learning_curve import SHARES
from tests.written_rounds import TRAIN, written_round
from workbench.records import Example, Preference, Response
from workbench.store import read_records, write_records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two written rounds of a tiny model, and the configuration that they are made with."""
    home = tmp_path_factory.mktemp("without")
    sft = {"trainer.max_steps": 2, "trainer.save_steps": 2, "trainer.eval_strategy": "no"}
    settings = {
        "persona": str(Path("datasets/gym-trainer").resolve()),
        "model": str(tiny_model),
        "train": {"methods": ["sft"], "overrides": {"sft": sft}},
        "evaluate": {"max_new_tokens": 8, "probes": 0, "conversations": 0},
    }
    (home / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    for number in (1, 2):
        folder = written_round(home / f"runs/gym-trainer/round-{number:03d}", per_topic=4)
        (folder / "evaluate/manifest.json").unlink()  # so that no gate looks for what is not there
        rows = list(read_records(folder / "split/train.jsonl", Example))
        write_records(folder / "split/validation.jsonl", rows[:6])
        write_records(folder / "split/probes.jsonl", [])
        pairs = [
            Preference(prompt=row.prompt, chosen=row.answer, rejected="No.", topic=row.topic)
            for row in rows
        ]
        write_records(folder / "split/preferences-train.jsonl", pairs)
        bare = [
            Response(arm="bare", prompt_id=row.id, prompt=row.prompt, text=f"It depends on {n}.")
            for n, row in enumerate(rows)
        ]
        write_records(folder / "generate/baseline.jsonl", bare)
    return home / "config.yaml"


def _compared(config: Path) -> dict[str, Any]:
    arguments = ["1", "2", "--without", f"topic={TRAIN[0]}", "--json", "--config", str(config)]
    arguments += ["--runs", str(config.parent / "runs")]
    result = CliRunner().invoke(compare, arguments, catch_exceptions=False)
    found: dict[str, Any] = json.loads(result.stdout)
    (without,) = found["without"]
    return dict(without)


def test_a_group_is_left_out_trained_without_and_compared_on_the_same_prompts(
    config: Path,
) -> None:
    found = _compared(config)
    assert (found["arm"], found["rows_out"], found["rows_left"]) == ("sft", 4, 8)
    assert found["pairs_out"] == 4
    fidelity = found["differences"]["fidelity"]
    # The written round shows every trait; an untrained tiny model hardly any of them.
    assert fidelity["pairs"] == 8
    assert fidelity["mean"] > 0.3
    assert fidelity["low"] > 0
    again = config.parent / "runs/gym-trainer/round-002/.ablation/topic-soreness/round-002"
    summary = json.loads((again / "sft/summary.json").read_text("utf-8"))
    assert summary["rows"] == 8
    topics = {row.topic for row in read_records(again / "split/train.jsonl", Example)}
    assert topics == set(TRAIN[1:])
    # The round itself is as it was, and what is done is not done again.
    assert not (config.parent / "runs/gym-trainer/round-002/sft").exists()
    made = [(again / stage / "manifest.json").stat().st_mtime_ns for stage in ("sft", "evaluate")]
    assert _compared(config) == found
    assert made == [
        (again / stage / "manifest.json").stat().st_mtime_ns for stage in ("sft", "evaluate")
    ]


def test_a_learning_curve_trains_on_growing_parts_and_is_kept(config: Path) -> None:
    arguments = ["--curve", "--json", "--config", str(config), "--runs"]
    arguments += [str(config.parent / "runs")]
    result = CliRunner().invoke(next_, arguments, catch_exceptions=False)
    curve = json.loads(result.stdout)["curve"]
    assert curve["measure"] == "validation_loss"
    assert curve["sizes"] == [max(1, round(share * 12)) for share in SHARES]
    assert curve["scored"] == 6
    assert all(mean > 1 for mean in curve["means"])
    parts = sorted((config.parent / "runs/gym-trainer/round-002/.next.scratch").glob("curve-*"))
    before = [path.joinpath("manifest.json").stat().st_mtime_ns for path in parts]
    result = CliRunner().invoke(next_, arguments, catch_exceptions=False)
    assert json.loads(result.stdout)["curve"] == curve
    assert [path.joinpath("manifest.json").stat().st_mtime_ns for path in parts] == before
