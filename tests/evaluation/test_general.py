from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.general import (
    Choice,
    GeneralSet,
    PlainText,
    load_general,
    log_likelihoods,
    measure_general,
)
from workbench.errors import UserError
from workbench.inference.base_models import load_model, load_tokenizer


@pytest.fixture(scope="module")
def loaded(tiny_model: Path) -> tuple[Any, Any]:
    return load_model(tiny_model, dtype=torch.float32).eval(), load_tokenizer(tiny_model)


def test_log_likelihoods_are_those_of_the_models_own_loss_whatever_the_batch(
    loaded: tuple[Any, Any],
) -> None:
    model, tokenizer = loaded
    texts = ["the trainer answers the question today", "right now", "champ sets your chair " * 5]
    alone = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            alone.append(float(model(input_ids=ids, labels=ids).loss))
    for size in (1, 3):
        found = log_likelihoods(model, tokenizer, [("", text) for text in texts], batch_size=size)
        assert [-total / count for total, count in found] == pytest.approx(alone, abs=1e-4)


def test_only_the_continuation_counts(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    together = log_likelihoods(model, tokenizer, [("", "champ sets your chair")])[0]
    context = log_likelihoods(model, tokenizer, [("", "champ sets")])[0]
    rest = log_likelihoods(model, tokenizer, [("champ sets", " your chair")])[0]
    assert rest[0] == pytest.approx(together[0] - context[0], abs=1e-4)
    assert rest[1] == together[1] - context[1]


def test_the_right_answer_is_the_choice_the_model_finds_likeliest(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    choices = ("the chair", "the trainer today", "zzz qqq")
    pairs = [("Question: What?\nAnswer:", f" {choice}") for choice in choices]
    means = [total / count for total, count in log_likelihoods(model, tokenizer, pairs)]
    best = means.index(max(means))
    data = GeneralSet(
        texts=(PlainText(id="t", language="en", text="the trainer answers"),),
        questions=tuple(
            Choice(id=f"q{n}", language="en", question="What?", choices=choices, answer=n)
            for n in range(3)
        ),
    )
    found = measure_general(model, tokenizer, data)
    assert found.by_question == {f"q{n}": n == best for n in range(3)}
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.cross_entropy == pytest.approx(found.by_text["t"])


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_shipped_set_has_texts_and_questions_in_both_languages(
    repo: Path, language: str
) -> None:
    data = load_general(repo / "datasets" / "general", language)
    assert len(data.texts) >= 10
    assert len(data.questions) >= 15
    # No position of the right answer wins by itself.
    first = sum(question.answer == 0 for question in data.questions)
    assert first <= len(data.questions) / 2


def test_a_broken_row_and_a_language_without_rows_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text(
        json.dumps({"id": "a", "language": "en", "text": "One."}) + "\n", encoding="utf-8"
    )
    questions = tmp_path / "questions.jsonl"
    row = {"id": "q", "language": "en", "question": "?", "choices": ["a", "b"], "answer": 2}
    questions.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"questions.jsonl:1: .*there is no such choice"):
        load_general(tmp_path, "en")
    questions.write_text(json.dumps({**row, "answer": 1}) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="no general texts or questions in 'ko'"):
        load_general(tmp_path, "ko")
