"""Work on all cores comes out in order, as it would on one, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil
import pytest

from workbench import cores
from workbench.cores import on_all_cores


def squares(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return each number's square and the process that computed it."""
    return [(number * number, os.getpid()) for number in numbers]


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "free_cores", lambda: 2)
    monkeypatch.setattr(cores, "MANY", 1000)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize(("count", "here"), [(999, True), (1001, False)])
def test_results_come_in_order_from_this_process_or_from_others(count: int, here: bool) -> None:
    results = list(on_all_cores(squares, range(count)))
    assert [square for square, _ in results] == [number * number for number in range(count)]
    assert ({process for _, process in results} == {os.getpid()}) == here


def test_processes_end_with_the_one_that_started_them() -> None:
    script = """
from workbench import cores
from tests.workbench.test_cores import squares
cores.free_cores, cores.MANY = lambda: 2, 10
print(*{process for _, process in cores.on_all_cores(squares, range(2000))}, flush=True)
input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True
    ) as parent:
        assert parent.stdout
        workers = [int(word) for word in parent.stdout.readline().split()]
        assert workers
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [worker for worker in workers if psutil.pid_exists(worker)]
