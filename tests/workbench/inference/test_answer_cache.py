"""Answers that outlive a kill, in one file for threads and processes alike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache, answer_key, model_fingerprint
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Paid

WRITE = """
import sys
from pathlib import Path
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.completion import Completion
cache = AnswerCache(Path(sys.argv[1]))
for number in range(100_000):
    cache.put(str(number), Completion(end="ok", text="So.", attempts=1), "ask", "m at a")
    print(number, flush=True)
"""


def test_a_kept_answer_costs_nothing(tmp_path: Path) -> None:
    paid = Completion(end="ok", text="So.", attempts=2, input_tokens=9, output_tokens=4, tokens=2)
    file = tmp_path / "deep" / "answers.sqlite"
    with AnswerCache(file) as first:
        first.put("a", paid)
        # A second process reads it while the first still has the file open.
        with AnswerCache(file) as second:
            kept = second.get("a")
        assert first.get("b") is None
    free = {"attempts": 0, "input_tokens": 0, "output_tokens": 0, "cached": True}
    assert kept == paid.model_copy(update=free)


def test_what_failed_is_not_kept_and_what_was_filtered_is(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "answers.sqlite") as cache:
        cache.put("down", Completion(end="failed", reason="timeout", attempts=5), "ask", "m at a")
        cache.put("busy", Completion(end="limited", reason="rate_limit", attempts=1))
        cache.put("long", Completion(end="filtered", reason="too_long", attempts=1))
        assert cache.get("down") is cache.get("busy") is None
        kept = cache.get("long")
        # What a failure took was taken all the same.
        assert cache.paid() == {"ask": Paid(5, 0, 0)}
    assert kept is not None and kept.reason == "too_long"


def test_what_was_paid_is_told_by_step_and_by_endpoint() -> None:
    a, b = (Endpoint(base_url="http://a/v1", model=name) for name in ("a", "b"))
    took = Completion(end="ok", text="So.", attempts=1, input_tokens=3, output_tokens=2)
    with AnswerCache(None) as cache:
        for key, step, endpoint in (("1", "judge", a), ("2", "judge", b), ("3", "answers", a)):
            cache.put(key, took, step, endpoint.name)
        assert cache.paid() == {"answers": Paid(1, 3, 2), "judge": Paid(2, 6, 4)}
        assert cache.paid(b) == {"judge": Paid(1, 3, 2)}
        assert cache.count() == 3


def test_a_kill_loses_nothing_that_was_put(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    last = 0
    for line in process.stdout:
        last = int(line)
        if last == 200:
            os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with AnswerCache(file) as cache:
        assert all(cache.get(str(number)) for number in range(last + 1))
        # The one that was under way may be there or not, and its account with it.
        assert cache.paid()["ask"].attempts == cache.count() in (last + 1, last + 2)


def test_threads_share_an_object(tmp_path: Path) -> None:
    with AnswerCache(tmp_path / "answers.sqlite") as cache, ThreadPoolExecutor(8) as threads:

        def work(number: int) -> bool:
            cache.put(str(number), Completion(end="ok", text=str(number)))
            return (kept := cache.get(str(number))) is not None and kept.text == str(number)

        assert all(threads.map(work, range(400)))
        assert cache.count() == 400


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "answers.sqlite"
    file.write_text("no database " * 100, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        AnswerCache(file)
    assert caught.value.line().startswith(f"{file}: the answers cannot be kept (file is not a data")


def test_a_key_takes_its_parts_in_any_order() -> None:
    assert answer_key(model="m", messages=["무릎"]) == answer_key(messages=["무릎"], model="m")
    assert answer_key(model="m") != answer_key(model="n") != answer_key(endpoint="n")


def test_a_local_model_is_told_by_weights_template_and_adapter(tmp_path: Path) -> None:
    model, adapter = tmp_path / "model", tmp_path / "adapter"
    for folder in (model, adapter):
        folder.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"1")
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (adapter / "adapter_model.safetensors").write_bytes(b"1")
    seen = [model_fingerprint(model), model_fingerprint(model, adapter)]
    (model / "chat_template.jinja").write_text("{{ messages }}!")
    seen.append(model_fingerprint(model))
    (model / "model.safetensors").write_bytes(b"12")
    seen.append(model_fingerprint(model))
    (adapter / "adapter_model.safetensors").write_bytes(b"2")
    seen.append(model_fingerprint(model, adapter))
    assert len({tuple(one) for one in seen}) == 5
