"""Which tokens are trained, and which rows teach nothing: told by count and id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.template_families import Families
from training.methods import read_rows
from training.run import Recipe
from training.tokens import fit, token_view
from workbench.errors import UserError
from workbench.inference.base_models import load_tokenizer
from workbench.records import Example, Preference, Record, user_prompt
from workbench.store import write_records


def rows_of(method: str, records: list[Any], folder: Path) -> Any:
    path = folder / "train.jsonl"
    write_records(path, records)
    return read_rows(Recipe.model_validate({"method": method, "lora": {"r": 4}}), path)


def pair(chosen: str, rejected: str) -> Preference:
    return Preference(prompt=user_prompt("why"), chosen=chosen, rejected=rejected)


@pytest.mark.parametrize("name", ["qwen-3", "mistral", "deepseek-r1", "harmony"])
def test_the_trained_text_is_the_answer_and_its_end(
    name: str, families: Families, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder(name))
    row = Example(prompt=user_prompt("why"), answer="한 걸음, champ.")
    view = token_view(rows_of("sft", [row], tmp_path), tokenizer, None, count=1)
    ((read, trained),) = view.texts.values()
    assert trained.strip().startswith("한 걸음, champ.") and "why" in read
    assert str(tokenizer.eos_token) in trained
    assert list(view.texts) == [row.id] and 0 < view.trained < view.tokens


def test_pairs_that_are_the_same_up_to_the_cut_teach_nothing(
    families: Families, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder("chatml"))
    long = "walk " * 60
    records = [pair("up", "down"), pair(f"{long}up", f"{long}down"), pair("walk", " walk now")]
    rows = rows_of("dpo", records, tmp_path)
    fitting = fit(rows, tokenizer, 64)
    assert fitting.names == (records[0].id, records[2].id) and fitting.left_out == 1
    line = "1 of 3 rows left out, both answers are the same tokens up to max_length (64 tokens): "
    assert line + records[1].id in capsys.readouterr().err.replace("\n", "")
    assert len(fit(rows, tokenizer, 512).rows) == 3
    view = token_view(rows, tokenizer, 64, count=1)
    assert list(view.texts) == [f"{records[0].id} chosen", f"{records[0].id} rejected"]
    assert view.notes[0].startswith("1 of 3 rows left out")


@pytest.mark.parametrize("answer", [" ", "\n\n"])
def test_empty_answers_teach_nothing(answer: str, families: Families, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder("chatml"))
    records: list[Record] = [Example(prompt=user_prompt("why"), answer=answer)]
    with pytest.raises(UserError) as caught:
        fit(rows_of("sft", records, tmp_path), tokenizer, None)
    line = f"no row teaches anything: 1 of 1 rows left out, their answer is empty: {records[0].id}"
    assert line in caught.value.line()


def test_more_than_five_rows_are_counted(families: Families, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder("chatml"))
    records = [Example(prompt=user_prompt("walk " * 99), answer=f"{n}") for n in range(8)]
    view = token_view(rows_of("sft", records, tmp_path), tokenizer, 32, count=3)
    assert view.texts == {} and (view.trained, view.tokens) == (0, 0)
    (note,) = view.notes
    assert note.startswith("8 of 8 rows left out") and note.endswith("and 3 more")
