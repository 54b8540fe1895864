from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from generation.budget import Budget
from generation.pipeline import plan_teacher, teacher_rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, Price
from workbench.persona import Persona
from workbench.records import Example

PRICE = Price(input=1000.0, output=2000.0)


def test_a_plan_states_requests_tokens_and_money(persona: Persona, seeds: list[Example]) -> None:
    endpoint = Endpoint(base_url="http://t/v1", model="m", price=PRICE)
    plan = plan_teacher(persona, seeds, endpoint, per_topic=7)
    questions, answers = plan.steps
    assert (plan.rows, plan.topics) == (14, {"squat": 7, "sleep": 7})
    assert (questions.requests.low, questions.requests.high) == (4, 12)
    assert (answers.requests.low, answers.requests.high) == (14, 14)
    # The persona's answers have 3 to 90 words; English has 1.2 to 1.6 tokens a word.
    assert answers.output_tokens.low == pytest.approx(14 * 3 * 1.2)
    assert answers.output_tokens.high == pytest.approx(14 * 90 * 1.6)
    assert plan.money is not None
    tokens_in = questions.input_tokens.low + answers.input_tokens.low
    tokens_out = questions.output_tokens.low + answers.output_tokens.low
    assert plan.money.low == pytest.approx((1000 * tokens_in + 2000 * tokens_out) / 1e6)
    lines = plan.lines()
    assert lines[0] == "14 rows over 2 topics"
    assert lines[1].startswith("questions: 4 to 12 requests, ")
    assert lines[-1] == f"cost: {plan.money.low:.2f} to {plan.money.high:.2f} USD, without retries"
    bare = plan_teacher(persona, seeds, Endpoint(base_url="http://t", model="m"), per_topic=7)
    assert bare.lines()[-1] == "cost: unknown, the endpoint has no 'price'"


def test_a_budget_is_never_overdrawn_and_used_as_far_as_it_reaches() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10}
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

    async def run() -> tuple[int, float]:
        budget = Budget(PRICE, 0.1)
        worst = budget.worst(body, 1)
        assert worst == pytest.approx((17 * 1000 + 10 * 2000) / 1e6)
        made = await asyncio.gather(*(ask(budget, worst) for _ in range(40)))
        assert budget.spent + worst > budget.limit >= budget.spent
        return sum(made), budget.spent

    made, spent = asyncio.run(run())
    # Two fit at their worst; each then costs a quarter, so that more follow.
    assert most == 2
    assert made == 7
    assert spent == pytest.approx(7 * 0.037 / 4)


@pytest.mark.slow
def test_a_job_stops_at_its_budget_and_goes_on_with_more(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    paid: list[int] = []

    def script(request: Request) -> Reply:
        reply = conforms(request)
        asked = sum(len(turn["content"].split()) for turn in request.body["messages"])
        paid.append(asked * 1000 + len((reply.content or "").split()) * 2000)
        return reply

    work = tmp_path / "work"
    with ScriptedServer(script) as server:
        price = {"input": 1000, "output": 2000}
        endpoint = Endpoint.model_validate(
            {"base_url": server.url, "model": "m", "attempts": 1, "price": price}
        )
        with pytest.raises(UserError) as caught:
            teacher_rows(persona, seeds, endpoint, per_topic=20, workdir=work, budget=6.0)
        first, made = sum(paid) / 1e6, len(paid)
        taught = teacher_rows(persona, seeds, endpoint, per_topic=20, workdir=work, budget=100.0)
    assert 8 < made < 48
    assert first <= 6.0
    line = caught.value.line()
    assert line.startswith(f"{server.url}: stopped at the budget, with {48 - made} requests not")
    assert line.endswith(
        f"raise the budget, then run the same command again: {made - 8} finished answers are kept"
    )
    assert len(server.requests) == 48
    assert len(taught.examples) == 40
    assert taught.spent == pytest.approx(sum(paid) / 1e6)
    assert taught.paid["answers"].attempts == 40
    assert (taught.steps["questions"]["cached"], taught.share) == (8, 1.0)


def test_a_budget_without_a_price_is_a_mistake(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    endpoint = Endpoint(base_url="http://t/v1", model="m")
    with pytest.raises(UserError, match="a budget needs a price"):
        teacher_rows(persona, seeds, endpoint, per_topic=1, workdir=tmp_path, budget=1.0)
