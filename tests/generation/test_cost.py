from __future__ import annotations

from pathlib import Path

import pytest

from generation.cost import plan_teacher
from generation.teacher import teacher_rows
from tests.generation.conftest import rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint, Price
from workbench.persona import Persona
from workbench.records import Example

PRICE = Price(input=1000.0, output=2000.0)


def test_a_plan_states_requests_tokens_and_money(persona: Persona, seeds: list[Example]) -> None:
    endpoint = Endpoint(base_url="http://t/v1", model="m", price=PRICE)
    plan = plan_teacher(persona, seeds, endpoint, rows(7))
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
    bare = plan_teacher(persona, seeds, Endpoint(base_url="http://t", model="m"), rows(7))
    assert bare.lines()[-1] == "cost: unknown, the endpoint has no 'price'"


def test_a_plan_counts_kinds_where_there_are_several(
    persona: Persona, seeds: list[Example]
) -> None:
    endpoint = Endpoint(base_url="http://t/v1", model="m")
    mix = {"first_person": 0.1, "evolved": 0.2}
    plan = plan_teacher(persona, seeds, endpoint, rows(10, mix=mix))
    assert plan.lines()[1] == "kinds: ordinary 14, evolved 4, first_person 2"
    assert plan_teacher(persona, seeds, endpoint, rows(10)).kinds == {}


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
        part = teacher_rows(persona, seeds, endpoint, rows(20, budget=7.0), workdir=work)
        first, made = sum(paid) / 1e6, len(paid)
        taught = teacher_rows(persona, seeds, endpoint, rows(20, budget=100.0), workdir=work)
    assert 8 < made < 48
    assert first <= 7.0
    # It ends with what was paid for.
    assert len(part.examples) == made - 8
    assert part.failed == {"stopped": 48 - made} and part.spent == pytest.approx(first)
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
        teacher_rows(persona, seeds, endpoint, rows(1, budget=1.0), workdir=tmp_path)
