"""Rows written for other trainers: every form is read back to the same rows, by their ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from generation.importing import Imported, import_rows
from generation.row_forms import FORMATS, KINDS, RowFormat, RowKind, write_rows
from workbench.errors import UserError
from workbench.records import (
    Example,
    Message,
    Messages,
    Preference,
    Row,
    SplitName,
    UnpairedPreference,
)
from workbench.row_files import row_files

COUNT = 10_800
"""Of which 100 have an answer that looks like turns."""
Files = dict[tuple[RowKind, SplitName], Sequence[Row]]
LEARNT: tuple[RowKind, ...] = ("sft", "preferences", "unpaired")
SIDES: tuple[SplitName, ...] = ("train", "validation")
TEXTS = (
    "Champ, two sets.\nThen walk.",
    '[{"role": "assistant", "content": "a text that looks like turns"}]',
    '콤마, "따옴표"; 그리고 이모지 💪',
    "=SUM(A1), 'quoted'\n\n- a list\n- of orders",
)


def _prompt(number: int) -> Messages:
    asked = Message(role="user", content=f"Question {number}: {TEXTS[number % 4]}")
    if number % 3 == 0:
        return (asked,)
    before = (Message(role="user", content="Before?"), Message(role="assistant", content="Yes."))
    system = (Message(role="system", content="You are a trainer."),) if number % 3 == 1 else ()
    return (*system, *before, asked)


def _example(number: int) -> Example:
    kind = "adversarial" if number % 5 == 0 else ""
    odd = number % 4 == 1 and number < 400
    answer = TEXTS[1] if odd else f"{TEXTS[number % 4]} {number}"
    return Example(prompt=_prompt(number), answer=answer, topic=f"t{number % 7}", kind=kind)


def _pair(number: int) -> Preference:
    one = _example(number)
    return Preference(
        prompt=one.prompt, chosen=one.answer, rejected=f"No {number}.", topic=one.topic
    )


def _unpaired(number: int) -> UnpairedPreference:
    pair = _pair(number // 2)
    answer = pair.rejected if number % 2 else pair.chosen
    return UnpairedPreference(
        prompt=pair.prompt, answer=answer, label=not number % 2, topic=pair.topic
    )


ROWS: dict[RowKind, Callable[[int], Row]] = {
    "sft": _example,
    "prompts": _example,
    "preferences": _pair,
    "unpaired": _unpaired,
}


def _texts(row: Row) -> set[str]:
    return {str(getattr(row, name, "")) for name in ("answer", "chosen")}


@cache
def _rows(kind: RowKind) -> list[Row]:
    return [ROWS[kind](number) for number in range(COUNT)]


def _written(folder: Path, rows: Sequence[Row], kind: RowKind, form: RowFormat) -> Imported:
    assert write_rows({(kind, "train"): rows}, form, folder, "gym").changed == []
    return import_rows(folder, None)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_rows_come_back_with_their_ids(
    tmp_path: Path, form: RowFormat, kind: RowKind
) -> None:
    rows = _rows(kind)[:COUNT] if kind == "sft" else _rows(kind)[350:450]
    if form == "alpaca" or kind == "prompts":  # the answer is text: one like turns reads as turns
        rows = [row for row in _rows(kind)[800:] if TEXTS[1] not in _texts(row)]
        rows = rows if kind == "sft" else rows[:100]
    count = len(rows)
    assert kind != "sft" or count >= 10_000
    imported = _written(tmp_path, rows, kind, form)
    assert imported.mistakes == [] and imported.dropped == []
    assert any(f"{count:,} rows of ours, ids as before" in note for note in imported.notes)
    assert not any("changed" in note or "columns passed" in note for note in imported.notes)
    if kind == "unpaired":
        # A liked answer is a row, and with one that was turned down a pair.
        pairs = {_pair(number).id: _pair(number) for number in range(COUNT // 2)}
        unpaired = [row for row in rows if isinstance(row, UnpairedPreference)]
        disliked = {(row.prompt, row.answer) for row in unpaired if not row.label}
        assert {row.id for row in imported.preferences} <= pairs.keys()
        assert {(row.prompt, row.rejected) for row in imported.preferences} == disliked
    else:
        came = [row.id for row in (*imported.examples, *imported.preferences)]
        assert came == [row.id for row in rows]


def test_a_row_that_was_changed_names_the_row_that_it_was(tmp_path: Path) -> None:
    row = _example(3)
    write_rows({("sft", "train"): [row]}, "messages", tmp_path, "gym")
    file = tmp_path / "sft-train.jsonl"
    file.write_text(file.read_text("utf-8").replace("orders", "tasks"), encoding="utf-8")
    imported = import_rows(file, None)
    assert row.id in imported.examples[0].parents
    assert any("1 row of ours changed since" in note for note in imported.notes)


def test_a_text_that_an_import_straightens_is_named(tmp_path: Path) -> None:
    row = Example(prompt=_prompt(0), answer="Two sets. ")
    assert write_rows({("sft", "train"): [row]}, "trl", tmp_path, "gym").changed == [row.id]


def test_alpaca_refuses_turns_that_it_has_no_place_for(tmp_path: Path) -> None:
    asked = Message(role="user", content="And?")
    row = Example(prompt=(asked, asked), answer="Two sets.")
    with pytest.raises(UserError, match="Alpaca has no place") as error:
        write_rows({("sft", "train"): [row]}, "alpaca", tmp_path, "gym")
    assert error.value.where == row.id


def test_without_ids_the_rows_have_the_columns_of_the_form_alone(tmp_path: Path) -> None:
    write_rows({("preferences", "train"): [_pair(1)]}, "openai", tmp_path, "gym", ids=False)
    (row,) = map(json.loads, (tmp_path / "preferences-train.jsonl").read_text("utf-8").splitlines())
    assert set(row) == {"input", "preferred_output", "non_preferred_output"}


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "messages"])
def test_llama_factory_is_told_of_every_file_with_columns_that_are_there(
    tmp_path: Path, form: RowFormat
) -> None:
    rows: Files = {(kind, "train"): [ROWS[kind](2)] for kind in LEARNT}
    write_rows(rows, form, tmp_path, "gym")
    info = json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))
    assert set(info) == {"gym_sft_train", "gym_preferences_train", "gym_unpaired_train"}
    for name, entry in info.items():
        ((_, found),) = [*_first_rows(tmp_path / entry["file_name"])]
        assert set(entry["columns"].values()) <= set(found)
        assert entry.get("ranking", False) == (name == "gym_preferences_train")
        turns = found.get(entry["columns"].get("messages"), [])
        role = entry.get("tags", {}).get("role_tag", "from")
        assert all(role in turn for turn in turns)


def _first_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(row.place, dict(row.data)) for _, rows in row_files(path) for row in rows]


@pytest.mark.parametrize("form", ["sharegpt", "messages"])
def test_axolotl_gets_a_block_whose_fields_are_those_of_the_rows(
    tmp_path: Path, form: RowFormat
) -> None:
    rows: Files = {(kind, split): [ROWS[kind](1)] for kind in LEARNT[:2] for split in SIDES}
    write_rows(rows, form, tmp_path, "gym")
    for kind in LEARNT[:2]:
        block = yaml.safe_load((tmp_path / f"axolotl-{kind}.yaml").read_text("utf-8"))
        assert block.get("rl") == ("dpo" if kind == "preferences" else None)
        for entry in (*block["datasets"], *block["test_datasets"]):
            ((_, found),) = _first_rows(tmp_path / entry["path"])
            turns = found[entry["field_messages"]]
            names = entry["message_property_mappings"]
            spoken = {word: role for role, words in entry["roles"].items() for word in words}
            assert isinstance(turns, list)
            assert {spoken[turn[names["role"]]] for turn in turns} <= set(spoken.values())
            if kind == "preferences":
                assert names["content"] in found[entry["field_chosen"]]
