"""A judge compares answers in pairs, in both orders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.pairwise import PairwiseResult, compare_pairs
from tests.scripted_server import Reply, Request, ScriptedServer
from tests.waiting import PATIENCE
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Response, user_prompt


def says(word: str) -> Reply:
    return Reply(json.dumps({"reason": "So.", "value": word}))


def answers(*arms: str, prompts: int = 12) -> list[Response]:
    return [
        Response(
            arm=arm,
            prompt_id=f"ex-{n}",
            prompt=user_prompt(f"Question {n}?"),
            text=f"{'Champ! ' if arm == 'sft' else ''}Answer {n} of {arm}.",
        )
        for arm in arms
        for n in range(prompts)
    ]


def first_of(request: Request) -> str:
    return request.prompt.split("<first>\n")[1].split("\n</first>")[0]


def judged(
    persona: Persona, script: Callable[[Request], Reply], responses: list[Response]
) -> tuple[PairwiseResult, list[Request]]:
    with ScriptedServer(script) as judge:
        endpoint = Endpoint(base_url=judge.url, model="judge", timeout=PATIENCE, attempts=1)
        result = compare_pairs(persona, responses, endpoint)
    return result, judge.requests


def test_a_judge_with_a_taste_finds_it_in_both_orders(persona: Persona) -> None:
    def taste(request: Request) -> Reply:
        return says("first" if "Champ" in first_of(request) else "second")

    result, requests = judged(persona, taste, answers("base", "sft"))
    (rate,) = result.rates
    assert len(requests) == 24
    assert {pair.value for pair in result.pairs} == {1.0}
    assert (rate.arm, rate.against, rate.raw, rate.consistent) == ("sft", "base", 1.0, 1.0)


def test_a_judge_that_always_takes_the_first_says_nothing(persona: Persona) -> None:
    result, _ = judged(persona, lambda _: says("first"), answers("base", "sft"))
    (rate,) = result.rates
    assert (rate.raw, rate.consistent) == (0.5, 0.0)
    assert len(result.pairs) == 12


def test_every_arm_meets_both_bases_once(persona: Persona) -> None:
    result, _ = judged(
        persona, lambda _: says("tie"), answers("base", "base+prompt", "sft", prompts=2)
    )
    assert [(rate.arm, rate.against) for rate in result.rates] == [
        ("base+prompt", "base"),
        ("sft", "base"),
        ("sft", "base+prompt"),
    ]


def test_a_pair_counts_only_where_both_orders_were_judged(persona: Persona) -> None:
    def script(request: Request) -> Reply:
        number = int(request.prompt.split("Question ")[1].split("?")[0])
        if number == 0 and "Champ" in first_of(request):
            return Reply("no JSON")
        if number == 1 and "Champ" not in first_of(request):
            return Reply(refusal="I would rather not.")
        return says("first" if "Champ" in first_of(request) else "second")

    (rate,) = judged(persona, script, answers("base", "sft"))[0].rates
    assert (rate.scored, rate.unscored, rate.raw) == (10, 2, 1.0)
    assert rate.reasons == {"judge_malformed": 1, "judge_refused": 1}


def test_votes_are_averaged_and_kept_answers_are_not_asked_for_again(
    persona: Persona, tmp_path: Path
) -> None:
    cache = tmp_path / "answers.sqlite"
    votes: Counter[str] = Counter()

    def script(request: Request) -> Reply:
        votes[request.prompt] += 1
        return says("tie" if votes[request.prompt] == 1 else "first")

    responses = answers("base", "sft", prompts=2)
    with ScriptedServer(script) as judge:
        endpoint = Endpoint(base_url=judge.url, model="judge", timeout=PATIENCE, attempts=1)

        def ask() -> tuple[list[float | None], list[Request]]:
            before = len(judge.requests)
            result = compare_pairs(persona, responses, endpoint, votes=3, cache=cache)
            return [pair.value for pair in result.pairs], judge.requests[before:]

        # Two of three votes for the first place and a tie, in both orders.
        values, requests = ask()
        assert values == [pytest.approx(0.5)] * 2
        assert len(requests) == 12
        assert all(r.body["temperature"] > 0 and "top_p" not in r.body for r in requests)

        assert ask()[1] == []
