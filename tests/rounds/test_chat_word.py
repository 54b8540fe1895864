"""What a line of a terminal's chat says of an answer: rated, mended, gone on from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from rounds.layout import RoundFolder
from rounds.notes import CANDIDATES, MENDED, MENDED_PAIRS, RATINGS, carry_notes
from rounds.round import Chat
from rounds.talks import chat_word
from tests.commands import Workspace
from workbench.errors import UserError
from workbench.inference.chat_session import ChatSession
from workbench.records import Example, Messages, user_prompt


class _Echo:
    """A session that says how many messages it was asked with."""

    def stream(self, arm: str, chat: Messages, most: int) -> Iterator[str]:
        yield f"{arm or 'base'} at {len(chat)}"


@pytest.fixture
def chats() -> dict[str, Chat]:
    session = cast(ChatSession, _Echo())
    return {arm: Chat(session, arm, "Be a coach.", 9) for arm in ("sft", "base")}


def test_an_answer_is_rated_and_mended_for_the_next_round(
    workspace: Workspace, chats: dict[str, Chat]
) -> None:
    row = Example(prompt=user_prompt("How do I sit at my desk?"), answer="Up.", topic="squat_form")
    workspace.put("import/examples.jsonl", [row])
    context = workspace.context()
    one = {"sft": chats["sft"]}
    with pytest.raises(UserError, match="answered nothing yet"):
        chat_word(context, one, "/good")
    assert chat_word(context, one, "How do I sit at my desk?") is None
    assert chat_word(context, one, "/etc/hosts is what?") is None
    one["sft"].ask("How do I sit at my desk?")
    assert chat_word(context, one, "/bad") == "kept: sft's answer was bad"
    said = chat_word(context, one, "/mend Feet flat, champ.") or ""
    assert "persona next" in said and "on no topic" not in said
    (rating,) = context.round.read(RATINGS)
    (mended,) = context.round.read(MENDED)
    assert (rating.good, rating.text) == (False, "sft at 2")
    assert (mended.answer, mended.rejected) == ("Feet flat, champ.", "sft at 2")
    assert [turn.role for turn in mended.prompt] == ["user"] and mended.topic == "squat_form"
    opened = RoundFolder(workspace.folder(2))
    carry_notes([context.round], opened)
    assert [one.answer for one in opened.read(CANDIDATES)] == ["Feet flat, champ."]
    assert [pair.rejected for pair in opened.read(MENDED_PAIRS)] == ["sft at 2"]


def test_of_two_arms_one_is_named_and_both_branch(
    workspace: Workspace, chats: dict[str, Chat]
) -> None:
    context = workspace.context()
    for question in ("One?", "Two?"):
        for chat in chats.values():
            chat.ask(question)
    with pytest.raises(UserError, match="of no arm"):
        chat_word(context, chats, "/good")
    assert chat_word(context, chats, "/good base") == "kept: base's answer was good"
    assert chat_word(context, chats, "/branch 1") == "on from answer 1"
    assert {len(chat.messages) for chat in chats.values()} == {3}
    assert chat_word(context, chats, "/branch 0") == "from the beginning"
    assert {len(chat.messages) for chat in chats.values()} == {1}
    for wrong in ("/branch", "/branch 1", "/branch x"):
        with pytest.raises(UserError, match="0 to 0"):
            chat_word(context, chats, wrong)
