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
from workbench.records import Example, Message, Preference, Record, as_messages, user_prompt
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


CONVERSATION = Example(
    prompt=(
        *user_prompt("why"),
        Message(role="assistant", content="walk, champ."),
        Message(role="user", content="and then"),
        Message(role="assistant", content="walk again."),
        Message(role="user", content="and last"),
    ),
    answer="sit down.",
)
ANSWERS = ["walk, champ.", "walk again.", "sit down."]


def trained_texts(row: Record, folder: Path, tokenizer: Any, **trainer: object) -> list[str]:
    path = folder / "train.jsonl"
    write_records(path, [row])
    recipe = Recipe.model_validate({"method": "sft", "lora": {"r": 4}, "trainer": trainer})
    rows = read_rows(recipe, path)
    return [text for _, text in token_view(rows, tokenizer, None, count=9).texts.values()]


@pytest.mark.parametrize("name", ["chatml", "qwen-3", "gemma-2", "mistral"])
def test_of_a_conversation_the_last_answer_is_trained_or_every_one_behind_its_history(
    name: str, families: Families, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder(name))
    (only,) = trained_texts(CONVERSATION, tmp_path, tokenizer)
    assert only.strip().startswith("sit down.")
    every = trained_texts(CONVERSATION, tmp_path, tokenizer, assistant_only_loss=True)
    assert [text.strip()[: len(a)] for text, a in zip(every, ANSWERS, strict=True)] == ANSWERS


def test_it_is_what_a_template_that_marks_answers_lets_trl_train(
    families: Families, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder("chatml"))
    every = trained_texts(CONVERSATION, tmp_path, tokenizer, assistant_only_loss=True)
    chat = [*as_messages(CONVERSATION.prompt), {"role": "assistant", "content": "sit down."}]
    marked = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] =="
        " 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>\n' }}{% endgeneration %}"
        "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    )
    tokens = tokenizer.apply_chat_template(
        chat,
        chat_template=marked,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    assert tokenizer.decode(tokens["input_ids"]) == tokenizer.apply_chat_template(
        chat, tokenize=False
    )
    pairs = zip(tokens["input_ids"], tokens["assistant_masks"], strict=True)
    assert tokenizer.decode([token for token, mask in pairs if mask]) == "".join(every)


def test_a_pair_at_any_turn_is_trained_behind_its_history(
    families: Families, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(families.tokenizer_folder("chatml"))
    record = Preference(prompt=CONVERSATION.prompt[:3], chosen="up", rejected="down")
    texts = token_view(rows_of("dpo", [record], tmp_path), tokenizer, None, count=1).texts
    assert [text.strip()[:4] for _, text in texts.values()] == ["up<|", "down"]
    assert all("walk, champ." in read and "and then" in read for read, _ in texts.values())


def test_conversations_that_begin_alike_teach_their_common_answers_once(tmp_path: Path) -> None:
    other = CONVERSATION.evolve(answer="stand up.")
    write_records(tmp_path / "train.jsonl", [CONVERSATION, other])
    recipe = {"method": "sft", "lora": {"r": 4}, "trainer": {"assistant_only_loss": True}}
    rows = read_rows(Recipe.model_validate(recipe), tmp_path / "train.jsonl")
    assert [row["completion"][0]["content"] for row in rows.rows] == [*ANSWERS, "stand up."]
    one = CONVERSATION.id
    assert rows.names == (f"{one} answer 1", f"{one} answer 2", one, other.id)
