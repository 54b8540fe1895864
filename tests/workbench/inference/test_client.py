"""Many requests to one endpoint: made once, bounded, paid for, stopped, and told of in one line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.bounds import Budget
from workbench.inference.client import (
    EndpointClient,
    complete_all,
    raise_if_hopeless,
    run,
)
from workbench.inference.completion import Completion, usage_of
from workbench.inference.endpoint import Endpoint, Price
from workbench.inference.exchange import EndpointRequest
from workbench.records import as_messages, user_prompt

ASKED = user_prompt("How deep?")


def test_equal_requests_are_made_once_and_no_more_than_the_bound_at_once() -> None:
    requests = [EndpointRequest(ASKED, seed=number // 2) for number in range(12)]
    with ScriptedServer(lambda _: says("So.", delay=0.05)) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=3)
        completions = complete_all(endpoint, requests)
        assert (len(server.requests), server.most_at_once) == (6, 3)
    assert [completion.text for completion in completions] == ["So."] * 12
    assert sum(completion.attempts for completion in completions) == 6
    assert sum(completion.cached for completion in completions) == 6


def test_what_was_paid_for_is_not_asked_again_and_what_failed_is(tmp_path: Path) -> None:
    cache, count = tmp_path / "answers.sqlite", []
    requests = [EndpointRequest(ASKED, seed=number) for number in range(3)]

    def script(request: Request) -> Reply:
        return fails(413) if request.body["seed"] == 1 else says("So.")

    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="m", attempts=1)
        first = complete_all(endpoint, requests, cache=cache, step="ask")
        assert [completion.end for completion in first] == ["ok", "failed", "ok"]
        server.script = lambda _: says("Yes.")
        second = complete_all(
            endpoint, requests, cache=cache, step="ask", advance=lambda: count.append(1)
        )
        assert len(server.requests) == 4 and len(count) == 3
    assert [completion.text for completion in second] == ["So.", "Yes.", "So."]
    assert [completion.attempts for completion in second] == [0, 1, 0]
    with AnswerCache(cache) as answers:
        assert answers.paid()["ask"].attempts == 4
    # With all answers there, nobody needs to be there.
    assert [c.cached for c in complete_all(endpoint, requests, cache=cache)] == [True] * 3


def test_a_client_stops_by_itself_at_an_endpoint_that_is_down() -> None:
    requests = [EndpointRequest(ASKED, seed=number) for number in range(40)]
    with ScriptedServer(lambda _: fails(503)) as server:
        endpoint = Endpoint(base_url=server.url, model="m", attempts=1, concurrency=2)
        completions = complete_all(endpoint, requests)
        assert 10 <= len(server.requests) < 14
    assert {completion.reason for completion in completions} == {"server_error", "stopped"}
    with pytest.raises(UserError, match="is down: stopped after server_error 1"):
        raise_if_hopeless(endpoint, completions)


def test_a_refused_key_and_an_unknown_model_are_one_line() -> None:
    with ScriptedServer(lambda _: fails(404)) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=1)
        with pytest.raises(UserError) as caught:
            complete_all(endpoint, [EndpointRequest(ASKED, seed=number) for number in range(9)])
        assert len(server.requests) == 1
    assert caught.value.line().startswith(f"{server.url}: does not know the model 'm' (scripted")


def test_no_request_is_made_that_the_budget_might_not_pay_for() -> None:
    price = Price(input=0, output=1000)
    requests = [EndpointRequest(ASKED, seed=number, max_tokens=10) for number in range(30)]

    async def asked(url: str) -> list[Completion]:
        endpoint = Endpoint(base_url=url, model="m", attempts=2, price=price)
        async with EndpointClient(endpoint, budget=0.05) as client:
            return list(await asyncio.gather(*map(client.complete, requests)))

    with ScriptedServer(lambda _: says("one two three four")) as server:
        completions = asyncio.run(asked(server.url))
    paid = sum(price.of(0, completion.output_tokens) for completion in completions)
    assert 0.03 <= paid <= 0.05
    assert {c.detail for c in completions if c.reason == "stopped"} == {"budget"}


def test_a_reservation_waits_for_what_is_settled_and_ends_where_nothing_can_be() -> None:
    async def scenario() -> tuple[bool, bool, float]:
        budget = Budget(Price(input=0, output=1), 1.0)
        assert await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.5))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await budget.settle(0.8, 0.3)
        second = await waiting
        await budget.settle(0.5, 0.5)
        return second, await budget.reserve(0.3), budget.spent

    assert asyncio.run(scenario()) == (True, False, 0.8)


def test_a_budget_is_never_overdrawn_and_used_as_far_as_it_reaches() -> None:
    price = Price(input=1000, output=2000)
    under_way = most = 0

    async def ask(budget: Budget, worst: float) -> bool:
        nonlocal under_way, most
        if not await budget.reserve(worst):
            return False
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        await budget.settle(worst, worst / 4)
        return True

    async def job() -> tuple[int, float]:
        budget = Budget(price, 0.2)
        worst = budget.worst({"messages": as_messages(user_prompt("x"))}, 10)
        assert worst == pytest.approx((66 * 1000 + 10 * 2000) / 1e6)
        made = await asyncio.gather(*(ask(budget, worst) for _ in range(40)))
        assert budget.spent + worst > budget.limit >= budget.spent
        return sum(made), budget.spent

    made, spent = asyncio.run(job())
    # Two fit at their worst; each then costs a quarter, so that more follow.
    assert most == 2
    assert made == 6
    assert spent == pytest.approx(6 * 0.086 / 4)


def test_loopback_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ScriptedServer(lambda _: says("So.")) as server:
        endpoint = Endpoint(base_url=server.url, model="m")
        (completion,) = complete_all(endpoint, [EndpointRequest(ASKED)])
    assert completion.ok
    hosts = ("http://localhost:1/v1", "http://[::1]:1/v1", "http://127.9.9.9/v1")
    assert all(Endpoint(base_url=url, model="m").loopback for url in hosts)
    assert not Endpoint(base_url="https://a.b/v1", model="m").loopback


def test_a_notebook_s_running_loop_is_no_obstacle() -> None:
    async def answer() -> int:
        return 42

    async def cell() -> int:
        return run(answer())

    assert asyncio.run(cell()) == run(answer()) == 42


def test_usage_adds_up() -> None:
    completions = [
        Completion(end="ok", text="a", attempts=2, input_tokens=3, output_tokens=1),
        Completion(end="ok", text="a", cached=True),
        Completion(end="failed", reason="timeout", attempts=5),
        Completion(end="filtered", reason="too_long", attempts=1, output_tokens=9),
    ]
    usage = usage_of(completions)
    assert usage == {
        "requests": 4,
        "ok": 2,
        "failed": {"timeout": 1},
        "filtered": {"too_long": 1},
        "cached": 1,
        "attempts": 8,
        "input_tokens": 3,
        "output_tokens": 10,
        "reasoned": 0,
        "uncounted": 0,
    }


@pytest.mark.parametrize(
    ("completions", "line"),
    [
        (
            [{"reason": "timeout"}, {"reason": "server_error"}, {"reason": "timeout"}],
            "http://t/v1: all 3 requests failed (timeout 2, server_error 1)"
            " — start it or wait until it answers, then run the same command again",
        ),
        (
            [{"end": "ok"}, {"end": "limited", "reason": "quota"}],
            "http://t/v1: the account has no quota left"
            " — top it up, then run the same command again: 1 finished answers are kept",
        ),
        (
            [{"end": "ok"}, {"reason": "auth", "http": 403}],
            "http://t/v1: refuses the API key (HTTP 403) — name its key in 'api_key_env'",
        ),
    ],
)
def test_a_hopeless_endpoint_is_one_line(completions: list[dict[str, object]], line: str) -> None:
    ended = [Completion.model_validate({"end": "failed", **one}) for one in completions]
    with pytest.raises(UserError) as caught:
        raise_if_hopeless(Endpoint(base_url="http://t/v1", model="m"), ended)
    assert caught.value.line() == line
