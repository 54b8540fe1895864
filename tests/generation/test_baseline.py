from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner, Result

from generation.baseline import Baseline, baseline_answers
from tests.generation.conftest import rows
from tests.scripted_server import ScriptedServer, says
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.records import Example, user_prompt


def example(question: str, answer: str = "Champ, go.", topic: str = "squat") -> Example:
    return Example(prompt=user_prompt(question), answer=answer, topic=topic)


def in_a_command(work: Callable[[], Baseline]) -> tuple[Baseline, Result]:
    """Call ``work`` as a command of the command line does, after torch has used its threads."""
    torch.randn(600, 600) @ torch.randn(600, 600)
    results: list[Baseline] = []
    command = click.Command("generate", callback=lambda: results.append(work()))
    result = CliRunner().invoke(command, catch_exceptions=False)
    return results[0], result


@pytest.mark.slow
def test_every_prompt_gets_an_answer_or_a_named_drop(tiny_model: Path, tmp_path: Path) -> None:
    twins = [example("the chair?"), example("the chair?", "Another answer.")]
    endless = example("chair " * 400)
    asked = [*twins, endless, example("walks right now", topic="sleep"), example("answers " * 30)]
    work, short = tmp_path / "work", rows(1, max_new_tokens=12, batch_size=2)
    baseline, result = in_a_command(
        lambda: baseline_answers(asked, tiny_model, short, workdir=work)
    )
    by_id = {response.prompt_id: response for response in baseline.responses}
    assert list(by_id) == [e.id for e in asked if e is not endless]
    for e in asked:
        if e is not endless:
            response = by_id[e.id]
            assert (response.arm, response.prompt, response.topic) == (
                "baseline",
                e.prompt,
                e.topic,
            )
            assert response.parents == (e.id,)
            assert response.text.strip() and 1 <= response.tokens <= 12
    first, second = (by_id[twin.id] for twin in twins)
    assert first.text == second.text
    (drop,) = baseline.dropped
    assert (drop.record, drop.stage, drop.reason) == (endless.id, "generate", "prompt_too_long")
    assert "of at most 512" in drop.detail
    assert baseline.usage["requests"] == 5
    assert (baseline.usage["ok"], baseline.usage["failed"]) == (4, {"prompt_too_long": 1})
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("  the base model answers: 5/5")
    assert not work.exists()


@pytest.mark.slow
def test_an_unloadable_model_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError) as caught:
        baseline_answers([example("hi")], folder, rows(1), workdir=tmp_path / "work")
    assert caught.value.where == str(folder.resolve())
    assert "okenizer" in caught.value.what and "\n" not in caught.value.line()


def test_no_examples_start_nothing(tmp_path: Path) -> None:
    baseline = baseline_answers([], tmp_path / "nowhere", rows(1), workdir=tmp_path / "work")
    assert (baseline.responses, baseline.dropped) == ([], [])


def test_a_student_that_is_served_answers_without_persona_and_once(tmp_path: Path) -> None:
    asked = [example("How deep?"), example("How deep?", "Else."), example("So what?")]
    with ScriptedServer(lambda r: says("It depends on", finish_reason="length")) as server:
        short = rows(1, max_new_tokens=9)
        student = Endpoint(base_url=server.url, model="base")
        baseline = baseline_answers(asked, student, short, workdir=tmp_path / "work")
        again = baseline_answers(asked, student, short, workdir=tmp_path / "work")
        bodies = [request.body for request in server.requests]
    assert [response.text for response in baseline.responses] == ["It depends on"] * 3
    assert again.responses == baseline.responses
    assert (len(bodies), again.usage["cached"]) == (2, 3)
    assert {(body["temperature"], body["max_tokens"]) for body in bodies} == {(0, 9)}
    assert all([turn["role"] for turn in body["messages"]] == ["user"] for body in bodies)
