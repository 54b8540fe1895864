"""Requests that go as one file: every end as online, half the price, and no batch is lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.scripted_server import (
    Batches,
    Reply,
    Request,
    ScriptedServer,
    conforms,
    fails,
    says,
)
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.batch import LEDGER
from workbench.inference.client import EndpointClient, complete_all
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Price
from workbench.inference.exchange import EndpointRequest
from workbench.records import user_prompt

PRICE = Price(input=1000, output=2000)
REQUESTS = [EndpointRequest(user_prompt(f"How deep, {n}?"), seed=n) for n in range(6)]


def endpoint(server: ScriptedServer, **fields: object) -> Endpoint:
    block = {"base_url": server.url, "model": "m", "backoff": 0.01, "batch": True, "price": PRICE}
    return Endpoint.model_validate({**block, **fields})


def mixed(request: Request) -> Reply:
    """Reply in every way: thinking, filtered, broken once, limited once, a field refused."""
    if "temperature" in request.body:
        return fails(400, code="unsupported_value", param="temperature")
    match request.body["seed"]:
        case 0:
            return says("<think>Plan.</think>To the chair.")
        case 1:
            return fails(400, code="content_filter", param="prompt")
        case 2 if request.time < 2:
            return fails(500)
        case 3 if request.time < 2:
            return says("")
    return conforms(request)


def test_every_end_is_as_online_and_costs_half(tmp_path: Path) -> None:
    with ScriptedServer(mixed) as server:
        batches = Batches(server)
        cache = tmp_path / "answers.sqlite"
        completions = complete_all(endpoint(server), REQUESTS, cache=cache, step="ask")
        online = complete_all(endpoint(server, batch=False, backoff=0), REQUESTS)
        with AnswerCache(cache) as answers:
            took = answers.paid()["ask"]
    ends = [(one.end, one.text, one.reason) for one in completions]
    assert ends == [(one.end, one.text, one.reason) for one in online]
    assert completions[0].text == "To the chair." and completions[0].reasoning == len("Plan.")
    assert [one.reason for one in completions] == ["", "content_filter", *[""] * 4]
    # All fields, then without temperature, then what was broken or empty once more.
    sizes = [len(batches.files[one["input_file_id"]].splitlines()) for one in batches.made.values()]
    assert sizes == [6, 6, 2]
    rate = endpoint(server).rate
    assert took.cost(rate) == pytest.approx(took.cost(PRICE) / 2)
    assert took.output_tokens == sum(one.output_tokens for one in completions) > 0
    # What is kept elsewhere is not looked for again.
    ledger = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert {one["batch"] for one in ledger if one.get("done")} == set(batches.made)


def test_a_job_that_was_killed_finds_its_batch_again_and_pays_once(tmp_path: Path) -> None:
    cache = tmp_path / "answers.sqlite"

    async def killed(server: ScriptedServer) -> None:
        with AnswerCache(cache) as answers:
            client = EndpointClient(endpoint(server, backoff=0.3), cache=answers, step="ask")
            client.open()
            work = [asyncio.create_task(client.complete(request)) for request in REQUESTS]
            while not (tmp_path / LEDGER).exists():
                await asyncio.sleep(0.02)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    with ScriptedServer(conforms) as server:
        batches = Batches(server, looks=4)
        asyncio.run(killed(server))
        assert len(batches.made) == 1 and server.requests == []
        completions = complete_all(endpoint(server), REQUESTS, cache=cache, step="ask")
        assert len(batches.made) == 1 and len(server.requests) == 6
        # A kill between the making of a batch and its line in the ledger loses none, either.
        (tmp_path / LEDGER).unlink()
        cache.unlink()
        again = complete_all(endpoint(server), REQUESTS, cache=cache, step="ask")
        assert len(batches.made) == 1 and len(server.requests) == 6
    assert [one.text for one in again] == [one.text for one in completions]
    assert all(one.ok for one in completions)


def test_what_has_no_reply_in_an_expired_batch_goes_into_the_next(tmp_path: Path) -> None:
    with ScriptedServer(conforms) as server:
        batches = Batches(server)
        batches.end = "expired"
        completions = complete_all(endpoint(server, attempts=9), REQUESTS)
    assert all(one.ok for one in completions)
    sizes = [len(batches.files[one["input_file_id"]].splitlines()) for one in batches.made.values()]
    assert sizes == [6, 3, 1]


def test_a_budget_holds_in_batches_too() -> None:
    async def asked(server: ScriptedServer) -> list[Completion]:
        requests = [EndpointRequest(user_prompt("How?"), seed=n, max_tokens=10) for n in range(30)]
        async with EndpointClient(endpoint(server), budget=0.3) as client:
            return list(await asyncio.gather(*map(client.complete, requests)))

    with ScriptedServer(lambda _: says("one two three four")) as server:
        batches = Batches(server)
        completions = asyncio.run(asked(server))
    made = [one for one in completions if one.ok]
    assert len(batches.made) > 1 and 0 < len(made) == len(server.requests)
    spent = sum(PRICE.of(one.input_tokens, one.output_tokens) / 2 for one in made)
    assert 0.2 < spent <= 0.3 or len(made) == 30


def test_a_server_without_batches_and_a_batch_that_failed_are_one_line() -> None:
    with ScriptedServer(conforms) as server:
        with pytest.raises(UserError) as none:
            complete_all(endpoint(server), REQUESTS)
        batches = Batches(server)
        batches.end = "failed"
        completions = complete_all(endpoint(server), REQUESTS[:1])
        assert len(batches.made) == 1 and server.requests == []
    assert none.value.line() == (
        f"{server.url}: takes no batches (HTTP 404) — leave 'batch' out of its block"
    )
    end = completions[0]
    assert (end.end, end.reason, end.detail) == ("failed", "rejected", "It is no JSONL.")
