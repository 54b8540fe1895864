"""What servers send, as it is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import BaseModel, ConfigDict

from workbench.inference.refusals import retry_after
from workbench.inference.reply import Reply, WrongShape, read_json, read_reply


class Questions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: list[str]


READABLE = {
    "as asked": ('{"questions": ["How?"]}', ["How?"]),
    "fence": ('Of course:\n```json\n{"questions": ["How?"]}\n```', ["How?"]),
    "prose after, with braces": ('{"questions": ["How?"]} I hope this helps {you}!', ["How?"]),
    "prose before, with braces": ('With {curly} braces: {"questions": ["How?"]}', ["How?"]),
    "line break in a string": ('{"questions": ["How\nso?"]}', ["How\nso?"]),
    "smart quotes inside": ('{"questions": ["Say “go” now"]}', ["Say “go” now"]),
    "a draft before": ('Draft: {"questions": ["draft"]}\n{"questions": ["How?"]}', ["How?"]),
    "another object before": ('{"plan": "ask"}\n{"questions": ["How?"]}', ["How?"]),
    "quotes inside": ('{"questions": ["He said "no", so?"]}', ['He said "no", so?']),
    "smart quotes": ("{“questions”: [“How?”]}", ["How?"]),
    "trailing commas": ('{"questions": ["How?",],}', ["How?"]),
    "single quotes": ("{'questions': ['How?']}", ["How?"]),
    "a comment": ('{"questions": ["How?"] // one\n}', ["How?"]),
    "no last brace": ('{"questions": ["How?"]', ["How?"]),
    "no comma": ('{"questions": ["How?" "Why?"]}', ["How?", "Why?"]),
    "Korean in a fence": ('네.\n```\n{"questions": ["왜요?",]}\n```', ["왜요?"]),
}
UNREADABLE = {
    "prose": ("Sure! Here are some.", "there is no JSON object"),
    "a word": ("yes", "there is no JSON object"),
    "a list": ('["How?"]', "there is no JSON object"),
    "cut in a string": ('{"questions": ["How', "the JSON is broken: Unterminated string"),
    "cut in a later string": ('{"questions": ["How?", "How of', "the JSON is broken"),
    "another key": ('{"question": []}', "questions: Field required"),
}


@pytest.mark.parametrize(("text", "questions"), READABLE.values(), ids=READABLE)
def test_a_json_answer_is_read_whatever_stands_around_it(text: str, questions: list[str]) -> None:
    assert read_json(text, Questions).model_dump() == {"questions": questions}


@pytest.mark.parametrize(("text", "complaint"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_answer_is_told_in_words(text: str, complaint: str) -> None:
    with pytest.raises(WrongShape, match=complaint):
        read_json(text, Questions)


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ({"choices": [], "usage": {"prompt_tokens": 3}}, Reply(3, 0)),
        ({"usage": {"prompt_tokens": "3", "completion_tokens": -1}}, Reply(3, 0)),
        ({"choices": [{"message": {"content": None}}]}, Reply(0, 0, "", counted=False)),
        ({"choices": [{"message": {"content": 7}}]}, Reply(0, 0, None, counted=False)),
        (
            {"choices": [{"message": {"content": " So. "}, "finish_reason": "STOP"}]},
            Reply(0, 0, "So.", finish_reason="stop", counted=False),
        ),
        (
            {"choices": [{"message": {}, "finish_reason": "content_filter: PROHIBITED"}]},
            Reply(0, 0, "", finish_reason="content_filter", counted=False),
        ),
        (
            {"choices": [{"message": {"content": ""}, "finish_reason": "refusal"}]},
            Reply(0, 0, "", refusal="refused", finish_reason="refusal", counted=False),
        ),
        (
            {"choices": [{"message": {"content": "So.", "reasoning_details": [{"text": "Hm"}]}}]},
            Reply(0, 0, "So.", reasoning="Hm", counted=False),
        ),
        ({"object": "error", "message": "full", "code": 1}, Reply(0, 0, counted=False, error=True)),
        ({"base_resp": {"status_msg": "slow"}}, Reply(0, 0, counted=False, error=True)),
        (["no", "object"], Reply(0, 0)),
    ],
)
def test_a_body_gives_what_it_holds(body: object, reply: Reply) -> None:
    assert read_reply(json.dumps(body).encode()) == reply
    assert read_reply(json.dumps(body).encode()[:-1]) == Reply(0, 0)


def test_retry_after_is_read_as_seconds_or_date() -> None:
    then = datetime.now(UTC) + timedelta(seconds=20)
    assert retry_after({"retry-after": "7"}) == 7
    assert 17 < (retry_after({"retry-after": format_datetime(then, usegmt=True)}) or 0) <= 20
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
