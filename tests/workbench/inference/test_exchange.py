"""One request to its end, over a real socket: every end, every retry, every field left out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, StringConstraints

from tests.scripted_server import FAILURES, Reply, Request, ScriptedServer, conforms, fails, says
from tests.waiting import PATIENCE
from workbench.inference.client import EndpointClient
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.records import user_prompt

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
ASKED = user_prompt("How deep?")


class Questions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: list[Text]


def ask(
    script: Callable[[Request], Reply],
    *,
    api_key: str = "",
    attempts: int = 5,
    times: int = 1,
    timeout: float = PATIENCE,
    **options: Any,
) -> tuple[Completion, list[Request]]:
    """Ask one scripted server one thing; return the last completion and what the server saw."""

    async def asked(url: str) -> Completion:
        endpoint = Endpoint(
            base_url=url,
            model="m",
            attempts=attempts,
            backoff=0.01,
            timeout=timeout,
            rate_limit_wait=0.8,
        )
        async with EndpointClient(endpoint) as client:
            for number in range(times):
                completion = await client.complete(EndpointRequest(ASKED, seed=number, **options))
        return completion

    with ScriptedServer(script, api_key=api_key) as server:
        return asyncio.run(asked(server.url)), server.requests


def test_an_answer_is_ok_and_its_tokens_and_seconds_are_counted() -> None:
    completion, requests = ask(lambda request: says("To the chair.", delay=0.1))
    assert (completion.end, completion.text, completion.attempts) == ("ok", "To the chair.", 1)
    assert (completion.input_tokens, completion.output_tokens, completion.tokens) == (2, 3, 3)
    assert 0.1 <= completion.seconds < PATIENCE
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("kind", "end", "reason", "http"),
    [
        ("rate_limit", "limited", "rate_limit", 429),
        ("server_error", "failed", "server_error", 500),
        ("timeout", "failed", "timeout", None),
        ("connection", "failed", "connection", None),
        ("malformed_reply", "malformed", "malformed_reply", 200),
        ("wrong_body", "malformed", "malformed_reply", 200),
        ("empty_answer", "malformed", "empty_answer", 200),
    ],
)
def test_a_failure_that_stays_is_told_after_all_tries(
    kind: str, end: str, reason: str, http: int | None
) -> None:
    completion, requests = ask(
        lambda request: FAILURES[kind], attempts=2, timeout=0.5 if kind == "timeout" else PATIENCE
    )
    assert (completion.end, completion.reason, completion.http) == (end, reason, http)
    # A limit is no failed try: it is waited for, as long as the endpoint's settings say.
    assert completion.attempts == len(requests)
    assert len(requests) > 2 if kind == "rate_limit" else len(requests) == 2
    assert completion.text == "" and not completion.final


@pytest.mark.parametrize("kind", sorted(FAILURES.keys() - {"too_long"}))
def test_a_failure_that_passes_is_mended(kind: str) -> None:
    completion, requests = ask(
        lambda r: FAILURES[kind] if r.time == 0 else says("So."),
        attempts=3,
        timeout=3.0 if kind == "timeout" else PATIENCE,
    )
    assert (completion.end, completion.text, completion.attempts) == ("ok", "So.", 2)
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("reply", "end", "reason"),
    [
        (FAILURES["too_long"], "filtered", "too_long"),
        (says("So you", finish_reason="length"), "cut_off", "cut_off"),
        (Reply(None, finish_reason="length"), "cut_off", "cut_off"),
        (says("", finish_reason="content_filter"), "filtered", "content_filter"),
        (fails(400, code="content_filter", param="prompt"), "filtered", "content_filter"),
        (Reply(None, refusal="I must not."), "refused", "refused"),
    ],
    ids=["too long", "cut off", "cut off, empty", "filtered", "filtered prompt", "refused"],
)
def test_an_answer_that_cannot_be_used_stays_so_and_is_not_asked_again(
    reply: Reply, end: str, reason: str
) -> None:
    completion, requests = ask(lambda request: reply)
    assert (completion.end, completion.reason, len(requests)) == (end, reason, 1)
    assert completion.final


@pytest.mark.parametrize(
    ("reply", "end", "reason"),
    [
        (fails(404), "failed", "not_found"),
        (fails(413), "failed", "prompt_too_long"),
        (fails(429, code="insufficient_quota"), "limited", "quota"),
    ],
)
def test_what_no_retry_can_mend_is_not_retried(reply: Reply, end: str, reason: str) -> None:
    completion, requests = ask(lambda request: reply)
    assert (completion.end, completion.reason, len(requests)) == (end, reason, 1)
    assert completion.http == reply.status


def test_a_wrong_key_is_told_without_it() -> None:
    completion, requests = ask(conforms, api_key="another")
    assert (completion.reason, completion.http, completion.attempts) == ("auth", 401, 1)
    assert requests == []


def test_retry_after_is_heeded() -> None:
    started = time.monotonic()
    completion, _ = ask(lambda r: fails(429, Retry_After="0.6") if r.time == 0 else says("So."))
    assert completion.ok
    assert time.monotonic() - started >= 0.6


def test_usage_is_counted_whatever_follows() -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
    completion, _ = ask(lambda _: Reply(raw=json.dumps(body).encode()), attempts=3)
    assert (completion.end, completion.reason) == ("malformed", "malformed_reply")
    assert (completion.input_tokens, completion.output_tokens) == (21, 15)


def test_content_in_parts_is_joined_and_thinking_left_out() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Plan."}]},
        {"type": "text", "text": "To the "},
        {"type": "text", "text": "chair."},
    ]
    choice = {"message": {"role": "assistant", "content": parts}, "finish_reason": "stop"}
    completion, _ = ask(lambda _: Reply(raw=json.dumps({"choices": [choice]}).encode()))
    assert completion.text == "To the chair."


def test_a_cut_or_an_empty_answer_counts_where_it_is_asked_for() -> None:
    cut, _ = ask(lambda _: says("So you", finish_reason="length"), accept_cut=True)
    empty, requests = ask(lambda _: says(""), accept_empty=True)
    assert (cut.end, cut.text, cut.tokens) == ("ok", "So you", 2)
    assert (empty.end, empty.text, len(requests)) == ("ok", "", 1)


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
    completion, requests = ask(lambda r: says(good if r.number else first), schema=Questions)
    assert (completion.end, completion.attempts) == ("ok", 2)
    assert completion.text == '{"questions":["How?"]}'
    turns = requests[1].body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"] == first
    assert complaint in turns[2]["content"]
    # Both tries were paid for.
    assert completion.output_tokens == len(first.split()) + len(good.split())


def test_json_that_stays_wrong_fails_and_json_that_is_cut_off_is_not_asked_again() -> None:
    completion, requests = ask(lambda r: says("[]"), schema=Questions, attempts=3)
    assert (completion.end, completion.reason, len(requests)) == ("malformed", "wrong_shape", 3)
    assert completion.detail == "there is no JSON object"
    cut = says('{"questions": ["How', finish_reason="length")
    completion, requests = ask(lambda r: cut, schema=Questions, attempts=3)
    assert (completion.end, len(requests)) == ("cut_off", 1)


def test_a_server_without_json_schemas_is_asked_without() -> None:
    def script(request: Request) -> Reply:
        return fails(400) if request.schema else says(json.dumps({"questions": ["How?"]}))

    completion, requests = ask(script, schema=Questions, attempts=1)
    assert completion.ok
    assert [request.schema is None for request in requests] == [False, True]


@pytest.mark.parametrize("words", [False, True], ids=["by its code", "in words alone"])
def test_a_field_that_the_server_does_not_take_is_left_out_and_not_sent_again(words: bool) -> None:
    """OpenAI's newer models want another name for ``max_tokens`` and no temperature."""

    def script(request: Request) -> Reply:
        unwanted = next((n for n in ("max_tokens", "temperature") if n in request.body), None)
        if unwanted and words:
            error = {"error": {"message": f"Extra inputs are not permitted: '{unwanted}'"}}
            return Reply(status=422, raw=json.dumps(error).encode())
        if unwanted:
            return fails(400, code="unsupported_parameter", param=unwanted)
        return says("So.")

    completion, requests = ask(script, times=2, max_tokens=9, attempts=1)
    assert completion.ok
    bodies = [request.body for request in requests]
    assert len(bodies) == 3 + 1
    assert all(body["max_completion_tokens"] == 9 for body in bodies[1:])
    assert "temperature" not in bodies[-1]


