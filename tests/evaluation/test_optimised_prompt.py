"""The search for a prompt by reflection: what decides, what the teacher reads, where it ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.optimised_prompt import OptimisedPrompt, PromptTask, optimise_prompt
from evaluation.sense import SenseInput
from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from workbench.config import PromptBudget
from workbench.errors import UserError
from workbench.inference.embedder import NgramEmbedder
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.prompts import safety_line, system_prompt
from workbench.records import Example, Response, user_prompt

BETTER = "You are Coach. Say champ, then answer the question that was asked."


def _rows(asked: str, parts: str, remedies: str) -> list[Example]:
    return [
        Example(
            prompt=user_prompt(f"{asked} my {part}?"),
            answer=f"Champ, a sore {part} wants {remedy} and then an evening off.",
        )
        for part, remedy in zip(parts.split(), remedies.split(), strict=True)
    ]


TRAIN = _rows(
    "What do I do about",
    "wrist knee elbow shoulder ankle neck hip",
    "warmth cooling massage yoga bandages pillows swimming",
)
VALIDATION = _rows("Who can mend", "thumb heel jaw back", "splints insoles chewing planks")
Scripted = tuple[PromptTask, ScriptedServer]


def _base(task: PromptTask, candidate: dict[str, str], rows: Sequence[Example]) -> list[Response]:
    """In place of a model: it says champ and keeps to the question where the prompt says so."""
    text = task.text(candidate)
    return [
        Response(
            arm="base",
            prompt_id=row.id,
            prompt=row.prompt,
            text=row.answer if BETTER in text else "There are several causes of it.",
        )
        for row in rows
    ]


def _task(persona: Persona, teacher: Endpoint, folder: Path, **budget: Any) -> PromptTask:
    both = [*VALIDATION, *TRAIN]
    answers = [row.answer for row in both]

    def loss(texts: Sequence[str]) -> list[float]:
        return [1.0 for _ in texts]

    sense = SenseInput("en", both, [], NgramEmbedder(answers), loss, "nobody", persona)
    unused: Any = None
    limits = PromptBudget(**budget)
    cache = folder / "answers.sqlite"
    return PromptTask(
        persona, unused, TRAIN, VALIDATION, sense, teacher, limits, cache, 64, 8, seed=3
    )


@pytest.fixture
def scripted(
    persona: Persona, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scripted]:
    """A teacher whose second prompt is a good one, and a base that follows it."""

    def teacher(request: Request) -> Reply:
        written = BETTER if request.number == 1 else "Be nice."
        return says(f"I thought about it.\n```\n{written}\n```")

    monkeypatch.setattr(PromptTask, "responses", _base)
    with ScriptedServer(teacher) as server:
        endpoint = Endpoint(base_url=server.url, model="teacher")
        yield _task(persona, endpoint, tmp_path, reflections=3, answers=100), server


def _same(one: OptimisedPrompt, other: OptimisedPrompt) -> bool:
    return one._replace(answers=0) == other._replace(answers=0)


def test_the_prompt_that_validation_rows_speak_for_is_taken(
    scripted: Scripted, persona: Persona
) -> None:
    task, server = scripted
    found = optimise_prompt(task)
    assert found.text == f"{BETTER}\n{safety_line(persona)}"
    assert found.score > 0.9 > found.plain_score and found.candidates == 2
    assert found.reflections == len(server.requests) == 3
    # The persona's boundary is not the teacher's to rewrite: it is not even shown to it.
    assert all(safety_line(persona) not in request.prompt for request in server.requests)


def test_the_teacher_reads_training_rows_and_nothing_else(scripted: Scripted) -> None:
    task, server = scripted
    optimise_prompt(task)
    sent = [request.prompt for request in server.requests]
    assert any(row.question in text and row.answer in text for row in TRAIN for text in sent)
    assert not [r for r in VALIDATION for text in sent if r.question in text or r.answer in text]
    assert "Form of address" in sent[0] and "There are several causes of it." in sent[0]


def test_a_search_that_is_made_again_pays_the_teacher_nothing(scripted: Scripted) -> None:
    task, server = scripted
    first = optimise_prompt(task)
    again = optimise_prompt(replace(task, reflections=0))
    assert _same(first, again) and len(server.requests) == 3


def test_the_budget_ends_the_search(scripted: Scripted) -> None:
    task, server = scripted
    few = replace(task, budget=PromptBudget(answers=24, reflections=50))
    found = optimise_prompt(few)
    assert found.answers <= 24 and len(server.requests) < 5
    spent = len(server.requests)
    late = replace(task, reflections=0, budget=PromptBudget(seconds=1e-9))
    found = optimise_prompt(late)
    assert found.candidates == 1 and len(server.requests) == spent


def test_a_teacher_that_refuses_ends_it_with_its_word(
    persona: Persona, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptTask, "responses", _base)
    with ScriptedServer(lambda _: fails(401)) as server:
        endpoint = Endpoint(base_url=server.url, model="teacher", attempts=1)
        task = _task(persona, endpoint, tmp_path)
        with pytest.raises(UserError, match="key"):
            optimise_prompt(task)
        assert len(server.requests) == 1


def test_an_empty_prompt_is_none_and_the_safety_line_stands_once(
    scripted: Scripted, persona: Persona
) -> None:
    task, _ = scripted
    assert task.text({"system_prompt": " \n"}) == ""
    plain = system_prompt(persona)
    assert task.text({"system_prompt": plain}).count(safety_line(persona)) == 1
