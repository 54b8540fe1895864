"""What errors mean, in the forms and words in which servers send them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from workbench.inference.refusals import (
    leave_out,
    read_refusal,
    refused_fields,
    retry_after,
)


def body(**fields: object) -> dict[str, Any]:
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    return {"messages": messages, "max_tokens": 9, "temperature": 0, "seed": 1, **fields}


KINDS: dict[str, tuple[int, Any, str]] = {
    "a text": (500, "boom", "server_error"),
    "a page": (502, "<html><title>502 Bad Gateway</title></html>", "server_error"),
    "an unknown key": (400, [{"error": {"message": "API key not valid."}}], "auth"),
    "a key": (401, {"detail": "Invalid token"}, "auth"),
    "a key of another kind": (403, {"error": "forbidden"}, "auth"),
    "moderation": (403, {"error": {"message": "Your input was flagged"}}, "content_filter"),
    "no money": (402, {"error": {"message": "Insufficient Balance"}}, "quota"),
    "quota": (429, {"error": {"code": "insufficient_quota", "message": "x"}}, "quota"),
    "a limit that sounds like a quota": (
        429,
        {"error": {"message": "check your plan and billing. Please retry in 20s."}},
        "rate_limit",
    ),
    "more than the limit at once": (
        429,
        {"error": {"message": "Request too large on tokens per min. Limit 9, Requested 20."}},
        "prompt_too_long",
    ),
    "overloaded": (529, {"error": {"type": "overloaded_error"}}, "rate_limit"),
    "a limit by words": (400, {"message": "Requests rate limit exceeded"}, "rate_limit"),
    "a limit inside": (200, {"error": {"code": 429, "message": "slow down"}}, "rate_limit"),
    "no model": (404, {"error": "model 'm' not found, try pulling it first"}, "not_found"),
    "no model by 400": (400, {"error": {"message": "The model `m` does not exist"}}, "not_found"),
    "too long": (400, {"error": {"message": "maximum context length is 9"}}, "prompt_too_long"),
    "too large": (413, "", "prompt_too_long"),
    "never within the limit": (
        413,
        {"error": {"message": "Request too large on tokens per minute", "code": "rate_limit_x"}},
        "prompt_too_long",
    ),
    "too long in Korean": (400, {"message": "최대 길이를 초과했습니다"}, "prompt_too_long"),
    "too long in Chinese": (400, {"error": {"message": "Prompt 超长"}}, "prompt_too_long"),
    "too long in a status": (400, {"status": {"message": "Text too long"}}, "prompt_too_long"),
    "slow is not long": (504, {"error": "upstream took too long"}, "server_error"),
    "a limit with an offer": (
        429,
        {"error": {"message": "Rate limit reached. Add a payment method at /billing."}},
        "rate_limit",
    ),
    "a filter that answers as a key would": (
        403,
        {"code": "no permission", "error": "Content violates usage guidelines."},
        "content_filter",
    ),
    "a filter by words": (400, {"error": "contains sensitive information"}, "content_filter"),
    "an error of 200": (200, {"error_code": 17, "error_msg": "rate limit"}, "rate_limit"),
    "a repeated prompt": (
        422,
        {"detail": [{"loc": ["body"], "msg": "bad", "input": "content_filter rate limit"}]},
        "rejected",
    ),
    "JSON that the model missed": (
        400,
        {"error": {"code": "json_validate_failed", "message": "seed"}},
        "wrong_shape",
    ),
}


@pytest.mark.parametrize(("status", "content", "kind"), KINDS.values(), ids=KINDS)
def test_an_error_means_something_in_any_form(status: int, content: object, kind: str) -> None:
    raw = content if isinstance(content, str) else json.dumps(content)
    assert read_refusal(status, {}, raw.encode()).kind == kind


def test_the_servers_words_are_told_whole_and_without_what_they_repeat() -> None:
    data = {"error": {"message": "No.\nReally.", "code": "x"}, "input": "secret prompt"}
    refusal = read_refusal(400, {}, json.dumps(data).encode())
    assert refusal.words == "No. Really." and "secret" not in refusal.text
    assert len(read_refusal(500, {}, b"x" * 900).words) == 200


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("seed: Extra inputs are not permitted", ("seed",)),
        ("max_tokens is too large: 9. At most 4 are allowed", ("max_tokens",)),
        ("`temperature` must be strictly positive", ("temperature",)),
        ("System role not supported", ("system",)),
        ("Conversation roles must alternate user/assistant", ("system",)),
        ("temperature 는 지원하지 않습니다", ("temperature",)),
        ("Nope.", ("seed", "temperature", "system", "max_tokens")),
        ("blocked by the content policy; seed 7", ()),
        ("maximum context length: max_tokens 9 and 5 more", ()),
    ],
)
def test_the_field_that_is_at_fault_is_found_by_its_name(words: str, fields: tuple[str]) -> None:
    refusal = read_refusal(400, {}, json.dumps({"error": {"message": words}}).encode())
    assert refused_fields(refusal, body()) == fields


def test_a_field_that_is_not_sent_is_not_at_fault() -> None:
    refusal = read_refusal(400, {}, b'{"error": "unknown field seed"}')
    sent = body()
    leave_out(sent, {"seed"})
    assert "seed" not in refused_fields(refusal, sent)


def test_fields_are_left_out_or_said_in_another_way() -> None:
    sent = body(response_format={"type": "json_schema"})
    leave_out(sent, {"max_tokens", "system", "json_object"})
    assert sent["max_completion_tokens"] == 9 and "max_tokens" not in sent
    assert sent["messages"] == [{"role": "user", "content": "S\n\nU"}]
    assert sent["response_format"] == {"type": "json_schema"}
    leave_out(sent, {"max_completion_tokens", "json_schema"})
    assert not {"max_completion_tokens", "response_format"} & sent.keys()


FORMS: dict[str, tuple[dict[str, str], str, float | None]] = {
    "seconds": ({"Retry-After": "7"}, "", 7),
    "a span": ({"retry-after": "1m30s"}, "", 90),
    "words for seconds": ({"retry-after": "20 seconds"}, "", 20),
    "milliseconds": ({"retry-after-ms": "250", "retry-after": "9"}, "", 0.25),
    "an exhausted limit": (
        {
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "6m0s",
            "x-ratelimit-remaining-tokens": "900",
            "x-ratelimit-reset-tokens": "1h",
        },
        "",
        360,
    ),
    "anthropic's limits": (
        {
            "anthropic-ratelimit-requests-remaining": "0",
            "anthropic-ratelimit-requests-reset": "in {20}",
        },
        "",
        20,
    ),
    "a time since 1970": ({"x-ratelimit-reset": "epoch {20}"}, "", 20),
    "words": ({}, "Rate limit reached. Please try again in 20.5s.", 20.5),
    "words with milliseconds": ({}, "Please try again in 20ms", 0.02),
    "gemini's detail": ({}, "retrydelay 22s", 22),
    "nonsense": ({"retry-after": "soon"}, "", None),
    "nothing": ({}, "", None),
    "a version is no span": ({}, "use api 2s of it", None),
}


@pytest.mark.parametrize(("headers", "text", "wait"), FORMS.values(), ids=FORMS)
def test_the_time_to_wait_is_read_in_any_form(
    headers: dict[str, str], text: str, wait: float | None
) -> None:
    then = datetime.now(UTC) + timedelta(seconds=20)
    filled = {
        name: value.replace("in {20}", then.isoformat().replace("+00:00", "Z")).replace(
            "epoch {20}", str(int(time.time() * 1000) + 20_000)
        )
        for name, value in headers.items()
    }
    seconds = retry_after(filled, text)
    if wait is None:
        assert seconds is None
    else:
        assert seconds == pytest.approx(wait, abs=1.5 if wait == 20 else 1e-6)
