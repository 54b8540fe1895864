from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.general import PlainText, load_general, measure_general, text_likelihoods
from workbench.errors import UserError, UserErrors
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.inference.likelihood import log_likelihoods


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
        found = text_likelihoods(model, tokenizer, texts, size)
        assert [-total / count for total, count in found] == pytest.approx(alone, abs=1e-4)


def test_only_the_continuation_counts(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    whole = tokenizer("champ sets your chair", add_special_tokens=False)["input_ids"]
    together = log_likelihoods(model, [(whole, 1)])[0]
    context = log_likelihoods(model, [(whole[:2], 1)])[0]
    rest = log_likelihoods(model, [(whole, 2)])[0]
    assert rest[0] == pytest.approx(together[0] - context[0], abs=1e-4)
    assert rest[1] == together[1] - context[1]


def test_the_cross_entropy_is_the_mean_over_the_tokens_of_all_texts(
    loaded: tuple[object, object],
) -> None:
    texts = [
        PlainText(id="short", language="en", text="the trainer answers"),
        PlainText(id="long", language="en", text="champ sets your chair today " * 3),
    ]
    found = measure_general(*loaded, texts)
    sums = text_likelihoods(*loaded, [text.text for text in texts])
    assert found.tokens == sum(count for _, count in sums)
    assert found.cross_entropy == pytest.approx(-sum(total for total, _ in sums) / found.tokens)
    assert found.by_text["long"] == pytest.approx(-sums[1][0] / sums[1][1])


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_shipped_set_has_texts_in_both_languages(repo: Path, language: str) -> None:
    assert len(load_general(repo / "datasets" / "general", language)) >= 10


def test_broken_rows_and_a_language_without_rows_are_said_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    row = {"id": "a", "language": "en", "text": "One."}
    file.write_text(json.dumps(row) + "\n" + json.dumps({**row, "text": ""}), encoding="utf-8")
    with pytest.raises(UserErrors, match=r"texts.jsonl:2"):
        load_general(tmp_path, "en")
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="no general text in 'ko'"):
        load_general(tmp_path, "ko")
