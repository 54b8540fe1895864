"""A round in its middle, as its files show it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from click.testing import CliRunner

from app.cli.watch import _doing, watch
from rounds.context import open_context
from rounds.layout import PROGRESS, RoundFolder
from rounds.runner import StageSpec, run_stage
from workbench.console import publishing, track
from workbench.store import write_json


def _shown(runs: Path) -> str:
    arguments = ["--persona", "datasets/gym-trainer", "--runs", str(runs)]
    return CliRunner().invoke(watch, arguments, catch_exceptions=False, color=False).output


def _line(shown: str, stage: str) -> str:
    return next(line for line in shown.splitlines() if line.strip("│ ").startswith(stage))


def test_done_running_and_waiting_stages_are_told_apart(tmp_path: Path) -> None:
    round_ = RoundFolder(tmp_path / "gym-trainer" / "round-001")
    seen: list[str] = []

    def imported(work: object) -> None:
        work.counts.update(kept=152)  # type: ignore[attr-defined]

    def trained(work: object) -> None:
        with track("Training SFT", 44) as advance:
            advance(11, note="loss 2.335")
            seen.append(_shown(tmp_path))

    run_stage(round_, StageSpec("import", imported), seed=0)
    run_stage(round_, StageSpec("sft", trained), seed=0)
    assert "done" in _line(seen[0], "import")
    assert "kept 152" in _line(seen[0], "import")
    # The first news of a piece of work is told at once, later ones once a second.
    assert "Training SFT: 0/44" in seen[0]
    assert "to do" in _line(seen[0], "evaluate")
    assert "grpo" not in seen[0]
    assert "done" in _line(_shown(tmp_path), "sft")


def test_published_news_go_with_the_work_that_they_are_about(tmp_path: Path) -> None:
    path = tmp_path / PROGRESS
    with publishing(path), track("asking", 2) as advance:
        advance(2, note="done")
        news = json.loads(path.read_text(encoding="utf-8"))
    assert (news["label"], news["done"], news["total"], news["note"]) == ("asking", 2, 2, "done")
    assert not path.exists()


def test_what_a_killed_command_has_left_is_told_by_its_silence(tmp_path: Path) -> None:
    folder = tmp_path / "gym-trainer" / "round-001"
    (folder / ".sft.partial").mkdir(parents=True)
    news = {"label": "Training SFT", "done": 11, "total": 44, "note": ""}
    context = open_context(persona=Path("datasets/gym-trainer"), runs=tmp_path)
    for ago, told in ((5, "33 s left"), (3600, "33 s left; silent for 60 min")):
        at = time.time() - ago
        write_json(folder / PROGRESS, news | {"started": at - 11, "at": at})
        assert _doing(context) == f"Training SFT: 11/44, 11 s, {told}"
    (folder / PROGRESS).unlink()
    assert _doing(context) == "begun; nothing is tracked now"
