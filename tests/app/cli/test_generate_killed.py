"""Killed at random moments and started again: nothing is paid twice, nothing lost, nothing left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from app.cli.main import main
from tests.scripted_server import Reply, Request, ScriptedServer, conforms
from tests.waiting import PATIENCE, waited
from workbench.records import Example
from workbench.store import read_records

pytestmark = pytest.mark.slow
CONCURRENCY = 4
PLANNED = 60


def slow(request: Request) -> Reply:
    return replace(conforms(request), delay=0.1)


def _asked_for(server: ScriptedServer, requests: int) -> bool:
    return len(server.requests) >= requests


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


def test_killed_at_random_moments_no_finished_request_is_paid_twice(
    of_round: Callable[..., list[str]], tmp_path: Path
) -> None:
    draw = random.Random(4)
    with ScriptedServer(slow) as server:
        options = of_round(server.url, per_topic=PLANNED // 2, concurrency=CONCURRENCY)
        assert main(["import", *options]) == 0
        command = [sys.executable, "-m", "app.cli.main", "generate", *options]
        kills = 0
        # Among the questions, and among the answers.
        for moment in (draw.randrange(2, 12), draw.randrange(14, 2 * 6 + PLANNED - 2)):
            process = subprocess.Popen(command, start_new_session=True)
            waited(partial(_asked_for, server, moment), unless=partial(_ended, process))
            time.sleep(draw.random() * 0.1)
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            _, alive = psutil.wait_procs(family, timeout=PATIENCE)
            assert alive == []
            waited(lambda: not server.at_once)
        done = subprocess.run(command, capture_output=True, text=True)
        asked = Counter(request.prompt for request in server.requests)
    assert done.returncode == 0, done.stderr
    assert f"{PLANNED} rows planned = {PLANNED} answered" in done.stderr
    # What was under way at a kill has no owner any more; all else was asked once.
    twice = [prompt for prompt, count in asked.items() if count > 1]
    assert len(twice) <= kills * CONCURRENCY
    assert sum(asked.values()) - len(asked) <= kills * CONCURRENCY
    assert len(asked) == 2 * 6 + PLANNED
    rows = tmp_path / "runs" / "tester" / "round-001" / "generate" / "examples.jsonl"
    examples = list(read_records(rows, Example))
    assert len({example.question for example in examples}) == len(examples) == PLANNED
