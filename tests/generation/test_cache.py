from __future__ import annotations

from pathlib import Path

from generation.cache import AnswerCache, request_key
from generation.outcome import Outcome


def test_a_kept_answer_costs_nothing(tmp_path: Path) -> None:
    paid = Outcome(status="ok", text="So.", attempts=2, input_tokens=9, output_tokens=4, tokens=2)
    first = AnswerCache(tmp_path / "deep" / "answers.sqlite")
    first.put("a", paid)
    # A second process reads it while the first still has the file open.
    found = AnswerCache(tmp_path / "deep" / "answers.sqlite").get("a")
    assert found == paid.model_copy(
        update={"attempts": 0, "input_tokens": 0, "output_tokens": 0, "cached": True}
    )
    assert first.get("b") is None


def test_failures_are_not_kept_and_filtered_ones_are(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("down", Outcome(status="failed", reason="timeout", attempts=5))
    cache.put("long", Outcome(status="filtered", reason="too_long", attempts=1))
    assert cache.get("down") is None
    kept = cache.get("long")
    assert kept is not None and kept.reason == "too_long"


def test_a_key_covers_all_that_decides_an_answer() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "무릎"}], "temperature": 0.7}
    key = request_key("http://a/v1", body)
    assert key == request_key("http://a/v1", dict(reversed(body.items())))
    others = [
        request_key("http://b/v1", body),
        request_key("http://a/v1", {**body, "model": "n"}),
        request_key("http://a/v1", {**body, "temperature": 0.8}),
        request_key("http://a/v1", {**body, "messages": []}),
        request_key("http://a/v1", {**body, "seed": 1}),
    ]
    assert len({key, *others}) == 6
