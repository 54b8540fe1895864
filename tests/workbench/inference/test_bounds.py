"""The pace that a server bears, and the settings that hold it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails, says
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.client import EndpointClient, complete_all
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.records import user_prompt

REQUESTS = [EndpointRequest(user_prompt(f"How deep, {n}?"), max_tokens=8) for n in range(12)]


class SlowLane:
    """So many requests in a window, and no word of when to come back."""

    def __init__(self, most: int, seconds: float, refusal: Reply) -> None:
        self.most, self.seconds, self.refusal = most, seconds, refusal
        self._lately: deque[float] = deque()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            now = time.monotonic()
            while self._lately and now - self._lately[0] > self.seconds:
                self._lately.popleft()
            if len(self._lately) >= self.most:
                return self.refusal
            self._lately.append(now)
        return says("To the chair.")


@pytest.mark.parametrize(
    "refusal", [fails(429), fails(429, Retry_After="0.4")], ids=["no word", "a word"]
)
def test_a_slow_lane_gives_every_row_in_its_time(refusal: Reply) -> None:
    with ScriptedServer(SlowLane(3, 0.5, refusal)) as server:
        endpoint = Endpoint(base_url=server.url, model="m", attempts=2, backoff=0.01)
        completions = complete_all(endpoint, REQUESTS)
    assert [one.end for one in completions] == ["ok"] * 12


def test_a_limit_that_lets_nobody_through_ends_the_job_and_not_only_a_request() -> None:
    with ScriptedServer(lambda _: fails(429, Retry_After="86400")) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=2)
        completions = complete_all(endpoint, REQUESTS)
        assert len(server.requests) == 2
    assert {(one.end, one.reason) for one in completions} == {
        ("limited", "rate_limit"),
        ("failed", "stopped"),
    }


def test_one_request_that_alone_is_limited_costs_the_others_nothing() -> None:
    with ScriptedServer(
        lambda r: fails(429, Retry_After="0") if "3?" in r.prompt else says("So.")
    ) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=2, rate_limit_wait=1)
        completions = complete_all(endpoint, REQUESTS)
    assert [one.end for one in completions] == [*["ok"] * 3, "limited", *["ok"] * 8]


@pytest.mark.parametrize("limit", [{"requests_per_minute": 600}, {"tokens_per_minute": 3600}])
def test_a_limit_that_is_set_is_kept(limit: dict[str, float]) -> None:
    times: list[float] = []

    def script(request: Request) -> Reply:
        times.append(time.monotonic())
        return says("So.")

    with ScriptedServer(script) as server:
        endpoint = Endpoint.model_validate({"base_url": server.url, "model": "m", **limit})
        began = time.monotonic()
        complete_all(endpoint, REQUESTS[:6])
    # 600 a minute is one in 0.1 s; 4 tokens of 3600 a minute take 0.07 s. A slow machine only adds.
    assert [n for n, at in enumerate(times) if at - began < 0.06 * n] == []


def test_a_timeout_counts_at_its_worst_since_nobody_tells_what_it_took() -> None:
    price = {"input": 0, "output": 1000}
    with ScriptedServer(lambda r: says("late", delay=3)) as server:
        endpoint = Endpoint.model_validate(
            {"base_url": server.url, "model": "m", "timeout": 0.2, "attempts": 9, "backoff": 0}
            | {"price": price, "concurrency": 1}
        )

        async def asked() -> str:
            async with EndpointClient(endpoint, budget=0.02) as client:
                return (await client.complete(REQUESTS[0])).reason

        assert asyncio.run(asked()) == "stopped"
        # Each try may have cost 8 tokens, 0.008; a third is not dared.
        assert len(server.requests) == 2


def test_a_reply_that_fails_validation_is_paid_and_counted(tmp_path: Path) -> None:
    class Wanted(BaseModel):
        questions: list[str]

    requests = [EndpointRequest(user_prompt("How?"), schema=Wanted)]
    with ScriptedServer(lambda _: says("no JSON at all here")) as server:
        endpoint = Endpoint(base_url=server.url, model="m", attempts=3, backoff=0)
        (completion,) = complete_all(endpoint, requests, cache=tmp_path / "a.sqlite", step="ask")
    with AnswerCache(tmp_path / "a.sqlite") as answers:
        paid = answers.paid()["ask"]
    assert (completion.end, completion.reason) == ("malformed", "wrong_shape")
    assert (paid.attempts, paid.output_tokens) == (3, 15)
    words = [len(t["content"].split()) for r in server.requests for t in r.body["messages"]]
    assert paid.input_tokens == sum(words)


def test_headers_hold_secrets_of_the_environment_alone_and_no_file_shows_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORG_KEY", "sk-4711")
    with ScriptedServer(conforms) as server:
        endpoint = Endpoint.model_validate(
            {
                "base_url": server.url,
                "model": "m",
                "headers": {"X-Org-Key": "${ORG_KEY}", "X-A": "b"},
            }
        )
        complete_all(endpoint, REQUESTS[:1], cache=tmp_path / "a.sqlite", step="ask")
        (request,) = server.requests
    assert (request.headers["x-org-key"], request.headers["x-a"]) == ("sk-4711", "b")
    assert "4711" not in repr(endpoint) + endpoint.model_dump_json() + json.dumps(
        endpoint.fingerprint
    )
    assert all(b"4711" not in file.read_bytes() for file in tmp_path.iterdir())
    other = endpoint.model_copy(update={"headers": {"X-A": "c"}})
    assert endpoint.fingerprint != other.fingerprint
    monkeypatch.delenv("ORG_KEY")
    with pytest.raises(UserError) as caught:
        complete_all(endpoint, REQUESTS[:1])
    assert caught.value.line() == (
        "$ORG_KEY: a header needs it, and it is not set — export ORG_KEY=<value>"
    )
    for name in ("Authorization", "x-api-key", "Cookie", "X-Auth-Token"):
        with pytest.raises(ValidationError, match=f"the header '{name}' must not stand"):
            Endpoint(base_url="http://a/v1", model="m", headers={name: "sk-1"})
