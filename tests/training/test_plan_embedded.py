"""The plan against a real run of the embedded model, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.run import TrainSummary
from workbench.records import Example, user_prompt
from workbench.store import read_json_lines, write_records

pytestmark = pytest.mark.slow
RUN = """
import json, sys
from pathlib import Path
from training.recipe import load_recipe, recipe_path
from training.run import TrainingRun
from training.trainer import train
from workbench.inference.base_models import resolve_model
rows, out = map(Path, sys.argv[1:])
recipe = load_recipe(recipe_path("sft-embedded"), {"trainer.max_steps": 2, "trainer.save_steps": 2})
base = resolve_model("smollm2-135m")
train(TrainingRun(recipe=recipe, model=base, base_name=str(base), train=rows, out=out, seed=0))
"""


def test_the_planned_peak_is_within_15_percent_of_the_measured_one(
    repo: Path, tmp_path: Path
) -> None:
    seeds = [row for _, row in read_json_lines(repo / "datasets/gym-trainer/seeds.jsonl")][:24]
    rows = [Example(prompt=user_prompt(r["instruction"]), answer=r["output"]) for r in seeds]
    write_records(tmp_path / "train.jsonl", rows)

    # A fresh process: what earlier tests left in this one's heap would be used again.
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path / "train.jsonl"), str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        cwd=repo,
    )

    text = (tmp_path / "out" / "summary.json").read_text(encoding="utf-8")
    summary = TrainSummary.model_validate(json.loads(text))
    assert summary.planned_peak_mib is not None
    assert summary.planned_peak_mib == pytest.approx(summary.peak_resident_mib, rel=0.15)
    assert f"planned {summary.planned_peak_mib:,.0f} MiB" in done.stderr
