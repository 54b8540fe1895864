"""What a kill leaves behind: nothing that runs, and everything that was paid for."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from generation import runner
from generation.jobs import Served
from generation.pipeline import teacher_rows
from generation.runner import Distilabel
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, says
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import user_prompt
from workbench.store import write_records

CONCURRENCY = 4
TEACH = """
import sys
from pathlib import Path
from generation.pipeline import teacher_rows
from workbench.inference.endpoint import Endpoint
from workbench.persona import load_persona
from workbench.records import Example
from workbench.store import read_records
folder, url = Path(sys.argv[1]), sys.argv[2]
teacher_rows(
    load_persona(folder / "persona.yaml"),
    list(read_records(folder / "seeds.jsonl", Example)),
    Endpoint(base_url=url, model="m", concurrency=4),
    per_topic=20, workdir=folder / "work",
)
"""


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def alive(processes: list[psutil.Process]) -> list[str]:
    return [
        str(process)
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def slow(request: Request) -> Reply:
    reply = conforms(request)
    return says(reply.content or "", delay=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_job_leaves_no_process_and_pays_for_nothing_twice(
    persona: Persona, seeds: list, tmp_path: Path, sign: signal.Signals
) -> None:
    write_records(tmp_path / "seeds.jsonl", seeds)
    with ScriptedServer(slow) as server:
        main = subprocess.Popen([sys.executable, "-c", TEACH, str(tmp_path), server.url])
        until(lambda: sum(bool(request.system) for request in server.requests) > 12)
        processes = family(main.pid)
        # The job, distilabel's manager, and a worker for each of its two steps.
        assert len(processes) >= 4
        main.send_signal(sign)
        assert main.wait(10) == -sign
        until(lambda: not alive(processes), seconds=5)
        until(lambda: server.at_once == 0)
        first = len(server.requests)
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=CONCURRENCY)
        taught = teacher_rows(persona, seeds, endpoint, per_topic=20, workdir=tmp_path / "work")
        second = len(server.requests) - first
        times = Counter(request.prompt for request in server.requests)
    assert len(taught.examples) == taught.planned == 40
    assert taught.usage["requests"] == 8 + 40
    assert taught.usage["attempts"] == second
    assert taught.usage["cached"] == 48 - second
    # Only what was under way at the kill can have been asked for a second time.
    twice = [prompt for prompt, count in times.items() if count > 1]
    assert len(twice) <= CONCURRENCY
    assert first + second == 48 + len(twice)


def victim(distilabel: Distilabel, kind: str) -> psutil.Process:
    if kind == "job":
        return psutil.Process(distilabel.process.pid)
    # The worker of the step that asks is the one with a connection to the server.
    return next(p for p in family(distilabel.process.pid) if p.net_connections("tcp"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["job", "worker"])
def test_a_killed_part_of_the_job_is_told_and_ends_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(runner, "_SILENCE_AFTER_DEATH", 1.0)
    processes: list[psutil.Process] = []
    with ScriptedServer(lambda r: says("late", delay=60)) as server:
        served = Served(endpoint=Endpoint(base_url=server.url, model="m"), cache=tmp_path / "c")

        def kill(distilabel: Distilabel) -> None:
            until(lambda: server.requests)
            processes.extend(family(distilabel.process.pid))
            victim(distilabel, kind).kill()

        with pytest.raises(UserError) as caught, Distilabel(tmp_path / "work") as distilabel:
            killer = threading.Thread(target=kill, args=(distilabel,))
            killer.start()
            distilabel.run("ask", [user_prompt("How?")], served, label="asking")
        killer.join()
        until(lambda: not alive(processes), seconds=5)
    assert caught.value.what == "the process that runs distilabel ended before its job did"
    assert caught.value.where.endswith("distilabel.log")
    assert len(processes) >= 3
