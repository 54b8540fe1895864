"""Lines of a served model's log: each shape is read as a chat, each other line has its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from generation.row_columns import BadRow
from generation.served_logs import served_row

ASKED = [
    {"role": "system", "content": "You are a coach."},
    {"role": "user", "content": "My back hurts."},
]
ANSWER = "Stand up, champ."
CHOICE = {
    "index": 0,
    "finish_reason": "stop",
    "message": {"role": "assistant", "content": ANSWER, "reasoning_content": "hm", "refusal": None},
}
REQUEST = {"model": "coach", "messages": ASKED, "temperature": 0.2}
RESPONSE = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [CHOICE]}
CHUNKS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Stand up,"}}]},
    {"choices": [{"index": 1, "delta": {"content": "other"}}]},
    {"choices": [{"index": 0, "delta": {"content": " champ."}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"total_tokens": 9}},
]
STREAM = "\n\n".join([*(f"data: {json.dumps(chunk)}" for chunk in CHUNKS), "data: [DONE]"])
LITELLM = {
    "id": "1",
    "call_type": "acompletion",
    "status": "success",
    "model": "coach",
    "metadata": {"user_api_key_hash": "x"},
}
READ: dict[str, dict[str, Any]] = {
    "request and response": {"request": REQUEST, "response": RESPONSE},
    "bodies": {
        "request": {"url": "/v1/chat/completions", "body": REQUEST},
        "response": {"status_code": 200, "body": RESPONSE},
    },
    "bodies as text": {
        "request": {"body": json.dumps(REQUEST)},
        "response": {"body": json.dumps(RESPONSE), "status": 200},
    },
    "side by side": {"messages": ASKED, "choices": [CHOICE], "created": 1},
    "LiteLLM": {**LITELLM, "messages": ASKED, "response": RESPONSE},
    "LiteLLM, response as text": {**LITELLM, "messages": ASKED, "response": ANSWER},
    "LiteLLM's spend log": {
        **LITELLM,
        "messages": {},
        "response": json.dumps(RESPONSE),
        "proxy_server_request": json.dumps({"body": REQUEST}),
    },
    "chunks": {"request": REQUEST, "response": CHUNKS},
    "a stream's text": {"request": REQUEST, "response": {"body": STREAM}},
    "Responses": {
        "request": {"model": "coach", "instructions": "Be kind.", "input": "My back hurts."},
        "response": {
            "status": "completed",
            "error": None,
            "output": [
                {"type": "reasoning", "summary": []},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": ANSWER}],
                },
            ],
        },
    },
}


@pytest.mark.parametrize("shape", READ)
def test_each_shape_is_a_chat_without_the_deployments_own_turn(shape: str) -> None:
    *asked, answer = served_row(READ[shape])["messages"]
    assert asked == [{"role": "user", "content": "My back hurts."}]
    text = answer["content"] if isinstance(answer["content"], str) else answer["content"][0]["text"]
    assert (answer["role"], text, set(answer)) == ("assistant", ANSWER, {"role", "content"})


def _answered(**changes: object) -> dict[str, Any]:
    return {"request": REQUEST, "response": {"choices": [{**CHOICE, **changes}]}}


FAULTS: dict[str, list[dict[str, Any]]] = {
    "failed_request": [
        {"request": REQUEST, "response": {"error": {"message": "secret", "type": "timeout"}}},
        {"request": REQUEST, "response": {"status_code": 500, "body": RESPONSE}},
        {**LITELLM, "status": "failure", "messages": ASKED, "response": {"id": 1}},
    ],
    "cut_off": [
        _answered(finish_reason="length"),
        {"request": REQUEST, "response": CHUNKS[:1]},
    ],
    "content_filter": [_answered(finish_reason="content_filter")],
    "tool_call": [_answered(message={"content": None, "tool_calls": [{"id": "1"}]})],
    "unanswered": [
        {"request": REQUEST, "response": None},
        {"request": REQUEST},
        _answered(message={"role": "assistant", "content": ""}),
    ],
    "no_request": [{"custom_id": "a", "response": {"status_code": 200, "body": RESPONSE}}],
    "raw_text": [
        {"request": {"prompt": "Once"}, "response": {"choices": [{"text": " upon", "index": 0}]}}
    ],
    "redacted": [
        {
            "messages": [{"role": "user", "content": "redacted-by-litellm"}],
            "response": {"choices": [CHOICE]},
        }
    ],
}


@pytest.mark.parametrize(
    ("reason", "line"), [(reason, line) for reason, lines in FAULTS.items() for line in lines]
)
def test_each_line_that_is_no_answer_has_its_reason(reason: str, line: dict[str, object]) -> None:
    with pytest.raises(BadRow) as refusal:
        served_row(line)
    assert refusal.value.reason == reason
    assert "secret" not in refusal.value.what, "a server's message may repeat what was asked"
