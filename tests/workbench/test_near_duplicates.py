"""Twins among short texts: found as a comparison of all with all finds them."""

from __future__ import annotations

import random
import zlib

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz import fuzz, process, utils

from workbench.near_duplicates import (
    BY_SHINGLES,
    BY_WORDS,
    PERMUTATIONS,
    NearTextIndex,
    Way,
    sketches_of,
)

ENGLISH = "knee squat chair deep sleep coffee evening sore walk lunch desk back weight plan rest"
KOREAN = "무릎이 스쿼트 의자에 깊이 잠을 커피를 저녁에 아프고 걷기 점심 책상 허리가 무게를 계획"


@pytest.mark.parametrize("vocabulary", [ENGLISH, KOREAN], ids=["en", "ko"])
def test_twins_are_those_that_comparing_with_every_text_finds(vocabulary: str) -> None:
    words = vocabulary.split()
    draw = random.Random(3)
    texts = [" ".join(draw.choices(words, k=draw.randint(4, 14))) for _ in range(300)]
    index = NearTextIndex(90.0)
    for number, text in enumerate(texts):
        index.add(number, text)
    found = expected = 0
    for text in draw.sample(texts, 150):
        parts = text.split()
        draw.shuffle(parts)
        at = draw.randrange(len(parts))
        parts[at] = parts[at][:-1] or parts[at]
        changed = " ".join(parts).capitalize() + "?"
        best = process.extractOne(
            changed, texts, scorer=fuzz.token_sort_ratio, processor=utils.default_process,
            score_cutoff=90.0,
        )  # fmt: skip
        if best is not None:
            expected += 1
            twin = index.nearest(changed)
            found += twin is not None and twin[1] == pytest.approx(best[1], abs=0.01)
    assert expected > 100
    assert found >= 0.98 * expected


def test_other_texts_are_no_twins() -> None:
    index = NearTextIndex(90.0)
    index.add("a", "How deep should I squat?")
    assert index.nearest("how deep, should I squat") == ("a", 100.0)
    assert index.nearest("How long should I sleep?") is None
    assert NearTextIndex(90.0).nearest("anything") is None


@pytest.mark.parametrize("way", [BY_SHINGLES, BY_WORDS], ids=["shingles", "words"])
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.text(max_size=700) | st.sampled_from([ENGLISH, KOREAN, "", "😀é가a b"])))
def test_a_sketch_is_the_librarys_own(way: Way, texts: list[str]) -> None:
    for text, sketch in zip(texts, sketches_of(way, texts), strict=True):
        own = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
        pieces = way.pieces(text)
        if not pieces:
            assert sketch is None
            continue
        own.update_batch([piece.encode() for piece in pieces])
        assert sketch is not None
        assert np.array_equal(sketch, own.hashvalues)
