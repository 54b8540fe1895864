"""The benchmark of a GPU: it runs at its smallest without one, and no part costs the others."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def bench(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    module = importlib.import_module("bench_gpu")
    monkeypatch.setattr(module, "HOME", tmp_path / "home")
    return module


def test_a_part_that_fails_or_hangs_costs_the_others_nothing(
    bench: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[str, str]] = []

    def measure(kind: str, method: str, *_: object, seconds: float, **__: object) -> dict[str, Any]:
        asked.append((method, kind))
        if (method, kind) == ("sft", "bare"):
            raise subprocess.TimeoutExpired("child", seconds)
        if (method, kind) == ("dpo", "ours"):
            raise subprocess.CalledProcessError(137, "child")
        return {"step": 1.0, "peak": 100.0, "losses": [2.0, 1.0], "rate": 50.0}

    monkeypatch.setattr(importlib.import_module("bench_training"), "measure", measure)
    with pytest.raises(SystemExit) as left:
        bench.Bench(tmp_path, 2, True).run(["sft", "dpo"])
    assert left.value.code == 1 and asked[-1] == ("dpo", "bare")
    figures = json.loads((tmp_path / "home" / "smallest.json").read_text("utf-8"))
    failed = {name: one["failed"] for name, one in figures.items() if "failed" in one}
    assert set(failed) == {"sft bare", "dpo ours"} and "137" in failed["dpo ours"]
    assert figures["dpo bare"]["rate"] == 50.0
    assert "sft planned" in capsys.readouterr().out
    # Where no time is left nothing more is begun.
    late = bench.Bench(tmp_path, 2, True)
    late.end = 0.0
    late.part("grpo ours", "ours", "grpo")
    assert late.figures["grpo ours"]["failed"] == "no time left" and asked[-1] == ("dpo", "bare")


def test_what_is_installed_beside_the_machines_torch_is_pinned(bench: ModuleType) -> None:
    pins = bench.pins()
    assert "torch" not in pins and not [one for one in pins if one.startswith("nvidia")]
    assert {name for name in bench.NEEDED if name not in pins} == set()


@pytest.mark.slow
def test_it_runs_at_its_smallest_without_a_gpu(repo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/bench_gpu.py", "--smallest", "--only", "sft"],
        cwd=repo,
        env={**os.environ, "PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads((repo / "build/bench-gpu/smallest.json").read_text("utf-8"))
    assert set(figures) == {"base", "sft plan", "sft ours", "sft bare"}
    # The same rows from the same seed: the workbench trains as the bare script does.
    ours, bare = (figures[f"sft {kind}"] for kind in ("ours", "bare"))
    assert ours["losses"] == pytest.approx(bare["losses"], rel=0.02)
    assert ours["peak"] > 0 and figures["sft plan"]["peak"] > 0 and ours["rate"] > 0
    assert "4 of 4 parts" in done.stdout and "it is not measured" in done.stdout
