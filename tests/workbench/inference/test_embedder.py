"""Embedders: what each of them answers, and which one a setting names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.scripted_server import Reply, Request, ScriptedServer
from workbench.errors import UserError
from workbench.inference.embedder import NgramEmbedder, make_embedder
from workbench.inference.endpoint import Endpoint

TEXTS = ["Wipe the bench.", "Clean the bench.", "무릎이 아파요."]


def test_n_grams_are_normalized_and_a_text_without_one_is_nothing() -> None:
    vectors = NgramEmbedder(TEXTS).embed([*TEXTS, "💪"])
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


@pytest.mark.parametrize(("setting", "language"), [("auto", "ko"), ("ngrams", "en")])
def test_korean_and_a_wish_take_n_grams(setting: str, language: str) -> None:
    embedder = make_embedder(setting, language, TEXTS)
    assert (embedder.name, embedder.by_meaning) == ("character n-grams", False)


def test_a_folder_that_is_not_there_is_a_mistake_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such embedder") as caught:
        make_embedder(str(tmp_path / "gone"), "en", TEXTS)
    assert "gone" in str(caught.value)


def test_an_endpoint_s_vectors_come_back_normalized_and_in_order() -> None:
    def script(request: Request) -> Reply:
        data = [
            {"object": "embedding", "index": place, "embedding": [float(len(text)), 0.0]}
            for place, text in enumerate(request.body["input"])
        ]
        body = {"object": "list", "model": "m", "data": data[::-1], "usage": USAGE}
        return Reply(raw=json.dumps(body).encode())

    with ScriptedServer(script) as server:
        embedder = make_embedder(Endpoint(base_url=server.url, model="m"), "ko", [])
        vectors = embedder.embed(["a"] * 70 + [""])
    assert (embedder.name, embedder.by_meaning) == ("m", True)
    assert vectors.tolist() == [[1.0, 0.0]] * 71


USAGE = {"prompt_tokens": 1, "total_tokens": 1}


def test_an_endpoint_without_embeddings_is_a_mistake_of_one_line() -> None:
    with ScriptedServer(lambda _: Reply(status=404)) as server:
        embedder = make_embedder(Endpoint(base_url=server.url, model="m"), "ko", [])
        with pytest.raises(UserError, match="gives no vectors"):
            embedder.embed(["a"])


@pytest.mark.slow
def test_the_packaged_model_finds_other_words_for_the_same_near() -> None:
    embedder = make_embedder("auto", "en", [])
    near, same, far = embedder.embed(
        ["Wipe the bench after use.", "Clean the pad when you are done.", "I slept four hours."]
    )
    assert (embedder.name, embedder.by_meaning) == ("all-MiniLM-L6-v2", True)
    assert near @ near == pytest.approx(1, abs=1e-5)
    assert near @ same > near @ far + 0.2
