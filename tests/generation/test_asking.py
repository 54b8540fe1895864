from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import openai
import pytest

from generation.asking import Asking, retry_after
from generation.outcome import Outcome, usage_of
from tests.scripted_server import FAILURES, Reply, Request, ScriptedServer, conforms, fails, says


def ask(
    script: Callable[[Request], Reply], *, api_key: str = "", **options: Any
) -> tuple[Outcome, list[Request]]:
    """Ask one scripted server one thing; return the outcome and what the server saw."""

    async def asked(url: str) -> Outcome:
        async with openai.AsyncOpenAI(
            base_url=url, api_key="key", max_retries=0, timeout=0.5
        ) as client:
            body = {"model": "m", "messages": [{"role": "user", "content": "How deep?"}]}
            return await Asking(client, body, **{"backoff": 0.01, **options}).outcome()

    with ScriptedServer(script, api_key=api_key) as server:
        return asyncio.run(asked(server.url)), server.requests


def test_an_answer_is_ok_and_its_tokens_are_counted() -> None:
    outcome, requests = ask(lambda request: says("To the chair."))
    assert (outcome.status, outcome.text, outcome.attempts) == ("ok", "To the chair.", 1)
    assert (outcome.input_tokens, outcome.output_tokens, outcome.tokens) == (2, 3, 3)
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("kind", "reason", "http"),
    [
        ("rate_limit", "rate_limit", 429),
        ("server_error", "server_error", 500),
        ("timeout", "timeout", None),
        ("connection", "connection", None),
        ("malformed_reply", "malformed_reply", 200),
        ("wrong_body", "malformed_reply", 200),
        ("empty_answer", "empty_answer", 200),
    ],
)
def test_a_failure_that_stays_is_told_after_all_tries(
    kind: str, reason: str, http: int | None
) -> None:
    outcome, requests = ask(lambda request: FAILURES[kind], attempts=2)
    assert (outcome.status, outcome.reason, outcome.http) == ("failed", reason, http)
    assert outcome.attempts == len(requests) == 2
    assert outcome.text == ""


@pytest.mark.parametrize("kind", sorted(FAILURES.keys() - {"too_long"}))
def test_a_failure_that_passes_is_mended(kind: str) -> None:
    outcome, requests = ask(lambda r: FAILURES[kind] if r.time == 0 else says("So."), attempts=3)
    assert (outcome.status, outcome.text, outcome.attempts) == ("ok", "So.", 2)
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (FAILURES["too_long"], "too_long"),
        (says("So you", finish_reason="length"), "cut_off"),
        (says("", finish_reason="content_filter"), "refused"),
        (Reply(None, refusal="I must not."), "refused"),
    ],
)
def test_an_answer_that_cannot_be_used_is_filtered_and_not_asked_again(
    reply: Reply, reason: str
) -> None:
    outcome, requests = ask(lambda request: reply)
    assert (outcome.status, outcome.reason, len(requests)) == ("filtered", reason, 1)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (fails(404), "not_found"),
        (fails(400), "rejected"),
        (fails(429, code="insufficient_quota"), "quota"),
    ],
)
def test_what_no_retry_can_mend_is_not_retried(reply: Reply, reason: str) -> None:
    outcome, requests = ask(lambda request: reply)
    assert (outcome.status, outcome.reason, len(requests)) == ("failed", reason, 1)
    assert outcome.http == reply.status


def test_a_wrong_key_is_told_without_it() -> None:
    outcome, requests = ask(conforms, api_key="another")
    assert (outcome.reason, outcome.http, outcome.attempts) == ("auth", 401, 1)
    assert requests == []


def test_retry_after_is_heeded() -> None:
    started = time.monotonic()
    outcome, _ = ask(lambda r: fails(429, Retry_After="0.6") if r.time == 0 else says("So."))
    assert outcome.status == "ok"
    assert time.monotonic() - started >= 0.6


def test_retry_after_is_read_as_seconds_or_date() -> None:
    then = datetime.now(UTC) + timedelta(seconds=20)
    assert retry_after({"retry-after": "7"}) == 7
    assert 17 < (retry_after({"retry-after": format_datetime(then, usegmt=True)}) or 0) <= 20
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("first", "complaint"),
    [
        ("Sure! Here are some.", "there is no JSON object"),
        ('{"questions": ["How', "the JSON is broken"),
        ('{"question": []}', "questions: Field required"),
        ('{"questions": [" "]}', "questions.0: String should have at least 1 character"),
    ],
)
def test_json_of_another_shape_is_asked_for_again_with_the_error(
    first: str, complaint: str
) -> None:
    good = 'Of course:\n```json\n{"questions": ["How?"]}\n```'
    outcome, requests = ask(lambda r: says(good if r.number else first), shape="questions")
    assert (outcome.status, outcome.attempts) == ("ok", 2)
    turns = requests[1].body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == first
    assert complaint in turns[2]["content"]
    # Both tries were paid for.
    assert outcome.output_tokens == len(first.split()) + len(good.split())


def test_json_that_stays_wrong_fails() -> None:
    outcome, requests = ask(lambda r: says("[]"), shape="questions", attempts=3)
    assert (outcome.status, outcome.reason, len(requests)) == ("failed", "wrong_shape", 3)
    assert outcome.detail == "there is no JSON object"


def test_a_server_without_json_schemas_is_asked_without() -> None:
    def script(request: Request) -> Reply:
        return fails(400) if request.schema else says(json.dumps({"questions": ["How?"]}))

    outcome, requests = ask(script, shape="questions")
    assert outcome.status == "ok"
    assert [request.schema is None for request in requests] == [False, True]


def test_a_field_that_the_server_does_not_take_is_left_out_and_not_sent_again() -> None:
    """OpenAI's newer models want another name for ``max_tokens`` and no temperature."""

    def script(request: Request) -> Reply:
        unwanted = next((n for n in ("max_tokens", "temperature") if n in request.body), None)
        if unwanted:
            return fails(400, code="unsupported_parameter", param=unwanted)
        return says("So.")

    async def asked(url: str) -> set[str]:
        refused: set[str] = set()
        async with openai.AsyncOpenAI(base_url=url, api_key="key", max_retries=0) as client:
            turns = [{"role": "user", "content": "How?"}]
            body = {"model": "m", "messages": turns, "max_tokens": 9, "temperature": 0.7}
            for _ in range(2):
                outcome = await Asking(client, body, refused=refused).outcome()
                assert outcome.status == "ok"
        return refused

    with ScriptedServer(script) as server:
        assert asyncio.run(asked(server.url)) == {"max_tokens", "temperature"}
        bodies = [request.body for request in server.requests]
    assert len(bodies) == 3 + 1
    assert all(body["max_completion_tokens"] == 9 for body in bodies[1:])


def test_usage_adds_up() -> None:
    outcomes = [
        Outcome(status="ok", text="a", attempts=2, input_tokens=3, output_tokens=1),
        Outcome(status="ok", text="a", cached=True),
        Outcome(status="failed", reason="timeout", attempts=5),
        Outcome(status="filtered", reason="too_long", attempts=1, output_tokens=9),
    ]
    usage = usage_of(outcomes)
    assert usage == {
        "requests": 4,
        "ok": 2,
        "failed": {"timeout": 1},
        "filtered": {"too_long": 1},
        "cached": 1,
        "attempts": 8,
        "input_tokens": 3,
        "output_tokens": 10,
    }
