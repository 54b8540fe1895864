"""A small round on disk, every stage's files in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.scorers import score_responses
from workbench.persona import Persona
from workbench.records import Drop, Example, Response, Score, SplitAssignment, user_prompt
from workbench.stats import compare
from workbench.store import file_hash, write_json, write_records

ANSWERS = {
    "base": "There are several causes of <pain>.",
    "base+prompt": "There are several causes, champ.",
    "sft": "Rest it today, champ.",
    "sft+dpo": "Rest it, champ. I'll ask you tomorrow.",
}


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


def answers(examples: list[Example], arms: list[str]) -> list[Response]:
    """The arm's own answer to most questions, the base's to the last two of them."""
    return [
        Response(
            arm=arm,
            prompt_id=example.id,
            prompt=example.prompt,
            text=ANSWERS[arm if i < len(examples) - 2 else "base"],
            topic=example.topic,
        )
        for arm in arms
        for i, example in enumerate(examples)
    ]


def write_evaluation(
    folder: Path, persona: Persona, examples: list[Example], arms: list[str]
) -> list[Score]:
    responses = answers(examples, arms)
    scores = score_responses(persona, responses)
    write_records(folder / "evaluate/responses.jsonl", responses)
    write_records(folder / "evaluate/scores.jsonl", scores)
    write_json(folder / "evaluate/comparison.json", compare(scores).model_dump(mode="json"))
    return scores


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def drop(example: Example, stage: str, reason: str) -> Drop:
    return Drop(record=example.id, stage=stage, reason=reason, source=example.source)


@pytest.fixture
def persona_folder(tmp_path: Path) -> Path:
    """Faults in rows 1 to 5, one more in a row that was not imported."""
    kinds = ["refusal", "voice_off", "wrong_fact", "personal_data", "unsafe_advice", "refusal"]
    rows = [
        {"row": row, "fault": kind, "detail": f"Fault of row {row}."}
        for row, kind in zip((1, 2, 3, 4, 5, 99), kinds, strict=True)
    ]
    write_lines(tmp_path / "persona" / "faults.jsonl", rows)
    return tmp_path / "persona"


@pytest.fixture
def round_folder(
    tmp_path: Path, persona: Persona, examples: list[Example], persona_folder: Path
) -> Path:
    """Row 1 is filtered out, 2 dropped by reviewers, 3 corrected, 4 masked, 5 goes through."""
    folder = tmp_path / "runs" / "coach" / "round-001"
    clean = examples[0].evolve(answer="Champ, six.", source="seeds.jsonl:6")
    asked, examples = examples, examples[:5]
    first, second, third, fourth, fifth = examples
    masked = fourth.evolve(answer="Write to [e-mail].", parents=(fourth.id,))
    edited = third.evolve(answer="Better, champ.", origin="edit", parents=(third.id, "rv-1"))
    write_records(folder / "import/examples.jsonl", [*examples, clean])
    write_records(folder / "import/drops.jsonl", [])
    write_records(folder / "filter/examples.jsonl", [second, third, masked, fifth, clean])
    write_records(folder / "filter/drops.jsonl", [drop(first, "filter", "refusal")])
    write_records(folder / "resolve/examples.jsonl", [edited, masked, fifth])
    dropped = [drop(second, "resolve", "low_fidelity"), drop(clean, "resolve", "low_fidelity")]
    write_records(folder / "resolve/drops.jsonl", dropped)
    alpha = {"value": 0.625, "low": 0.5, "high": 0.75, "records": 5, "unscored": ""}
    questions = {"fidelity": alpha, "problem:address": {**alpha, "value": 0.25}}
    write_json(folder / "resolve/agreement.json", {"overlapping": 5, "questions": questions})
    write_records(folder / "split/train.jsonl", [edited, masked])
    write_records(folder / "split/test.jsonl", [fifth])
    write_records(
        folder / "split/splits.jsonl", [SplitAssignment(record=fifth.id, split="test", group="a")]
    )
    curve = [{"step": s, "loss": 3.0 / s, "eval_loss": 3.5 / s} for s in (1, 2, 3)]
    write_lines(folder / "sft/curve.jsonl", curve)
    margins = [{"step": s, "loss": 0.69 / s, "rewards/margins": 0.1 * s} for s in (1, 2)]
    write_lines(folder / "dpo/curve.jsonl", margins)
    write_evaluation(folder, persona, asked, list(ANSWERS))
    for number, stage in enumerate(("import", "sft", "evaluate")):
        data = next(p for p in sorted((folder / stage).iterdir()) if p.suffix == ".jsonl")
        write_json(
            folder / stage / "manifest.json",
            {
                "stage": stage,
                "seed": 7,
                "settings": {"model": "tiny-llama"},
                "outputs": {data.name: {"sha256": file_hash(data), "bytes": 1234}},
                "versions": {"torch": "2.13.0"},
                "started": f"2026-01-0{number + 1}T10:00:00+00:00",
                "seconds": 61.0 + number,
                "peak_mib": 512 * (number + 1),
            },
        )
    return folder


@pytest.fixture
def evaluation() -> Callable[..., list[Score]]:
    return write_evaluation
