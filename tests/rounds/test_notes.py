"""What people say beside the stages: kept once, in words of the round's own files."""

from __future__ import annotations

import pytest

from rounds.notes import CONTESTS, MENDED, RATINGS, VOTES, contest, mend, rate, vote
from tests.commands import Workspace
from workbench.errors import UserError
from workbench.records import Drop, Example, Message, user_prompt

PROMPT = (Message(role="system", content="You are Coach."), *user_prompt("My wrist hurts."))


def test_a_drop_is_contested_once_by_each_and_only_a_drop(workspace: Workspace) -> None:
    one = workspace.round()
    row = Example(prompt=user_prompt("how deep?"), answer="Champ, deep.")
    drop = Drop.of(row, "filter", "too_long", "900 words")
    workspace.put("filter/drops.jsonl", [drop])
    first = contest(one, row.id, " It is right. ", "ann")
    assert (first.note, first.reason, first.parents) == (
        "It is right.",
        "too_long",
        (drop.id, row.id),
    )
    contest(one, row.id, "It is short enough.", "ann")
    contest(one, row.id, "Mine.", "ben")
    assert [(own.by, own.note) for own in one.read(CONTESTS)] == [
        ("ann", "It is short enough."),
        ("ben", "Mine."),
    ]
    for record, note, what in (("ex-none", "why", "was not dropped"), (row.id, " ", "is empty")):
        with pytest.raises(UserError, match=what):
            contest(one, record, note)


def test_a_mended_answer_keeps_the_conversation_and_what_the_arm_said(workspace: Workspace) -> None:
    one = workspace.round()
    own = mend(one, "sft", PROMPT, "Lift more.", "Rest it, champ.", "unsafe")
    assert [message.role for message in own.prompt] == ["user"]
    assert (own.answer, own.rejected, own.question) == (
        "Rest it, champ.",
        "Lift more.",
        "My wrist hurts.",
    )
    assert (own.origin, own.source, own.note) == ("edit", "round-001/sft", "unsafe")
    again = mend(one, "sft", PROMPT, "Lift more.", "Rest it today, champ.")
    assert one.read(MENDED) == [again]
    for text, what in (("Lift more. ", "nothing was mended"), ("  ", "is empty")):
        with pytest.raises(UserError, match=what):
            mend(one, "sft", PROMPT, "Lift more.", text)


def test_the_last_rating_and_the_last_vote_count(workspace: Workspace) -> None:
    one = workspace.round()
    rate(one, "sft", PROMPT, "Rest.", good=False)
    rate(one, "sft", PROMPT, "Rest.", good=True)
    rate(one, "base", PROMPT, "I am a machine.", good=False)
    assert [(own.arm, own.good) for own in one.read(RATINGS)] == [("sft", True), ("base", False)]
    vote(one, "sft", "rs-1", "rs-2", "before")
    vote(one, "sft", "rs-1", "rs-2", "tie")
    (own,) = one.read(VOTES)
    assert (own.better, own.parents) == ("tie", ("rs-1", "rs-2"))
