from __future__ import annotations

from pathlib import Path

import pytest

from training.kto import train_kto
from workbench.errors import UserError
from workbench.records import UnpairedPreference, user_prompt
from workbench.store import write_records

from .conftest import BASE, KTO, curve, recipe_of


def test_thumbs_up_become_likelier_than_thumbs_down(
    tiny_model: Path, sft_adapter: Path, thumbs: Path, tmp_path: Path
) -> None:
    summary = train_kto(
        recipe_of(KTO), tiny_model, sft_adapter, thumbs, thumbs, tmp_path, seed=0, base_name=BASE
    )
    steps = [entry for entry in curve(tmp_path) if "loss" in entry]
    up, down = (steps[-1][f"rewards/{kind}"] for kind in ("chosen", "rejected"))

    # With policy and reference equal every reward is 0, and so is the estimate of the KL term.
    assert steps[0]["loss"] == pytest.approx(0.5, abs=0.02)
    assert up > down + 0.05
    assert (summary.method, summary.rows, summary.steps) == ("kto", 12, 8)


def test_thumbs_of_one_kind_are_refused(
    tiny_model: Path, sft_adapter: Path, tmp_path: Path
) -> None:
    path = tmp_path / "thumbs.jsonl"
    write_records(
        path, [UnpairedPreference(prompt=user_prompt("walk?"), answer="walk", label=True)]
    )

    with pytest.raises(UserError, match=r"holds thumbs up alone.*turned down"):
        train_kto(recipe_of(KTO), tiny_model, sft_adapter, path, None, tmp_path / "out", seed=0)
