"""What a judge took: every reply's tokens, malformed ones' too, and nothing for what was kept."""

import json
from pathlib import Path

import pytest

from evaluation.judge import Question, ask_judge
from evaluation.judge_cache import judge_paid
from tests.scripted_server import Reply, Request, ScriptedServer
from workbench.inference.endpoint import Endpoint, Paid, Price

PRICE = Price(input=2.0, output=10.0, currency="KRW")
VERDICT = Reply(json.dumps({"reason": "Because.", "value": "yes"}))


def tokens(requests: list[Request], replies: int) -> int:
    """Tokens of the prompts, as the scripted server counts them: its words."""
    return sum(
        len(turn["content"].split()) for r in requests[:replies] for turn in r.body["messages"]
    )


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "judge.jsonl"


def ask(server: ScriptedServer, kept: Path, *names: str, attempts: int = 2, model: str = "judge"):
    endpoint = Endpoint(base_url=server.url, model=model, timeout=5, attempts=attempts, price=PRICE)
    questions = [Question("kind", "Is it kind?", "My wrist hurts.", name) for name in names]
    verdicts = ask_judge(endpoint, questions, lambda: None, cache=kept)
    return [verdict.value for verdict in verdicts], judge_paid(kept, endpoint)


def test_every_reply_is_counted_and_a_kept_verdict_costs_nothing_again(kept: Path) -> None:
    with ScriptedServer(lambda _: VERDICT) as server:
        values, paid = ask(server, kept, "One.", "Two.")
        assert values == [1.0, 1.0]
        said = 2 * len(VERDICT.content.split())
        assert paid == Paid(2, tokens(server.requests, 2), said)
        assert paid.cost(PRICE) == pytest.approx((2 * paid.input_tokens + 10 * said) / 1e6)

        assert ask(server, kept, "One.", "Two.") == (values, paid)
        assert len(server.requests) == 2


def test_a_reply_that_was_of_no_use_was_paid_for_all_the_same(kept: Path) -> None:
    def script(request: Request) -> Reply:
        return VERDICT if request.time else Reply("no JSON at all")

    with ScriptedServer(script) as server:
        values, paid = ask(server, kept, "One.")
        assert values == [1.0] and len(server.requests) == 2
        assert paid == Paid(2, tokens(server.requests, 2), 4 + len(VERDICT.content.split()))


def test_what_a_failure_took_is_kept_and_added_to_when_it_is_asked_again(kept: Path) -> None:
    with ScriptedServer(lambda _: Reply("no JSON at all")) as server:
        values, paid = ask(server, kept, "One.", attempts=1)
        assert values == [None]
        assert paid == Paid(1, tokens(server.requests, 1), 4)

        server.script = lambda _: VERDICT
        values, paid = ask(server, kept, "One.", attempts=1)
        assert values == [1.0]
        assert paid == Paid(2, tokens(server.requests, 2), 4 + len(VERDICT.content.split()))

        # A request without a reply took a try and no tokens that anyone knows of.
        server.script = lambda _: Reply(status=400)
        assert ask(server, kept, "Two.", attempts=1)[1] == paid._replace(attempts=3)


def test_another_judge_pays_its_own(kept: Path) -> None:
    with ScriptedServer(lambda _: VERDICT) as server:
        first = ask(server, kept, "One.")[1]
        assert ask(server, kept, "One.", model="other")[1] == first
        assert len(server.requests) == 2
