"""What the one judge is asked, what its replies count, and what they cost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from workbench.inference.answer_cache import paid_by
from workbench.inference.client import EndpointClient
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Paid, Price
from workbench.inference.judge import (
    STEP,
    JudgeQuestion,
    Vote,
    ask_judge,
    comparison,
    judged_traits,
    trait_questions,
    trait_share,
    transcript,
    verdict_of,
    vote_of,
)
from workbench.persona import Persona, load_persona
from workbench.records import Message, user_prompt

PRICE = Price(input=2.0, output=10.0, currency="KRW")
VERDICT = json.dumps({"reason": "Because.", "value": "yes"})
PROMPT = user_prompt("My wrist hurts.")


def tokens(requests: list[Request], replies: int) -> int:
    """Tokens of the prompts, as the scripted server counts them: its words."""
    return sum(
        len(turn["content"].split()) for r in requests[:replies] for turn in r.body["messages"]
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


@pytest.fixture(params=["gym-trainer", "gym-trainer-ko"])
def persona(repo: Path, request: pytest.FixtureRequest) -> Persona:
    return load_persona(repo / "datasets" / request.param)


def ask(
    server: ScriptedServer, cache: Path, *answers: str, attempts: int = 2, model: str = "judge"
) -> tuple[list[float | None], Paid]:
    endpoint = Endpoint(base_url=server.url, model=model, timeout=5, attempts=attempts, price=PRICE)
    questions = [JudgeQuestion("kind", "Is it kind?", "My wrist hurts.", one) for one in answers]
    verdicts = ask_judge(endpoint, questions, cache=cache)
    return [verdict.value for verdict in verdicts], paid_by(cache, {STEP: endpoint})[STEP]


def test_a_trait_is_asked_about_in_the_persona_s_language_with_its_rubric(persona: Persona) -> None:
    questions = trait_questions(persona, PROMPT, "Champ {braces}, rest.")
    assert [question.metric for question in questions] == list(judged_traits(persona))
    korean = persona.language == "ko"
    for question in questions:
        text = question.ask.prompt
        assert question.criterion.strip() in text and persona.role.strip() in text
        assert "<asked>\nMy wrist hurts.\n</asked>" in text
        assert "Champ {braces}, rest." in text
        assert "<approved>" not in text
        assert ("JSON 객체 하나로만" in text, "one JSON object" in text) == (korean, not korean)
        trait = next(trait for trait in persona.traits if trait.id == question.metric)
        assert f"{trait.name}: {trait.about}" in text


def test_two_answers_are_compared_in_the_persona_s_language(persona: Persona) -> None:
    ask = comparison(persona, PROMPT, "One.", "Two.")
    assert "<first>\nOne.\n</first>" in ask.prompt and "<second>\nTwo.\n</second>" in ask.prompt
    assert ask.allowed == ("first", "second", "tie")
    assert all(rule.strip() in ask.prompt for rule in persona.must)
    assert ("둘째 답변" in ask.prompt) == (persona.language == "ko")


def test_a_conversation_is_shown_turn_by_turn_without_its_system_message() -> None:
    prompt = (
        Message(role="system", content="You are Coach."),
        Message(role="user", content="My chest feels tight."),
        Message(role="assistant", content="Stop, champ."),
        Message(role="user", content="One more set?"),
    )
    assert transcript(prompt) == (
        "[user] My chest feels tight.\n[assistant] Stop, champ.\n[user] One more set?"
    )
    assert transcript(prompt[1:2]) == "My chest feels tight."


@pytest.mark.parametrize(
    ("completion", "vote"),
    [
        (Completion(end="ok", text='{"reason":"","value":"no"}'), Vote("no")),
        (Completion(end="failed", reason="timeout"), Vote(None, "judge_timeout")),
        (Completion(end="failed", reason="connection"), Vote(None, "judge_unreachable")),
        (Completion(end="failed", reason="stopped"), Vote(None, "judge_stopped")),
        (Completion(end="failed", reason="server_error", http=503), Vote(None, "judge_http_503")),
        (Completion(end="limited", reason="rate_limit", http=429), Vote(None, "judge_http_429")),
        (Completion(end="refused", reason="refused", http=200), Vote(None, "judge_refused")),
        (Completion(end="cut_off", reason="cut_off", http=200), Vote(None, "judge_cut_off")),
        (
            Completion(end="malformed", reason="out_of_range", http=200),
            Vote(None, "judge_out_of_range"),
        ),
        (
            Completion(end="malformed", reason="empty_answer", http=200),
            Vote(None, "judge_malformed"),
        ),
    ],
)
def test_every_end_of_a_request_is_a_word_or_a_kind_of_failure(
    completion: Completion, vote: Vote
) -> None:
    assert vote_of(completion) == vote


def test_votes_are_averaged_and_half_of_them_are_too_few() -> None:
    yes, no, none = Vote("yes"), Vote("no"), Vote(None, "judge_timeout")
    assert verdict_of([yes, no, yes]).value == pytest.approx(2 / 3)
    assert verdict_of([yes, yes, none]).value == 1.0
    assert verdict_of([yes, none]) == (None, "judge_timeout")


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ('{"reason": "So.", "value": "Yes "}', 1.0),
        ('{"value": "no"}', 0.0),
        ('Of course:\n```json\n{"reason": "So.", "value": "yes",}\n```', 1.0),
        ('{"reason": "So.", "value": "2009.58"}', None),
        ("yes", None),
    ],
)
def test_a_reply_counts_what_it_says(cache: Path, reply: str, value: float | None) -> None:
    with ScriptedServer(lambda _: says(reply)) as server:
        assert ask(server, cache, "One.", attempts=1)[0] == [value]
        (request,) = server.requests
    assert request.body["response_format"] == {"type": "json_object"}
    assert request.body["temperature"] == 0


def test_every_reply_is_counted_and_a_kept_verdict_costs_nothing_again(cache: Path) -> None:
    with ScriptedServer(lambda _: says(VERDICT)) as server:
        values, paid = ask(server, cache, "One.", "Two.")
        assert values == [1.0, 1.0]
        words = 2 * len(VERDICT.split())
        assert paid == Paid(2, tokens(server.requests, 2), words)
        assert paid.cost(PRICE) == pytest.approx((2 * paid.input_tokens + 10 * words) / 1e6)

        assert ask(server, cache, "One.", "Two.") == (values, paid)
        assert len(server.requests) == 2


def test_a_reply_that_was_of_no_use_was_paid_for_all_the_same(cache: Path) -> None:
    def script(request: Request) -> Reply:
        return says(VERDICT) if request.time else Reply("no JSON at all")

    with ScriptedServer(script) as server:
        values, paid = ask(server, cache, "One.")
        assert values == [1.0] and len(server.requests) == 2
        assert paid == Paid(2, tokens(server.requests, 2), 4 + len(VERDICT.split()))


def test_what_a_failure_took_is_kept_and_added_to_when_it_is_asked_again(cache: Path) -> None:
    with ScriptedServer(lambda _: Reply("no JSON at all")) as server:
        values, paid = ask(server, cache, "One.", attempts=1)
        assert values == [None]
        assert paid == Paid(1, tokens(server.requests, 1), 4)

        server.script = lambda _: says(VERDICT)
        values, paid = ask(server, cache, "One.", attempts=1)
        assert values == [1.0]
        assert paid == Paid(2, tokens(server.requests, 2), 4 + len(VERDICT.split()))

        # A request without a reply took a try, here one with all fields, one without each of the
        # four that may be at fault, two without any (the limit has two names), and no tokens.
        server.script = lambda _: Reply(status=400)
        assert ask(server, cache, "Two.", attempts=1)[1] == paid._replace(attempts=2 + 7)


def test_another_judge_pays_its_own(cache: Path) -> None:
    with ScriptedServer(lambda _: says(VERDICT)) as server:
        first = ask(server, cache, "One.")[1]
        assert ask(server, cache, "One.", model="other")[1] == first
        assert len(server.requests) == 2


def test_votes_are_drawn_apart_and_kept_apart(cache: Path) -> None:
    votes: Counter[str] = Counter()

    def script(request: Request) -> Reply:
        votes[request.prompt] += 1
        return says(json.dumps({"value": "no" if votes[request.prompt] == 1 else "yes"}))

    question = JudgeQuestion("kind", "Is it kind?", "Why?", "So.")
    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="judge")
        done: list[int] = []
        for _ in range(2):
            (verdict,) = ask_judge(
                endpoint, [question], lambda: done.append(1), votes=3, cache=cache
            )
            assert verdict.value == pytest.approx(2 / 3)
        bodies = [request.body for request in server.requests]
    assert (len(bodies), len(done)) == (3, 6)
    assert {body["seed"] for body in bodies} == {0, 1, 2}
    assert all(body["temperature"] > 0 for body in bodies)


def test_a_share_of_traits_leaves_out_what_was_not_answered(persona: Persona) -> None:
    first, *_ = judged_traits(persona).values()

    def script(request: Request) -> Reply:
        if "broken" in request.prompt:
            return fails(400)
        if first.strip() in request.prompt:
            return says('{"value": "no"}' if "walk" in request.prompt else '{"value": "yes"}')
        return fails(400) if "half" in request.prompt else says('{"value": "yes"}')

    async def shares(url: str) -> list[float | None]:
        async with EndpointClient(Endpoint(base_url=url, model="j", attempts=1)) as client:
            answers = ("rest", "walk", "half", "broken")
            return [await trait_share(client, persona, PROMPT, answer) for answer in answers]

    with ScriptedServer(script) as server:
        assert asyncio.run(shares(server.url)) == [1.0, 0.5, 1.0, None]
