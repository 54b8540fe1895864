"""Distilabel's process: its news, what a kill leaves behind, and the repairs that it needs."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from generation.distilabel import jobs, runner
from generation.distilabel.jobs import Served
from generation.distilabel.runner import Distilabel
from generation.teacher import teacher_rows
from tests.generation.conftest import rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails, says
from tests.waiting import PATIENCE, waited
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example, user_prompt
from workbench.store import write_records

CONCURRENCY = 4
TEACH = """
import sys
from pathlib import Path
from generation.teacher import teacher_rows
from workbench.config import GenerateSettings
from workbench.inference.endpoint import Endpoint
from workbench.persona import load_persona
from workbench.records import Example
from workbench.store import read_records
folder, url = Path(sys.argv[1]), sys.argv[2]
teacher_rows(
    load_persona(folder / "persona.yaml"),
    list(read_records(folder / "seeds.jsonl", Example)),
    Endpoint(base_url=url, model="m", concurrency=4),
    GenerateSettings(per_topic=20, mix={}, hard_negatives=0), workdir=folder / "work",
)
"""


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
    persona: Persona, seeds: list[Example], tmp_path: Path, sign: signal.Signals
) -> None:
    write_records(tmp_path / "seeds.jsonl", seeds)
    with ScriptedServer(slow) as server:
        main = subprocess.Popen([sys.executable, "-c", TEACH, str(tmp_path), server.url])
        waited(lambda: sum(bool(request.system) for request in server.requests) > 12)
        processes = family(main.pid)
        # The job, distilabel's manager, and a worker for each of its two steps.
        assert len(processes) >= 4
        main.send_signal(sign)
        assert main.wait(PATIENCE) == -sign
        waited(lambda: not alive(processes))
        waited(lambda: server.at_once == 0)
        first = len(server.requests)
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=CONCURRENCY)
        taught = teacher_rows(persona, seeds, endpoint, rows(20), workdir=tmp_path / "work")
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
            waited(lambda: server.requests)
            processes.extend(family(distilabel.process.pid))
            victim(distilabel, kind).kill()

        with pytest.raises(UserError) as caught, Distilabel(tmp_path / "work") as distilabel:
            killer = threading.Thread(target=kill, args=(distilabel,))
            killer.start()
            distilabel.run("ask", [user_prompt("How?")], served, label="asking")
        killer.join()
        waited(lambda: not alive(processes))
    assert caught.value.what == "the process that runs distilabel ended before its job did"
    assert caught.value.where.endswith("distilabel.log")
    assert len(processes) >= 3


@pytest.fixture
def news() -> Iterator[list[jobs.News]]:
    """What this process sends, taken by a carrier as on a cluster."""
    messages: list[jobs.News] = []
    jobs.send_news_by(messages.append)
    yield messages
    jobs._carrier = None


def test_a_tally_sends_seldom_and_loses_nothing(news: list[jobs.News]) -> None:
    tally = jobs.Tally()
    for number in range(1000):
        tally.add(done=1, failed=number % 2, paid=0.5)
    tally.send()
    tally.send()
    assert len(news) < 100
    assert {name: sum(one[name] for one in news) for name in news[0]} == {
        "done": 1000,
        "failed": 500,
        "paid": 500.0,
    }


def test_news_goes_down_the_pipe_one_json_line_each() -> None:
    out, into = os.pipe()
    jobs.send_news_to(into)
    try:
        jobs.send_news(done=1)
        jobs.send_news(error="no", mendable=True)
        lines = os.read(out, 4096).decode().splitlines()
    finally:
        jobs._pipe = None
        os.close(into)
        os.close(out)
    assert [json.loads(line) for line in lines] == [{"done": 1}, {"error": "no", "mendable": True}]


@pytest.mark.slow
def test_of_distilabel_itself_one_failed_request_empties_its_batch() -> None:
    """Once this fails, the LLM of our own may go."""
    from distilabel.models.llms import OpenAILLM

    question = "How deep is number {}?"
    with ScriptedServer(lambda r: fails(400) if "number 3" in r.prompt else says("So.")) as server:
        llm = OpenAILLM(model="m", base_url=server.url, api_key="none", max_retries=0)
        llm.load()
        chats = [[{"role": "user", "content": question.format(number)}] for number in range(8)]
        with pytest.raises(Exception, match="scripted failure"):
            llm.generate_outputs(inputs=chats)
        llm._aclient = None


@pytest.mark.slow
def test_distilabel_itself_looks_for_loaded_steps_every_2_5_s_and_silences_the_older_client() -> (
    None
):
    """Once this fails, our pipeline's own waiting, or the line about ``httpx2``, may go."""
    from distilabel.pipeline.base import BasePipeline
    from distilabel.utils import logging as distilabel_logging

    assert "time.sleep(2.5)" in inspect.getsource(BasePipeline._run_stage_steps_and_wait)
    source = inspect.getsource(distilabel_logging)
    assert '"httpx"' in source and '"httpx2"' not in source


def test_the_release_of_distilabel_is_the_one_that_the_repairs_were_made_for() -> None:
    """Its resume hangs after a kill (issue 1065): try it again with another release."""
    assert version("distilabel") == "1.5.3"
