"""A conversation as a stream: the greedy answer of each arm, one stream at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workbench.errors import UserError
from workbench.inference.chat_session import ChatSession
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import greedy_answers
from workbench.records import Messages, user_prompt

CHAT = user_prompt("the chair?")


def greedy(session: ChatSession, adapter: Path | None, chat: Messages) -> str:
    engine = BatchedEngine(session.adapted.use(adapter), session.adapted.tokenizer, 1)
    answer = greedy_answers(engine, [chat], max_new_tokens=12)[0]
    assert answer
    return answer.text


def test_a_stream_is_the_greedy_answer_of_its_arm(base: Path, adapters: list[Path]) -> None:
    session = ChatSession(base, {"sft": adapters[0]}, dtype=torch.float32)
    expected = {"sft": greedy(session, adapters[0], CHAT), "base": greedy(session, None, CHAT)}
    assert expected["sft"] != expected["base"]
    for arm in ("sft", "base", "sft"):
        assert "".join(session.stream(arm, CHAT, 12)).strip() == expected[arm]


def test_a_stream_that_is_closed_makes_way_for_the_next(base: Path) -> None:
    session = ChatSession(base, {}, dtype=torch.float32)
    stream = session.stream("base", CHAT, 400)
    next(stream)
    with pytest.raises(RuntimeError, match="under way"):
        next(session.stream("base", CHAT, 12))
    stream.close()
    assert "".join(session.stream("base", CHAT, 12)).strip() == greedy(session, None, CHAT)


def test_a_conversation_that_fills_the_model_is_told(base: Path) -> None:
    session = ChatSession(base, {}, dtype=torch.float32)
    with pytest.raises(UserError, match="leaves no room for 500 new tokens"):
        next(session.stream("base", user_prompt("chair " * 200), 500))
