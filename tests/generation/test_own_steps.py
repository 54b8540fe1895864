"""Steps of a user's own: in their place before the judge, counted, and checked beforehand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from generation.pipelines.own_steps import check_steps
from generation.teacher import Taught, teacher_rows
from tests.generation.conftest import rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, says
from workbench.config import GenerateSettings
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example

DOCS = Path(__file__).parents[2] / "docs" / "data-engineer.md"
MORE = '''
from distilabel.steps import Step


class Doubts(Step):
    """Lets no answer pass that is about sleep; fails on what it is told to."""

    @property
    def inputs(self):
        return ["answer", "topic"]

    @property
    def outputs(self):
        return ["answer"]

    def process(self, *inputs):
        rows = [row for row in inputs[0] if row["topic"] != "sleep"]
        yield [{**row, "answer": row["answer"] + " Go."} for row in rows]


class Wants(Doubts):
    @property
    def inputs(self):
        return ["answr"]


class Breaks(Doubts):
    def process(self, *inputs):
        raise RuntimeError("no luck")


class Loses(Doubts):
    def process(self, *inputs):
        yield [{"answer": "So."} for row in inputs[0]]


class Needs(Doubts):
    words: int


class Bare(Step):
    pass


class Counts(Doubts):
    def process(self, *inputs):
        yield [{**row, "answer": 7} for row in inputs[0]]


number = 3
'''


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module of the docs, and one of faulty steps, in the working folder."""
    (example,) = re.findall(r"```python my_steps.py\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (tmp_path / "my_steps.py").write_text(example, encoding="utf-8")
    (tmp_path / "more_steps.py").write_text(MORE, encoding="utf-8")
    (tmp_path / "broken_steps.py").write_text("import os\n\nos.no_such_name\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def taught_with(
    steps: list[str], persona: Persona, seeds: list[Example], script: Callable[[Request], Reply]
) -> Taught:
    settings = rows(3, steps=steps, mix={"follow_up": 0.34})
    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=4)
        return teacher_rows(persona, seeds, endpoint, settings, workdir=Path("work"))


def test_the_step_of_the_docs_shortens_what_is_too_long_and_is_counted(
    persona: Persona, seeds: list[Example]
) -> None:
    def script(request: Request) -> Reply:
        text = request.body["messages"][-1]["content"]
        if text.startswith("Shorten"):
            return says("Champ, short.")
        return says("Champ, " + "long " * 90) if request.system else conforms(request)

    taught = taught_with(["my_steps:Shorten"], persona, seeds, script)
    assert {one.answer for one in taught.examples} == {"Champ, short."}
    assert taught.planned == len(taught.examples) == 6
    assert taught.steps["Shorten"]["requests"] == 6
    # A conversation goes on from what the step made of an answer.
    follow_ups = [one for one in taught.examples if one.kind == "follow_up"]
    assert {one.prompt[1].content for one in follow_ups} <= {
        "Champ, short.",
        *(seed.answer for seed in seeds),
    }
    assert check_steps(["my_steps:Shorten"]) == ("Shorten",)


def test_what_a_step_drops_is_filtered_by_its_name(persona: Persona, seeds: list[Example]) -> None:
    taught = taught_with(["more_steps:Doubts"], persona, seeds, conforms)
    assert {one.topic for one in taught.examples} == {"squat"}
    assert all(one.answer.endswith(" Go.") for one in taught.examples)
    assert taught.filtered == {"own_step": 3}
    assert [(one.reason, one.detail) for one in taught.dropped if one.reason == "own_step"] == [
        ("own_step", "more_steps:Doubts")
    ] * 3
    lost = sum(taught.missing.values()) + sum(taught.filtered.values())
    assert taught.planned == len(taught.examples) + lost


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nowhere:Shorten", "cannot be imported (ModuleNotFoundError: No module named 'nowhere')"),
        ("my_steps:Shortn", "my_steps has no Shortn"),
        ("more_steps:number", "is no step of distilabel"),
        ("more_steps:Wants", "lacks the column 'answr'"),
        ("more_steps:Needs", "cannot be made without arguments (Field required)"),
        (
            "broken_steps:Shorten",
            "cannot be imported (AttributeError: module 'os' has no attribute 'no_such_name')",
        ),
        (
            "more_steps:Bare",
            "cannot be made (Can't instantiate abstract class Bare with abstract method process)",
        ),
    ],
)
def test_a_step_that_cannot_work_is_one_line_before_anything_is_asked(name: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        check_steps([name])
    assert (caught.value.what, caught.value.where) == (line, f"generate.steps: {name}")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("more_steps:Breaks", "failed (RuntimeError: no luck)"),
        ("more_steps:Loses", "loses the column 'key'"),
        ("more_steps:Counts", "makes an answer of the type int"),
    ],
)
def test_a_step_that_fails_on_rows_is_one_line(
    persona: Persona, seeds: list[Example], name: str, what: str
) -> None:
    with pytest.raises(UserError, match=re.escape(what)):
        taught_with([name], persona, seeds, conforms)


def test_a_name_of_another_form_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ValueError, match="write it as my_steps:Shorten"):
        GenerateSettings.model_validate({"steps": ["Shorten"]})
