"""Every dialect carries the jobs to their ends: generate, judge, arm and doctor.

The commands are the real ones; pipelines run in this process, below distilabel's own, which would
take longer to start than all the requests do.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from app.cli.main import main
from evaluation.answer import answer_arms
from evaluation.arms import Arm
from tests.app.cli.test_doctor import facts
from tests.scripted_server import ScriptedServer
from tests.small_round import SmallRound
from tests.workbench.inference.dialect_table import DIALECTS
from tests.workbench.inference.dialects import Dialect
from workbench.inference.answer_cache import CACHE, AnswerCache, paid_by
from workbench.inference.client import EndpointClient
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Paid
from workbench.inference.exchange import EndpointRequest
from workbench.inference.judge import STEP, JudgeQuestion, ask_judge
from workbench.records import Example, user_prompt

PRICE = {"input": 1000.0, "output": 2000.0}
ROWS = 6


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALECT_KEY", "azure-key")


def paid(*files: Path) -> Paid:
    parts: list[Paid] = []
    for file in files:
        with AnswerCache(file) as answers:
            parts.extend(answers.paid().values())
    return Paid.total(parts)


class Asked:
    """One dialect's server and everything that is asked of it."""

    def __init__(self, dialect: Dialect, round_: SmallRound) -> None:
        self.dialect, self.round = dialect, round_
        self.counted = (0, 0)

    def config(self, url: str, **generate: object) -> list[str]:
        about = {"base_url": url, "model": "m", "backoff": 0.01, "concurrency": 4, "price": PRICE}
        block = {**about, "rate_limit_wait": 5, "max_tokens": 200, **self.dialect.endpoint}
        options = self.round.options(url)
        file = Path(options[1])
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= {"teacher": block, "student": block, "judge": block}
        config["generate"] |= {"per_topic": ROWS // 2, "min_share": 0, **generate}
        file.write_text(json.dumps(config), encoding="utf-8")
        self.endpoint = Endpoint.model_validate(block)
        return options

    def new_tokens(self) -> tuple[int, int]:
        """Return what the server counted since the last call."""
        before = self.counted
        self.counted = self.dialect.input_tokens, self.dialect.output_tokens
        return self.counted[0] - before[0], self.counted[1] - before[1]

    def adds_up(self, took: Paid) -> None:
        """Assert that our account is the server's."""
        counted = self.new_tokens()
        assert min(counted) > 0
        if self.dialect.bills:
            assert (took.input_tokens, took.output_tokens) == counted
        else:
            assert took.input_tokens > 0 and took.output_tokens > 0


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_job_comes_to_its_end_and_its_account_is_the_servers(
    dialect: Dialect,
    small_round: SmallRound,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = Asked(dialect, small_round)
    with ScriptedServer(dialect.script, models=dialect.models) as server:
        options = asked.config(server.url)
        assert main(["import", *options]) == 0
        assert main(["generate", *options]) == 0
        generated(asked, capsys.readouterr().err)
        judged(asked, tmp_path / "judge.sqlite")
        answered(asked, tiny_model, tmp_path / "arm.sqlite")
        capsys.readouterr()
        assert main(["doctor", *options]) == 0
        diagnosed(asked, capsys.readouterr().out)


def generated(asked: Asked, err: str) -> None:
    """Assert that each planned row came, or has its reason, and that the money adds up."""
    dialect, folder = asked.dialect, asked.round.folder
    scratch = folder / ".generate.scratch"
    asked.adds_up(paid(scratch / "teacher" / CACHE, scratch / "baseline" / CACHE))
    manifest = json.loads((folder / "generate" / "manifest.json").read_text(encoding="utf-8"))
    counts = manifest["counts"]
    took = paid(scratch / "teacher" / CACHE)
    assert counts["spent"] == pytest.approx(took.cost(asked.endpoint.price), abs=1e-6)
    assert counts["planned"] == ROWS
    assert counts["lost"] == ({"content_filter": dialect.filters} if dialect.filters else {})
    assert counts["taught"] == ROWS - dialect.filters > 0
    assert bool(counts["reasoned"]) == dialect.reasons
    assert bool(counts["uncounted"]) != dialect.bills
    rows = (folder / "generate" / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["answer"].startswith("Champ, this is the answer") for row in rows)
    assert "A draft?" not in "".join(rows)
    told = Counter(name for name in dialect.left_out if f"does not take '{name}'" in err)
    # A judge's JSON mode and greedy answers are not asked of a teacher without a judge's trait.
    assert set(told) <= dialect.left_out
    assert all(err.count(f"does not take '{name}'") <= 2 for name in told)


def judged(asked: Asked, cache: Path) -> None:
    """Assert that a judge's every question gets its value."""
    questions = [
        JudgeQuestion("kind", "Is it kind?", f"What about {n}?", "Champ, rest.") for n in range(4)
    ]
    verdicts = ask_judge(asked.endpoint, questions, cache=cache)
    assert [verdict.value for verdict in verdicts] == [1.0] * 4
    asked.adds_up(paid_by(cache, {STEP: asked.endpoint})[STEP])


def answered(asked: Asked, model: Path, cache: Path) -> None:
    """Assert that a served arm answers, what is filtered by name, and that it is paid for."""
    examples = [
        Example(prompt=user_prompt(f"How about {n}?"), answer="Champ.", topic="squat")
        for n in range(6)
    ]
    arm = Arm("served", endpoint=asked.endpoint, system="You are a trainer.")
    before = asked.dialect.filters
    responses = answer_arms([arm], examples, model, cache=cache)
    lost = [response for response in responses if response.unanswered]
    assert {response.unanswered for response in lost} <= {"content_filter"}
    assert len(lost) == asked.dialect.filters - before and len(responses) == 6
    assert all(r.text.startswith("Champ, this is") for r in responses if not r.unanswered)
    asked.adds_up(paid(cache))


def diagnosed(asked: Asked, out: str) -> None:
    """Assert that the doctor says what the jobs met."""
    dialect = asked.dialect
    (teacher, *others) = facts(out).values()
    assert all(other.keys() == teacher.keys() for other in others)
    assert teacher["answers"] == "yes" and teacher.items() >= dialect.facts.items()
    assert (teacher["seed"] == "yes") == ("seed" not in dialect.left_out)
    assert (teacher["temperature"] == "yes") == ("temperature" not in dialect.left_out)
    assert (teacher["system message"] == "yes") == ("system" not in dialect.left_out)
    assert (teacher["JSON schema"] == "yes") == ("json_schema" not in dialect.left_out)
    assert (teacher["reasoning"] != "none") == dialect.reasons


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_run_pays_more_than_its_budget(dialect: Dialect, small_round: SmallRound) -> None:
    asked, budget = Asked(dialect, small_round), 1.0
    asked.new_tokens()
    requests = [
        EndpointRequest(user_prompt(f"How about {n}?"), max_tokens=200, seed=1) for n in range(30)
    ]

    async def ask(endpoint: Endpoint) -> list[Completion]:
        async with EndpointClient(endpoint, budget=budget) as client:
            return list(await asyncio.gather(*map(client.complete, requests)))

    with ScriptedServer(dialect.script, models=dialect.models) as server:
        asked.config(server.url)
        completions = asyncio.run(ask(asked.endpoint))
    tokens = asked.new_tokens()
    ours = Paid(0, *(sum(getattr(c, f"{n}put_tokens") for c in completions) for n in ("in", "out")))
    assert ours.cost(asked.endpoint.rate) <= budget
    assert any(one.ok for one in completions) and not completions[-1].ok
    if dialect.bills:
        assert (ours.input_tokens, ours.output_tokens) == tokens


def test_there_are_thirty_of_them() -> None:
    assert len({dialect.name for dialect in DIALECTS}) == len(DIALECTS) >= 30
