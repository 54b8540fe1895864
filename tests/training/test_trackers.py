"""Every installed tracker on a real run without a network: it writes files and asks for nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.offline import LoopbackOnly
from workbench.store import write_json

from .conftest import SFT

pytestmark = pytest.mark.slow
FILES = {
    "tensorboard": "tracking/sft/**/events.out.tfevents.*",
    "trackio": "tracking/sft/**/*.db",
    "wandb": "tracking/sft/**/*.wandb",
}
RUN = """
import json, sys
from pathlib import Path
from training.run import Recipe, TrainingRun
from training.trainer import train
model, rows, recipe, out, *words = sys.argv[1:]
recipe = Recipe.model_validate_json(Path(recipe).read_text())
for word in words:
    train(TrainingRun(recipe=recipe, model=model, base_name=model, train=rows, seed=0,
                      out=Path(out) / word / "sft", tracker=word))
"""


def test_trackers_write_beside_the_run_and_leave_loopback_alone(
    tiny_model: Path, examples: Path, tmp_path: Path
) -> None:
    words = [word for word in FILES if find_spec(word)]
    if not words:
        pytest.skip("no tracker is installed: pip install tensorboard, trackio or wandb")
    if reason := LoopbackOnly.missing():
        pytest.skip(reason)
    few = {**SFT, "trainer": {**SFT["trainer"], "max_steps": 2, "save_steps": 2}}
    write_json(tmp_path / "recipe.json", few)
    given = map(str, (tiny_model, examples, tmp_path / "recipe.json", tmp_path))

    with LoopbackOnly(tmp_path) as inside:
        command = inside.command(sys.executable, "-c", RUN, *given, *words)
        subprocess.run(command, check=True)
        left = inside.attempts_to_leave()

    for word in words:
        written = list((tmp_path / word).glob(FILES[word]))
        assert any(file.stat().st_size for file in written), word
        assert (tmp_path / word / "sft" / "adapter").is_dir()
    assert left == 0
