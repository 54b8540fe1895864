"""Documents of a round's rows: filled from what the stages wrote down, or named as not filled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rounds.context import RoundContext
from rounds.layout import AGREEMENT, FILTERED, TRAIN
from rounds.lineage.documents import data_sheet, pseudonyms, write_documents
from rounds.pipeline import run_stages
from tests.commands import Commands
from tests.reviewed_round import write_reviewed
from workbench.inference.endpoint import Teacher
from workbench.records import Drop, Review

NAME = "Gildong Hong"
TEACHER = {"base_url": "http://127.0.0.1:1/v1", "model": "wise-32b"}


@pytest.fixture
def gym(commands: Commands) -> RoundContext:
    """A round of the shipped trainer, split, whose earlier stages are written by hand."""
    write_reviewed(commands)
    rows = commands.round().read(FILTERED)
    drop = Drop.of(rows[0], "filter", "personal_data", "a phone number")
    commands.put("filter/drops.jsonl", [drop])
    commands.finished("generate", counts={"taught": 0, "prompts": {"system": "723a325c"}})
    commands.finished("filter", settings={"personal_data": "drop", "near_duplicate": 0.7})
    commands.finished("review", settings={"per_record": 2, "people": False})
    context = commands.context(split={"meaning": 1})
    run_stages(context, ["resolve", "split"])
    return context


def test_the_shipped_trainer_leaves_no_required_answer_open(
    gym: RoundContext, commands: Commands
) -> None:
    sheet = data_sheet(gym)
    assert [answer.name for answer in sheet.missing] == []
    assert "filter dropped 1: personal_data 1" in sheet.text("filters")
    assert "1 row dropped, 0 rows masked" in sheet.text("personal_data")
    fidelity = gym.round.read(AGREEMENT).questions["fidelity"]
    assert f"fidelity: {fidelity.value:.2f} [{fidelity.low:.2f}" in sheet.text("agreement")
    assert sheet.text("license") == "apache-2.0"
    checked = commands.on_round("document", "--check")
    assert (checked.code, checked.out) == (0, "every required answer is filled\n")


def test_what_was_rehearsed_is_among_the_sources_of_what_was_learnt(
    gym: RoundContext, commands: Commands
) -> None:
    own = gym.round.read(TRAIN)[0]
    base = own.evolve(answer="A lake lies inland.", origin="rehearsal", source="en-rehearsal-001")
    commands.put("sft/trained.jsonl", [own, base])
    assert "- 1 row of origin `rehearsal`" in data_sheet(gym).text("sources")


def test_reviewers_are_named_by_letters_alone() -> None:
    reviews = [Review(reviewer=name, record="ex-1") for name in (NAME, "B", NAME)]
    assert pseudonyms(reviews) == {"B": "reviewer A", NAME: "reviewer B"}
    many = [Review(reviewer=f"{number:03d}", record="ex-1") for number in range(28)]
    assert pseudonyms(many)["027"] == "reviewer AB"


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({}, ""),
        ({"licence": "apache-2.0"}, ""),
        (
            {"licence": "acme-terms", "outputs_may_train": False},
            "5 rows by `wise-32b`: licence acme-terms; by its terms its outputs may not train",
        ),
    ],
)
def test_a_teacher_whose_terms_nobody_read_is_named(
    gym: RoundContext, commands: Commands, terms: dict[str, object], told: str
) -> None:
    settings = {"teacher": {"model": "wise-32b"}}
    prompts = {"system": "723a325c"}
    commands.finished("generate", settings=settings, counts={"taught": 5, "prompts": prompts})
    teacher = Teacher.model_validate({**TEACHER, **terms})
    config = gym.config.model_copy(update={"teacher": teacher})
    sheet = data_sheet(replace(gym, config=config))
    assert sheet.text("teacher").startswith(told)
    names = [answer.name for answer in sheet.missing]
    assert names == ([] if told else ["teacher"])


def test_a_stage_that_never_ran_is_named_with_its_command(
    gym: RoundContext, commands: Commands
) -> None:
    (gym.round.stage("filter") / "manifest.json").unlink()
    checked = commands.on_round("document", "--check")
    assert checked.code == 1
    again = gym.options.command("filter")
    line = f"not filled: What became of personal data? (personal_data) — run `{again}`"
    assert line in checked.out.splitlines()


def test_croissant_is_valid_and_loads_every_record(
    gym: RoundContext, commands: Commands, tmp_path: Path
) -> None:
    import mlcroissant

    folder, _ = write_documents(gym, tmp_path / "documents")
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors and not dataset.metadata.ctx.issues.warnings
    rows = gym.round.read(TRAIN)
    came = {row["train/id"].decode(): row for row in dataset.records("train")}
    assert came.keys() == {row.id for row in rows}
    first = came[rows[0].id]
    assert first["train/answer"].decode() == rows[0].answer
    assert [turn.decode() for turn in first["train/prompt"]] == [
        message.content for message in rows[0].prompt
    ]
    forget = commands.on_round("forget", rows[0].id)
    assert f"{folder}: an export of round-001 with" in forget.out
