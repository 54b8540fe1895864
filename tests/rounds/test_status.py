"""A round in its middle: stages done, begun and to do, and what a killed command has left."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rounds.layout import GENERATE_DROPS, GENERATED, PROGRESS, curve
from rounds.runner import StageSpec, Work, run_stage
from rounds.status import (
    RoundStatus,
    StageStatus,
    live_curves,
    main_counts,
    round_status,
    rows_now,
)
from tests.commands import Workspace
from workbench.console import OLD, PublishedProgress, publishing, read_progress, track
from workbench.records import Drop, Example, user_prompt
from workbench.store import replace_folder, write_json, write_records


def _stage(status: RoundStatus, name: str) -> StageStatus:
    return next(one for one in status.stages if one.stage == name)


def test_done_begun_and_waiting_stages_are_told_apart(workspace: Workspace) -> None:
    seen: list[RoundStatus] = []

    def imported(work: Work) -> None:
        work.counts.update(kept=152)

    def trained(_: Work) -> None:
        with track("Training SFT", 44) as advance:
            advance(11, note="loss 2.335")
            seen.append(round_status(workspace.context()))

    run_stage(workspace.round(), StageSpec("import", imported), seed=0)
    run_stage(workspace.round(), StageSpec("sft", trained), seed=0)
    (status,) = seen
    imports = _stage(status, "import")
    assert imports.state == "done"
    assert imports.manifest and imports.manifest.counts == {"kept": 152}
    progress = _stage(status, "sft").progress
    # The first news of a piece of work is published at once, later ones once a second.
    assert progress and (progress.label, progress.done, progress.total) == ("Training SFT", 0, 44)
    assert _stage(status, "evaluate").state == "to do"
    assert "grpo" not in {one.stage for one in status.stages}
    assert _stage(round_status(workspace.context()), "sft").state == "done"


def test_progress_goes_with_the_work_that_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / PROGRESS
    with publishing(path), track("asking", 2) as advance:
        advance(2, note="done")
        progress = read_progress(path)
        assert json.loads(path.read_text("utf-8"))["label"] == "asking"
    assert progress and (progress.done, progress.total, progress.note) == (2, 2, "done")
    assert read_progress(path) is None


def test_memory_on_a_gpu_is_published_by_whoever_computes_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {0: 3 << 30, 1: 1 << 30}
    cuda = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 2, memory_reserved=held.__getitem__
    )
    path = tmp_path / PROGRESS
    for module, memory in ((None, None), (SimpleNamespace(cuda=cuda), 4096.0)):
        monkeypatch.setitem(sys.modules, "torch", module)
        with publishing(path), track("Training SFT", 2) as advance:
            advance(2)
            progress = read_progress(path)
        assert progress and progress.gpu_mib == memory


def test_counts_of_a_stage_are_numbers_of_rows_and_few() -> None:
    numbers = {f"kept_{n}": n for n in range(1, 9)}
    counts = {"seed": 7, "complete": True, "shapes": {"csv": 2}, "dropped": 0, **numbers}
    assert list(main_counts(counts)) == [f"kept_{n}" for n in range(1, 6)]


def test_of_a_long_curve_so_many_steps_are_read_and_the_evaluations_all(
    workspace: Workspace,
) -> None:
    steps = [{"step": n, "eval_loss" if n % 501 == 0 else "loss": 1.0} for n in range(1, 3001)]
    path = workspace.round().path(curve("sft"))
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(step) + "\n" for step in steps) + '{"step"', "utf-8")
    own = live_curves(workspace.round())["sft"]
    assert len(own) < 140
    assert {501, 1002, 2505} <= {step["step"] for step in own}
    assert (own[0]["step"], own[-1]["step"] > 2970) == (1, True)


def _left_behind(workspace: Workspace, seconds: float) -> PublishedProgress | None:
    """Return the progress of a stage whose command was last heard of so long ago."""
    workspace.round().partial("sft").mkdir(parents=True, exist_ok=True)
    at = time.time() - seconds
    published = PublishedProgress("Training SFT", 44, 11, started=at - 11, at=at)
    write_json(workspace.folder() / PROGRESS, vars(published))
    return _stage(round_status(workspace.context()), "sft").progress


def test_what_a_killed_command_has_left_is_known_by_its_silence(workspace: Workspace) -> None:
    alive, dead = (_left_behind(workspace, seconds) for seconds in (5, 3600))
    assert alive and dead
    assert (round(alive.seconds), round(alive.seconds_left or 0)) == (11, 33)
    assert alive.silent < OLD
    assert PublishedProgress("Training SFT", 44, 0, started=0, at=9).seconds_left is None
    warm = PublishedProgress("Training SFT", 5, 3, started=0, first=1, first_at=60, at=64)
    assert warm.seconds_left == 4, "the minute before the first step is no pace"
    assert round(dead.silent / 60) == 60
    (workspace.folder() / PROGRESS).unlink()
    begun = _stage(round_status(workspace.context()), "sft")
    assert (begun.state, begun.progress) == ("begun", None)


def test_rows_are_of_one_run_while_their_stage_is_done_again(workspace: Workspace) -> None:
    """Each run leaves as many rows as drops; rows of one beside drops of another differ."""
    context, stop = workspace.context(), threading.Event()

    def run(count: int) -> None:
        rows = [Example(prompt=user_prompt(f"{n} of {count}?"), answer="So.") for n in range(count)]
        drops = [Drop.of(row, "generate", "judge_failed", "") for row in rows]
        new = context.round.folder / "new"
        write_records(new / GENERATED.name, rows)
        write_records(new / GENERATE_DROPS.name, drops)
        replace_folder(new, context.round.stage("generate"))

    def again() -> None:
        while not stop.is_set():
            for count in (3, 40):
                run(count)

    run(3)
    thread = threading.Thread(target=again)
    thread.start()
    try:
        for _ in range(150):
            rows = rows_now(context)
            assert len(rows) in (0, 6, 80)  # none in the moment between the two folders
            assert sum(bool(row.dropped) for row in rows) == len(rows) / 2
    finally:
        stop.set()
        thread.join()
