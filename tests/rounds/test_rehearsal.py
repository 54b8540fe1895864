"""Rows that keep abilities: which of the base's own answers become rows, and where they go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.answer import PromptSet
from rounds import rehearsal
from rounds.context import RoundContext
from rounds.layout import RoundFolder, trained_rows
from rounds.rehearsal import with_rehearsal
from training.recipe import load_recipe
from training.run import RehearsalSettings
from workbench.config import RunConfig
from workbench.errors import UserErrors
from workbench.persona import load_persona
from workbench.records import Example, Response, user_prompt
from workbench.store import write_records

ANSWERS = {
    "Say two words.": "Green tea",
    "Say three words.": "One green tea",
    "Name a river.": "It is the Rhine.",
    "Name a lake.": "A lake.",
    "Count on.": "and so it goes on " * 12,
    "Tell me more.": "It never",
}
CHECKS = {
    "Say two words.": {"kind": "exact_words", "count": 2},
    "Say three words.": {"kind": "exact_words", "count": 3},
    "Name a river.": {"kind": "contains_all", "phrases": ["Rhine"]},
    "Name a lake.": {"kind": "contains_all", "phrases": ["Baikal"]},
    "Count on.": {"kind": "min_words", "min": 9},
    "Tell me more.": {"kind": "max_words", "max": 9},
}
LONGEST = 8
SETTINGS = RehearsalSettings(rows=9, max_new_tokens=LONGEST)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A base that answers by heart; the prompts of each batch as it was asked them."""
    asked: list[list[str]] = []

    def answer(sets: Sequence[PromptSet], *_: object, **how: object) -> list[list[Response]]:
        (batch,) = sets
        assert [(arm.name, arm.adapter, arm.system) for arm in batch.arms] == [("base", None, None)]
        assert batch.max_new_tokens == LONGEST
        asked.append([one.question for one in batch.examples])
        return [
            [
                Response(
                    arm="base",
                    prompt_id=one.id,
                    prompt=one.prompt,
                    text=ANSWERS[one.question],
                    tokens=LONGEST if one.question == "Tell me more." else 3,
                )
                for one in batch.examples
            ]
        ]

    monkeypatch.setattr(rehearsal, "answer_sets", answer)
    monkeypatch.setattr(rehearsal, "resolve_model", Path)
    return asked


@pytest.fixture
def context(repo: Path, tmp_path: Path) -> RoundContext:
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    lines = [
        json.dumps({"id": f"r{n}", "prompt": prompt, "checks": [check]})
        for n, (prompt, check) in enumerate(CHECKS.items())
    ]
    (folder / "en.jsonl").write_text("\n".join(lines))
    config = RunConfig.model_validate(
        {"train": {"rehearsal": folder}, "evaluate": {"batch_size": len(CHECKS)}}
    )
    persona = load_persona(repo / "datasets/gym-trainer")
    return RoundContext(config, persona, RoundFolder(tmp_path / "round-001"), tmp_path)


def _rows(context: RoundContext, settings: RehearsalSettings) -> list[Example]:
    return rehearsal.rehearsal_rows(context, settings, context.round.folder)


def test_only_whole_answers_that_keep_to_everything_become_rows(
    context: RoundContext, batches: list[list[str]]
) -> None:
    rows = {row.question: row for row in _rows(context, SETTINGS)}
    # The lake is the wrong one, counting goes in circles, and telling more did not end.
    assert set(rows) == {"Say two words.", "Say three words.", "Name a river."}
    row = rows["Name a river."]
    assert row.answer == "It is the Rhine."
    assert (row.origin, row.kind, row.parents) == ("rehearsal", "rehearsal", ())
    assert row.source == "r2"


def test_no_more_is_asked_than_is_needed_and_kinds_take_turns(
    context: RoundContext, batches: list[list[str]]
) -> None:
    few = context.config.evaluate.model_copy(update={"batch_size": 2})
    context = replace(context, config=context.config.model_copy(update={"evaluate": few}))
    rows = _rows(context, SETTINGS.model_copy(update={"rows": 2}))
    assert [row.question for row in rows] == ["Say two words.", "Name a river."]
    assert batches == [["Say two words.", "Name a river.", "Count on.", "Tell me more."]]


def test_rows_to_rehearse_stand_beside_the_persona_s(
    context: RoundContext, batches: list[list[str]], tmp_path: Path
) -> None:
    train, out = tmp_path / "train.jsonl", tmp_path / "sft"
    own = [Example(prompt=user_prompt("How do I squat?"), answer="Sit back, champ.")]
    write_records(train, own)
    out.mkdir()
    assert with_rehearsal(context, RehearsalSettings(), train, out, tmp_path) == (train, 0)
    assert batches == []

    file, count = with_rehearsal(context, SETTINGS, train, out, tmp_path)

    assert (file, count) == (out / trained_rows("sft").name, 3)
    rows = [Example.model_validate_json(line) for line in file.read_text().splitlines()]
    assert [row.origin for row in rows] == ["seed", "rehearsal", "rehearsal", "rehearsal"]
    assert rows[0] == own[0]


def test_a_base_that_keeps_to_nothing_rehearses_nothing_and_it_is_told(
    context: RoundContext,
    batches: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(rehearsal, "failed", lambda *_: ("language",))
    train = tmp_path / "train.jsonl"
    assert with_rehearsal(context, SETTINGS, train, tmp_path, tmp_path) == (train, 0)
    told = " ".join(capsys.readouterr().err.split())
    assert "rehearsal: 0 of 9 rows, of 6 instructions the base keeps to no more" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: dpo\nrehearsal: {rows: 4}", "rehearsal.rows are for sft on chats"),
        ("method: sft\ndata: text\nlora: {r: 8}\nrehearsal: {rows: 4}", "are for sft on chats"),
        ("method: sft\nlora: {r: 8}\nrehearsal: {row: 4}", "rehearsal.row is no"),
        ("method: sft\nlora: {r: 8}\nrehearsal: {rows: -1}", "rehearsal.rows is -1"),
    ],
)
def test_a_recipe_that_cannot_rehearse_says_so(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(f"{text}\ntrainer: {{max_steps: 2}}\n")
    with pytest.raises(UserErrors) as told:
        load_recipe(file)
    assert any(said in error.line() for error in told.value.errors), told.value.errors
