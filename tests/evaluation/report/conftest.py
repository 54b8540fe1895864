"""A small round as the report's input, every part in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.report.inputs import (
    PlantedFault,
    ReportInput,
    ReviewersAgreement,
    StageRun,
    WrittenFile,
)
from evaluation.scorers import ScoringInput, score_responses
from workbench.commands import RoundOptions
from workbench.persona import Persona
from workbench.records import Drop, Example, Response, user_prompt
from workbench.stats import compare
from workbench.stats.agreement import RaterAgreement, rule_agreement

ANSWERS = {
    "base": "There are several causes of <pain>.",
    "base+prompt": "There are several causes, champ.",
    "sft": "Rest it today, champ.",
    "sft+dpo": "Rest it, champ. I'll ask you tomorrow.",
}


_TEXTS = {**ANSWERS, "base+few-shot": "Champ, there are causes."}


@pytest.fixture
def examples(examples: list[Example]) -> list[Example]:
    """Eight of them: below six pairs no difference is called one."""
    more = ("May I train with a cold?", "How heavy is heavy?", "What if I skip a week?")
    return [
        *examples,
        *(
            Example(
                prompt=user_prompt(question),
                answer="Champ, start light.",
                topic="wrists",
                source=f"seeds.jsonl:{number}",
            )
            for number, question in enumerate(more, start=11)
        ),
    ]


def answers(examples: Sequence[Example], arms: Sequence[str]) -> list[Response]:
    """The arm's own answer to most questions, the base's to the last two of them."""
    return [
        Response(
            arm=arm,
            prompt_id=example.id,
            prompt=example.prompt,
            text=_TEXTS[arm if i < len(examples) - 2 else "base"],
            topic=example.topic,
        )
        for arm in arms
        for i, example in enumerate(examples)
    ]


Evaluated = Callable[..., ReportInput]


def evaluated_report(persona: Persona, responses: Sequence[Response], **parts: Any) -> ReportInput:
    """Return a report of nothing but responses, their scores and the comparison."""
    scores = score_responses(ScoringInput(persona, responses))
    return ReportInput(
        **{
            "round": "round-001",
            "at": RoundOptions(Path("datasets/coach")),
            "persona": persona,
            "comparison": compare(scores),
            "responses": responses,
            "scores": scores,
            **parts,
        }
    )


@pytest.fixture
def evaluated(persona: Persona, examples: list[Example]) -> Evaluated:
    """Return a function that takes the arms and returns what an evaluation alone leaves."""

    def of(arms: Sequence[str], count: int | None = None) -> ReportInput:
        return evaluated_report(persona, answers(examples[:count], arms))

    return of


def drop(example: Example, stage: str, reason: str) -> Drop:
    return Drop(record=example.id, stage=stage, reason=reason, source=example.source)


def faults() -> list[PlantedFault]:
    """Faults in rows 1 to 5, one more in a row that was not imported."""
    kinds = ["refusal", "voice_off", "wrong_fact", "personal_data", "unsafe_advice", "refusal"]
    return [
        PlantedFault(row, kind, f"Fault of row {row}.")
        for row, kind in zip((1, 2, 3, 4, 5, 99), kinds, strict=True)
    ]


def stage_run(number: int, stage: str, file: str) -> StageRun:
    return StageRun(
        stage=stage,
        started=f"2026-01-0{number + 1}T10:00:00+00:00",
        seconds=61.0 + number,
        peak_mib=512 * (number + 1),
        seed=7,
        model="tiny-llama",
        files={file: WrittenFile(1234, f"{number}" * 64)},
        versions={"torch": "2.13.0"},
    )


@pytest.fixture
def report(persona: Persona, examples: list[Example]) -> ReportInput:
    """Row 1 is filtered out, 2 dropped by reviewers, 3 corrected, 4 masked, 5 goes through."""
    clean = examples[0].evolve(answer="Champ, six.", source="seeds.jsonl:6")
    first, second, third, fourth, fifth = examples[:5]
    masked = fourth.evolve(answer="Write to [e-mail].", parents=(fourth.id,))
    edited = third.evolve(answer="Better, champ.", origin="edit", parents=(third.id, "rv-1"))
    alpha = RaterAgreement(value=0.625, low=0.5, high=0.75, rows=5)
    questions = {
        "fidelity": alpha,
        "problem:address": alpha.model_copy(update={"value": 0.25}),
    }
    return evaluated_report(
        persona,
        answers(examples, list(ANSWERS)),
        stages=[
            stage_run(0, "import", "drops.jsonl"),
            stage_run(1, "sft", "curve.jsonl"),
            stage_run(2, "evaluate", "responses.jsonl"),
        ],
        rows={
            "import": [*examples[:5], clean],
            "filter": [second, third, masked, fifth, clean],
            "resolve": [edited, masked, fifth],
        },
        steps={"imported": 6, "filtered": 5, "reviewed": 3, "train": 2, "test": 1},
        splits={"train": [edited, masked], "test": [fifth]},
        drops=[
            drop(first, "filter", "refusal"),
            drop(second, "resolve", "low_fidelity"),
            drop(clean, "resolve", "low_fidelity"),
        ],
        faults=faults(),
        agreement=ReviewersAgreement(
            5,
            questions,
            {
                "address": rule_agreement([(True, False)] * 5 + [(False, False)] * 15),
                "emoji": rule_agreement([(True, True)] * 5 + [(False, False)] * 15),
            },
        ),
        curves={
            "sft": [{"step": s, "loss": 3.0 / s, "eval_loss": 3.5 / s} for s in (1, 2, 3)],
            "dpo": [{"step": s, "loss": 0.69 / s, "rewards/margins": 0.1 * s} for s in (1, 2)],
        },
    )
