"""A finished first round at the smallest size: made once, looked at by the tests of the loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rounds.layout import STAGES
from tests.kills import moments
from tests.offline import LoopbackOnly

LOOP = [stage for stage in STAGES if stage not in ("grpo", "kto", "sdft")]
"""The stages of a run that asks for nothing else."""
SIDES = ("train", "validation", "test")
KILLS = int(os.environ.get("KILLS", "1"))
"""How often the run is killed at a random moment, besides the two moments that are named."""


@dataclass(frozen=True)
class Loop:
    """What is known after the loop."""

    folder: Path
    runs: Path
    output: str
    again: str
    """What the same command printed once all was done, with the modules that it imported."""
    attempts: int | None


def options(runs: Path) -> list[str]:
    return ["--preset", "smoke", "--runs", str(runs)]


def persona(runs: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "app.cli.main", *arguments, *options(runs)]


@dataclass
class Runner:
    """Runs the command, inside the namespace where there is one."""

    repo: Path
    runs: Path
    inside: LoopbackOnly | None

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        command = persona(self.runs, *arguments)
        return subprocess.Popen(
            self.inside.command(*command) if self.inside else command,
            cwd=self.repo,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PERSONA_ARGILLA_HOME": "", **variables},
        )

    def killed_when(self, ready: Callable[[float], bool]) -> None:
        """Start the run and kill its whole process group as soon as ``ready``.

        ``ready`` is told when the run began, in seconds since 1970.
        """
        began = time.time()
        process = self.start("run")
        while not ready(began):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def finished(self, **variables: str) -> str:
        process = self.start("run", **variables)
        output = process.communicate()[0]
        assert process.returncode == 0, output
        return output


def looped(repo: Path, folder: Path) -> Iterator[Loop]:
    """Yield a finished first round in ``folder``; the namespace that it ran in is there so long."""
    runs = folder / "runs"
    round_ = runs / "gym-trainer" / "round-001"
    missing = LoopbackOnly.missing()
    inside = None if missing else LoopbackOnly(folder).__enter__()
    runner = Runner(repo, runs, inside)
    try:
        database = runs / ".argilla" / "argilla.db"
        ready: dict[str, Callable[[float], bool]] = {
            # Argilla runs, some responses are submitted.
            "review": lambda began: _database_holds_a_response(database),
            "sft": lambda began: (round_ / ".sft.partial").exists(),
        }
        due = moments(KILLS, seed=KILLS)
        for stage in LOOP:
            if stage in ready:
                runner.killed_when(ready[stage])
            for moment in (one for one in due if one.stage == stage):
                runner.killed_when(partial(moment.reached, round_))
        output = runner.finished()
        again = runner.finished(PYTHONPROFILEIMPORTTIME="1")
        attempts = inside.attempts_to_leave() if inside else None
        yield Loop(round_, runs, output, again, attempts)
    finally:
        if inside:
            inside.__exit__()


def _database_holds_a_response(database: Path) -> bool:
    import sqlite3

    if not database.exists():
        return False
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return bool(connection.execute("select count(*) from responses").fetchone()[0])
    except sqlite3.OperationalError:
        return False  # the tables are not made yet, or the file is being written
    finally:
        connection.close()
