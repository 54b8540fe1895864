"""Questions that ask the same in other words: what the shipped thresholds find and cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.paraphrase_pairs import (
    Likenesses,
    by_embedder,
    by_wording,
    likenesses,
    seeds_of,
    threshold_of,
    tried,
)
from workbench.inference.embedder import MINILM, NGRAMS, make_embedder
from workbench.paraphrases import Meaning


class Planted:
    """An embedder whose vectors a test has chosen."""

    name, by_meaning = "planted", True

    def __init__(self, vectors: dict[str, tuple[float, float]]) -> None:
        self._vectors = vectors

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self._vectors[text] for text in texts], dtype=np.float32)


def test_minilm_finds_a_third_of_hard_paraphrases_at_one_natural_pair_in_a_thousand() -> None:
    compare = by_embedder(make_embedder(MINILM, "en", []))
    chosen = tried(compare, "en")
    assert chosen.threshold == pytest.approx(Meaning().least), (
        "one half gives the shipped threshold"
    )
    assert chosen.recall >= 0.3 and chosen.precision >= 0.7
    assert chosen.natural <= 0.001 and chosen.seeds <= 0.001
    raw = tried(_cosines, "en", 0.6)
    assert raw.precision < 0.5, "a cosine alone takes shared words for shared meaning"


def _cosines(left: Sequence[str], right: Sequence[str]) -> Likenesses:
    embedder = make_embedder(MINILM, "en", [])
    return embedder.embed(left) @ embedder.embed(right).T


def test_neither_wording_nor_ngrams_find_paraphrases() -> None:
    for language in ("en", "ko"):
        assert tried(by_wording, language, 0.6).recall == 0
    ngrams = by_embedder(make_embedder(NGRAMS, "ko", seeds_of("ko")))
    own = tried(ngrams, "ko")
    assert own.threshold == pytest.approx(Meaning(language="ko").least, abs=0.02)
    assert own.recall <= 0.05, "which is what the documentation says of Korean without an embedder"


def test_shared_words_are_taken_off_a_cosine() -> None:
    texts = ["how do I begin to run", "how do I begin to rest", "starting out on the treadmill"]
    near = Planted(dict.fromkeys(texts, (0.8, 0.6)))
    alike = likenesses(texts[:1], texts[1:], near)[0]
    assert alike[1] > alike[0] + 0.2


def test_a_threshold_joins_at_most_one_natural_pair_in_a_thousand() -> None:
    natural = np.linspace(0, 1, 10_001, dtype=np.float32)
    assert threshold_of(natural) == pytest.approx(1.0)
    assert threshold_of(natural * 0.5) == pytest.approx(0.5)
    assert (natural * 0.5 >= threshold_of(natural * 0.5)).mean() <= 0.001


def test_pairs_of_one_kind_are_left_out_and_the_likest_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = ["alpha one", "bravo two", "charlie six", "delta nine"]
    vectors = {"alpha one": (1.0, 0.0), "bravo two": (0.8, 0.6), "charlie six": (1.0, 0.0)}
    planted = Planted(vectors | {"delta nine": (0.0, 1.0)})
    monkeypatch.setattr(Meaning, "embedder", lambda _self, _texts: planted)
    pairs = Meaning().pairs(texts)
    assert pairs[0][:2] == (0, 2) and len(pairs) == 4
    assert [likeness for *_, likeness in pairs] == sorted((p[2] for p in pairs), reverse=True)
    split = Meaning().pairs(texts, ["train", "test", "train", "train"])
    assert {pair[:2] for pair in split} == {(0, 1), (1, 2), (1, 3)}
