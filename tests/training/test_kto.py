from __future__ import annotations

from pathlib import Path

import pytest

from training.trainer import train
from workbench.errors import UserError
from workbench.records import UnpairedPreference, user_prompt
from workbench.store import write_records

from .conftest import KTO, curve, recipe_of, run_of


def test_desirable_answers_become_likelier_than_undesirable_ones(
    tiny_model: Path, sft_adapter: Path, unpaired: Path, tmp_path: Path
) -> None:
    summary = train(
        run_of(
            recipe_of(KTO), tiny_model, unpaired, tmp_path, validation=unpaired, adapter=sft_adapter
        )
    )
    steps = [entry for entry in curve(tmp_path) if "loss" in entry]
    up, down = (steps[-1][f"rewards/{kind}"] for kind in ("chosen", "rejected"))

    # With policy and reference equal every reward is 0, and so is the estimate of the KL term.
    assert steps[0]["loss"] == pytest.approx(0.5, abs=0.02)
    assert up > down + 0.05
    assert (summary.method, summary.rows, summary.steps) == ("kto", 12, 8)


def test_answers_of_one_kind_are_refused(
    tiny_model: Path, sft_adapter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "unpaired.jsonl"
    write_records(
        path, [UnpairedPreference(prompt=user_prompt("walk?"), answer="walk", label=True)]
    )

    with pytest.raises(UserError, match=r"holds desirable answers alone.*turned down"):
        train(run_of(recipe_of(KTO), tiny_model, path, tmp_path / "out", adapter=sft_adapter))
