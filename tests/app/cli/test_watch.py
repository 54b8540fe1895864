"""`persona watch` where there is no terminal: the state printed once."""

from __future__ import annotations

import threading
import time

import pytest

from app.cli import loop
from rounds.layout import PROGRESS
from tests.commands import Commands
from tests.waiting import PATIENCE
from workbench.console import PublishedProgress
from workbench.store import write_json


def _line(output: str, stage: str) -> str:
    return next(line for line in output.splitlines() if line.strip("│ ").startswith(stage))


def test_a_stage_says_what_came_out_or_what_it_does(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    commands.finished("import", counts={"kept": 152, "loss_first": 3.0, "loss_last": 1.5})
    commands.round().partial("sft").mkdir(parents=True)
    commands.round().partial("dpo").mkdir(parents=True)
    at = time.time() - 3600
    progress = PublishedProgress("Training SFT", 44, 11, note="loss 2.3", started=at - 11, at=at)
    write_json(commands.folder() / PROGRESS, vars(progress))
    output = commands.on_round("watch").out
    assert "done" in _line(output, "import")
    assert "kept 152, loss 3.00 → 1.50" in _line(output, "import")
    doing = "Training SFT: 11/44, 11 s, about 33 s left loss 2.3; silent for 1 h"
    assert doing in _line(output, "sft")
    assert "to do" in _line(output, "evaluate")
    (commands.folder() / PROGRESS).unlink()
    assert "begun; nothing is tracked now" in _line(commands.on_round("watch").out, "dpo")


def test_it_ends_when_the_run_has_and_names_the_report(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(loop, "EVERY", 0.02)
    held = threading.Event()

    def run(until: str) -> None:
        with commands.round().locked():
            held.set()
            time.sleep(0.3)
            commands.finished(until)

    for until in ("split", "report"):  # stopped before the end, then whole
        if until == "report":
            for stage in ("import", "generate", "filter", "review", "resolve", "sft", "dpo"):
                commands.finished(stage)
            commands.finished("evaluate")
        held.clear()
        command = threading.Thread(target=run, args=(until,))
        command.start()
        assert held.wait(PATIENCE)
        out = commands.on_round("watch").out
        command.join()
        assert ("Report:" in out) == (until == "report")
    assert out.strip().endswith("report/report.html")
    assert commands.on_round("watch", "--once").out.strip().endswith("report/report.html")
