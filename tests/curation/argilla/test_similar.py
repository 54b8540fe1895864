"""Rows found as similar: by meaning where an embedder is there; a dataset keeps its own way."""

from __future__ import annotations

from typing import NamedTuple

import httpx
import numpy as np
import pytest

from curation.argilla.client import Connection, connected, existing_dataset
from curation.argilla.push import push
from curation.argilla.similar import (
    DIMENSIONS,
    VECTOR,
    Similarity,
    held_similarity,
    name_of,
    similarity,
)
from workbench.inference.embedder import AUTO, NGRAMS
from workbench.persona import Persona
from workbench.records import Example, user_prompt

MINILM = "similar-all-minilm-l6-v2"
QUESTIONS = (
    "My BMI is 31. Can I start running?",
    "I am quite overweight, is jogging safe for me?",
    "Can I start training on weekends?",
    "My lower back hurts after deadlifts.",
    "Lifting from the floor leaves my spine sore.",
    "My lower half sits after lunch.",
    "How much protein do I need a day?",
    "What amount of eggs and meat should I eat daily?",
    "How much training do I need a day?",
)
"""In threes: a question, the same in other words, and another one in nearly the same letters."""


def nearest(similar: Similarity, texts: tuple[str, ...] = QUESTIONS) -> list[int]:
    """Return the nearest other text of each third one."""
    vectors = np.array(similar.vectors(texts))
    alike = vectors @ vectors.T - 2 * np.eye(len(texts))
    return [int(row.argmax()) for row in alike[::3]]


def test_the_nearest_question_is_the_one_that_means_the_same() -> None:
    similar = similarity(AUTO, "en")
    assert (similar.name, similar.dimensions) == (MINILM, 384)
    assert nearest(similar) == [1, 4, 7]
    assert nearest(similarity(NGRAMS, "en")) == [2, 5, 8], "these letters alone would mislead"


def test_korean_is_compared_by_letters_and_each_text_by_itself() -> None:
    similar = similarity(AUTO, "ko")
    assert (similar.name, similar.dimensions) == (VECTOR, DIMENSIONS)
    texts = ("무릎이 아파요", "아침에 뭘 먹을까요?", "무릎이 아픈데 어떡하죠?")
    assert nearest(similar, texts) == [2]
    assert similar.vectors(texts[1:])[0] == similar.vectors(texts)[1]


def test_a_dataset_keeps_what_it_was_made_by() -> None:
    class Field(NamedTuple):
        name: str

    letters = held_similarity(AUTO, "en", [Field(VECTOR)])
    assert letters is not None and letters.embedder is None
    assert held_similarity(NGRAMS, "en", [Field(MINILM)]) is None, "its embedder is not configured"
    assert name_of("BAAI/bge-m3:latest") == "similar-baai-bge-m3-latest"


@pytest.mark.slow
def test_the_server_answers_by_meaning_and_rows_pushed_later_are_compared_alike(
    owner: Connection, coach: Persona
) -> None:
    rows = [Example(prompt=user_prompt(text), answer="Rest.") for text in QUESTIONS]
    wanted = {"round-095": (AUTO, MINILM, 384), "round-096": (NGRAMS, VECTOR, DIMENSIONS)}
    for name, (setting, vector, dimensions) in wanted.items():
        push(owner, coach, name, rows[:4], reviewers_per_record=1, embedder=setting)
        # The same guide, with or without an embedder: a dataset takes rows as it was made.
        later = push(owner, coach, name, rows, reviewers_per_record=1, embedder=AUTO)
        assert (later.new, later.already) == (5, 4)
        with connected(owner) as client:
            dataset = existing_dataset(client, owner, later.dataset)
            (field,) = dataset.settings.vectors
            assert (field.name, field.dimensions) == (vector, dimensions)
        similar = Similarity() if setting == NGRAMS else similarity(AUTO, "en")
        (value,) = similar.vectors([QUESTIONS[6]])
        query = {"query": {"vector": {"name": vector, "value": value}}}
        headers = {"X-Argilla-Api-Key": owner.api_key}
        with httpx.Client(base_url=owner.url, headers=headers, trust_env=False) as api:
            url = f"/api/v1/datasets/{dataset.id}/records/search"
            items = api.post(url, json=query).raise_for_status().json()["items"]
        first = [item["record"]["fields"]["question"] for item in items][:2]
        assert first == [QUESTIONS[6], QUESTIONS[8 if setting == NGRAMS else 7]]