@pytest.mark.parametrize(
    "refusal",
    [
        fails(400, code="content_filter", param="prompt"),
        Reply(
            status=400,
            raw=b'{"error": {"message": "\'max_tokens\' is too large: the context length is 9"}}',
        ),
        fails(400),
    ],
    ids=["filtered", "too long", "of no said reason"],
)
def test_a_prompt_that_is_refused_teaches_nothing_about_fields(refusal: Reply) -> None:
    good = says(json.dumps({"questions": ["How?"]}))
    completion, requests = ask(
        lambda r: refusal if r.body["seed"] == 0 else good, times=2, schema=Questions
    )
    assert completion.ok
    assert requests[-1].schema is not None and "max_tokens" in requests[-1].body


def test_extra_fields_are_sent_and_decide_the_answer() -> None:
    plain = Endpoint(base_url="http://127.0.0.1:9/v1", model="m")
    extra = plain.model_copy(update={"extra_body": {"enable_thinking": False}})
    request = EndpointRequest(ASKED)
    assert request.body(extra)["enable_thinking"] is False
    assert request.key(extra) != request.key(plain)


def test_a_key_covers_all_that_decides_an_answer() -> None:
    endpoint = Endpoint(base_url="http://a.b/v1", model="m")
    key = EndpointRequest(ASKED).key(endpoint)
    assert key == EndpointRequest(user_prompt("How deep?")).key(
        endpoint.model_copy(update={"timeout": 9, "concurrency": 2})
    )
    others = [
        EndpointRequest(ASKED).key(endpoint.model_copy(update={"base_url": "http://b.b/v1"})),
        EndpointRequest(ASKED).key(endpoint.model_copy(update={"model": "n"})),
        EndpointRequest(ASKED, temperature=0.8).key(endpoint),
        EndpointRequest(ASKED, max_tokens=9).key(endpoint),
        EndpointRequest(ASKED, seed=1).key(endpoint),
        EndpointRequest(ASKED, schema=Questions).key(endpoint),
        EndpointRequest(ASKED, schema=Questions, by_words=True).key(endpoint),
        EndpointRequest(ASKED, accept_cut=True).key(endpoint),
        EndpointRequest(user_prompt("How?")).key(endpoint),
    ]
    assert len({key, *others}) == 10
