"""``persona chat``: what it answers, and to whom."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from app.cli.main import main
from tests.app.cli.test_export import options, trained  # noqa: F401 — fixtures
from workbench.errors import EXIT_USER_ERROR
from workbench.inference.chat_session import Talker
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import greedy_answers
from workbench.records import Message, user_prompt


def test_a_stream_is_the_greedy_answer_of_its_arm(trained: Path) -> None:  # noqa: F811
    base = trained / "base"
    talker = Talker(base, str(base), {"sft": trained / "adapter"})
    talker.model.float()  # so that two ways to the same answer do not round apart
    chat = user_prompt("the chair?")
    expected = {}
    for arm in ("sft", "base"):
        talker._switch(arm)
        found = greedy_answers(
            BatchedEngine(talker.model, talker.tokenizer, 1), [chat], max_new_tokens=12
        )[0]
        assert found
        expected[arm] = found.text
    assert expected["sft"] != expected["base"]
    streams = {arm: talker.stream(arm, chat, 12) for arm in expected}
    got = dict.fromkeys(expected, "")
    for _ in range(12):  # in turns, as side by side
        for arm, stream in streams.items():
            got[arm] += next(stream, "")
    assert {arm: text.strip() for arm, text in got.items()} == expected


def test_two_arms_answer_each_line(
    options: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("the chair?\nand today?\n/quit\nnever read\n"))
    assert main(["chat", "--vs", "base", "--max-new-tokens", "6", *options]) == 0
    out = capsys.readouterr().out
    assert out.count("[sft] ") == out.count("[base] ") == 2


def test_arms_that_are_not_there_are_one_line(
    options: list[str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments, told in (
        (["--arm", "stf"], "there is no arm 'stf' — did you mean 'sft'?"),
        (["--arm", "dpo"], "run `persona train dpo` first"),
        (["--vs", "sft"], "both arms are 'sft'"),
    ):
        assert main(["chat", *arguments, *options]) == EXIT_USER_ERROR
        assert told in capsys.readouterr().err


def test_a_conversation_that_fills_the_model_is_told(trained: Path) -> None:  # noqa: F811
    base = trained / "base"
    talker = Talker(base, str(base), {})
    with pytest.raises(Exception, match="leaves no room for 500 new tokens"):
        next(talker.stream("base", (Message(role="user", content="chair " * 200),), 500))
