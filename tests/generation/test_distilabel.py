"""Pipelines of distilabel's that run here: their rows, what a kill leaves, why its own do not run.

Distilabel reads the annotations of a step as they stand, so that none here may be a string.
"""

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from distilabel.steps import Step, StepInput
from distilabel.steps.tasks import TextGeneration

from generation.distilabel.pipeline import RowPipeline, RowsOf
from generation.distilabel.tasks import LOST, EndpointLLM, RowTask
from generation.teacher import teacher_rows
from generation.teacher_client import TeacherClient
from tests.generation.conftest import rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails, says
from tests.waiting import PATIENCE, waited
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example
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
        processes = psutil.Process(main.pid).children(recursive=True)
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


class Shout(Step):  # type: ignore[misc]
    """Anybody's step: all rows at once."""

    calls: int = 0

    @property
    def inputs(self) -> list[str]:
        return ["text"]

    @property
    def outputs(self) -> list[str]:
        return ["loud"]

    def process(self, inputs: StepInput) -> Iterator[list[Any]]:
        self.calls += 1
        yield [{**row, "loud": row["text"].upper()} for row in inputs]


class Echo(RowTask):
    """Asks each row's text."""

    @property
    def inputs(self) -> list[str]:
        return ["text"]

    @property
    def outputs(self) -> list[str]:
        return ["reply"]

    def wants(self, row: Any) -> bool:
        return bool(row["text"] != "skipped")

    def format_input(self, input: Any) -> list[dict[str, str]]:
        return [{"role": "user", "content": input["text"]}]

    def format_output(self, output: str | None, input: Any) -> Any:
        return {"reply": output}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Callable[[ScriptedServer], TeacherClient]]:
    with ExitStack() as stack:

        def of(server: ScriptedServer) -> TeacherClient:
            endpoint = Endpoint(base_url=server.url, model="m", attempts=1)
            return stack.enter_context(TeacherClient([endpoint], tmp_path / "answers.sqlite"))

        yield of


Client = Callable[[ScriptedServer], TeacherClient]


def test_a_failed_request_is_lost_with_its_row_alone(client: Client) -> None:
    texts = ["first", "wrong", "skipped", "last"]
    with ScriptedServer(lambda r: fails(500) if r.prompt == "wrong" else says(r.prompt)) as server:
        with RowPipeline("echo") as pipeline:
            rows = RowsOf(rows=[{"text": text} for text in texts])
            llm = EndpointLLM(client=client(server), step="echo")
            rows >> Shout(name="shout") >> Echo(name="echo", llm=llm)
        ended = pipeline.run()
    assert pipeline.dag.get_step("shout")["step"].calls == 1
    assert [row["loud"] for row in ended] == [text.upper() for text in texts]
    assert [row.get("reply") for row in ended] == ["first", None, None, "last"]
    assert [row[LOST].reason for row in ended if LOST in row] == ["server_error"]
    assert Counter(one.end for one in llm.client.completions["echo"]) == {"ok": 2, "failed": 1}


def test_a_column_that_no_step_brings_is_told_before_anything_is_asked(client: Client) -> None:
    with ScriptedServer() as server:
        with RowPipeline("lacking") as pipeline:
            rows = RowsOf(rows=[{"another": 1}])
            rows >> Echo(name="echo", llm=EndpointLLM(client=client(server), step="echo"))
        with pytest.raises(ValueError, match=r"'echo' requires inputs \['text'\]"):
            pipeline.run()
        assert server.requests == []


def test_a_task_of_the_library_asks_the_same_books(client: Client) -> None:
    def script(request: Request) -> Reply:
        return fails(500) if request.prompt == "b" else says(f"{request.prompt}!")

    with ScriptedServer(script) as server:
        with RowPipeline("library") as pipeline:
            rows = RowsOf(rows=[{"instruction": text} for text in "abc"])
            llm = EndpointLLM(client=client(server), step="theirs")
            rows >> TextGeneration(name="theirs", llm=llm, add_raw_input=False)
        ended = pipeline.run()
    assert [row["generation"] for row in ended] == ["a!", None, "c!"]
    assert llm.client.paid()["theirs"].attempts == 3


def test_where_rows_flow_none_waits_for_another(client: Client) -> None:
    through = threading.Event()

    def script(request: Request) -> Reply:
        if request.prompt == "slow":
            through.wait(60)
        elif request.body["temperature"] == 0.2:
            through.set()
        return says("So.")

    with ScriptedServer(script) as server:
        with RowPipeline("flowing", flows=True) as pipeline:
            step: Any = RowsOf(rows=[{"text": "slow"}, {"text": "quick"}])
            llm = EndpointLLM(client=client(server), step="echo")
            for number in range(3):
                step = step >> Echo(name=f"echo_{number}", llm=llm, temperature=number / 10)
        pipeline.run()
        order = [(one.prompt, one.body["temperature"]) for one in server.requests]
    # The quick row is through before the slow one is answered for the first time.
    assert order.index(("quick", 0.2)) < order.index(("slow", 0.1))


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


def test_the_release_of_distilabel_is_the_one_that_the_repairs_were_made_for() -> None:
    """Its resume hangs after a kill (issue 1065): try it again with another release."""
    assert version("distilabel") == "1.5.3"


@pytest.mark.slow
def test_errors_are_printed_as_they_were_without_the_values_of_variables() -> None:
    """Distilabel shows all locals of a traceback, keys among them, from its import on."""
    look = "import sys; hook = sys.excepthook; {}; print(hook is sys.excepthook)"
    for module, same in (("import distilabel", "False"), ("import generation.pipelines", "True")):
        command = [sys.executable, "-W", "ignore", "-c", look.format(module)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout.strip(), done.stderr) == (same, "")
