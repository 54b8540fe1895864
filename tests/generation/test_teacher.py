from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from generation.cost import account_lines, plan_teacher
from generation.teacher import Taught, teacher_rows
from tests.generation.conftest import rows
from tests.scripted_server import FAILURES, Reply, Request, ScriptedServer, conforms, fails, says
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.prompts import system_prompt
from workbench.records import Example

SECRET = "sk-very-secret-4711"
KINDS = sorted(FAILURES)
MIX = {"evolved": 0.2, "adversarial": 0.1, "out_of_scope": 0.1, "follow_up": 0.2}
GOOD = "Champ, squat to the chair today."
WEAK = "Squat to the chair today."
NEAR = "A squat is an exercise in which the hips are lowered."
BECOMES = {"wrong_body": "malformed_reply"}


def endpoint_of(server: ScriptedServer, **fields: object) -> Endpoint:
    return Endpoint.model_validate(
        {"base_url": server.url, "model": "m", "backoff": 0.02, **fields}
    )


def files_with(text: str, folder: Path) -> list[Path]:
    wanted = text.encode()
    return [p for p in folder.rglob("*") if p.is_file() and wanted in p.read_bytes()]


@pytest.mark.slow
def test_a_healthy_teacher_fills_every_topic_and_is_paid_once(
    persona: Persona,
    seeds: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    work = tmp_path / "work"
    with ScriptedServer(lambda r: replace(conforms(r), delay=0.1), api_key=SECRET) as server:
        endpoint = endpoint_of(server, api_key_env="TEACHER_KEY", concurrency=4)
        first = teacher_rows(persona, seeds, endpoint, rows(6), workdir=work)
        asked = len(server.requests)
        second = teacher_rows(persona, seeds, endpoint, rows(6), workdir=work)
        assert len(server.requests) == asked
        assert 1 < server.most_at_once <= 4
        systems = {request.system for request in server.requests}
    assert Counter(example.topic for example in first.examples) == {"squat": 6, "sleep": 6}
    assert first.planned == len(first.examples) == 12
    assert first.missing == {}
    for example in first.examples:
        assert example.answer == f"Answer to: {example.question}"
        assert (example.origin, example.source) == ("teacher", "m")
        assert example.parents[0] == persona.record_id
        # Two examples of four: one of another topic would put both topics into one split.
        shown = [seed for seed in seeds if seed.id in example.parents]
        assert len(shown) == len(example.parents) - 1 == 2
        assert {seed.topic for seed in shown} == {example.topic}
    shown = [seed for key in first.examples[-1].parents[1:] for seed in seeds if seed.id == key]
    assert system_prompt(persona, shown) in systems
    # Two requests a topic for the questions, one an answer.
    assert first.usage["requests"] == first.usage["attempts"] == asked == 4 + 12
    assert first.usage["ok"] == 16
    assert first.usage["input_tokens"] > 0
    assert second.examples == first.examples
    assert second.dropped == first.dropped
    assert second.usage["cached"] == 16
    assert (second.usage["attempts"], second.usage["input_tokens"]) == (0, 0)
    assert files_with(SECRET, tmp_path) == []
    assert SECRET not in "".join(capfd.readouterr())


def test_failures_stay_with_their_rows_and_a_rerun_asks_only_for_those(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    def kind(request: Request) -> str:
        return KINDS[int(request.share / 0.3 * len(KINDS))] if request.share < 0.3 else ""

    def failing(request: Request) -> Reply:
        failure = kind(request) if request.system else ""
        return FAILURES[failure] if failure else conforms(request)

    work = tmp_path / "work"
    with ScriptedServer(failing) as server:
        endpoint = endpoint_of(server, attempts=2, timeout=5.0, concurrency=16)
        taught = teacher_rows(persona, seeds, endpoint, rows(70), workdir=work)
        asked = {r.prompt: kind(r) for r in server.requests if r.system}
        made = len(server.requests)
        server.script = conforms
        mended = teacher_rows(persona, seeds, endpoint, rows(70), workdir=work)
        again = server.requests[made:]
    failed = {prompt: kind for prompt, kind in asked.items() if kind}
    assert set(failed.values()) == set(KINDS)
    assert taught.planned == len(asked) == 140
    assert {example.question for example in taught.examples} == asked.keys() - failed.keys()
    expected = Counter(BECOMES.get(kind, kind) for kind in failed.values())
    assert Counter(drop.reason for drop in taught.dropped) == expected
    usage = taught.usage
    assert usage["filtered"] == {"too_long": expected.pop("too_long")}
    assert usage["failed"] == expected
    lost = sum(usage["failed"].values()) + sum(usage["filtered"].values())
    assert usage["ok"] + lost == usage["requests"] == 28 + 140
    assert usage["attempts"] == made
    assert all(drop.stage == "generate" and drop.source == "m" for drop in taught.dropped)
    # An answer that was filtered was paid for; what failed was not.
    unpaid = {prompt for prompt, kind in failed.items() if kind != "too_long"}
    assert {request.prompt for request in again} == unpaid
    assert len(again) == len(unpaid)
    assert len(mended.examples) == 140 - usage["filtered"]["too_long"]


@pytest.mark.slow
def test_an_unknown_model_is_one_line(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    with ScriptedServer(lambda request: fails(404)) as server:
        with pytest.raises(UserError) as caught:
            teacher_rows(persona, seeds, endpoint_of(server), rows(1), workdir=tmp_path / "work")
        assert caught.value.line() == (
            f"{server.url}: does not know the model 'm' (scripted failure)"
            " — mend 'model' or 'base_url' (it mostly ends in /v1)"
        )


def test_a_teacher_that_goes_down_stops_the_job_and_what_it_said_is_kept(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    def script(request: Request) -> Reply:
        answered = sum(bool(r.system) for r in server.requests) > 20
        return fails(503) if request.system and answered else conforms(request)

    with ScriptedServer(script) as server:
        endpoint = endpoint_of(server, attempts=1, concurrency=2)
        with pytest.raises(UserError) as caught:
            teacher_rows(persona, seeds, endpoint, rows(50), workdir=tmp_path / "work")
        made = sum(bool(request.system) for request in server.requests)
    assert made < 40
    line = caught.value.line()
    assert (
        f"is down: stopped after server_error {made - 20}, with {100 - made} requests not" in line
    )
    assert line.endswith("when it is up, run the same command again: 20 finished answers are kept")


def test_a_teacher_that_repeats_itself_leaves_gaps_that_are_told(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    def script(request: Request) -> Reply:
        if request.system:
            return conforms(request)
        return says('{"questions": ["Why do my heels lift?", "How deep should I squat?"]}')

    with ScriptedServer(script) as server:
        taught = teacher_rows(
            persona, seeds, endpoint_of(server), rows(2), workdir=tmp_path / "work"
        )
    assert [example.question for example in taught.examples] == ["Why do my heels lift?"]
    assert taught.missing == {"squat": 1, "sleep": 2}
    assert taught.planned == len(taught.examples) + sum(taught.missing.values())
    # Three rounds: two topics in each, two questions an answer, of which one was taken.
    assert Counter(drop.reason for drop in taught.dropped) == {"near_duplicate_question": 11}


def teach(
    persona: Persona, seeds: list[Example], work: Path, judged: bool = True, **options: object
) -> tuple[Taught, list[Request], list[str]]:
    """Teach with candidates of two qualities, hard negatives and a judge's verdicts."""
    persona = Persona.model_validate(
        {
            **persona.model_dump(by_alias=True),
            "traits": [
                *persona.model_dump(by_alias=True)["traits"],
                {"id": "kind", "name": "Kind", "about": "is kind", "check": {"judge": "Kind?"}},
            ],
        }
    )

    def script(request: Request) -> Reply:
        text = request.body["messages"][-1]["content"]
        if request.json_mode:
            kind = "Champ" in text.split("<answer>\n")[1]
            return says(json.dumps({"reason": "So.", "value": "yes" if kind else "no"}))
        if request.schema:
            return conforms(request)
        if request.system:
            last = text[-30:]
            return says(f"{GOOD} {last}" if request.body["seed"] else f"{WEAK} {last}")
        return says(NEAR)

    with ScriptedServer(script) as server:
        endpoint = Endpoint(base_url=server.url, model="m", concurrency=16)
        wanted = rows(10, **{"mix": MIX, "candidates": 2, "hard_negatives": 0.5, **options})
        judge = endpoint if judged else None
        plan = plan_teacher(persona, seeds, endpoint, wanted, judge=judge)
        taught = teacher_rows(persona, seeds, endpoint, wanted, judge=judge, workdir=work)
        return taught, server.requests, account_lines(plan, taught)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("taught")


def test_kinds_are_marked_candidates_chosen_and_pairs_scored(
    persona: Persona, seeds: list[Example], work: Path
) -> None:
    taught, requests, lines = teach(persona, seeds, work)
    assert taught.share == 1.0
    assert Counter(e.kind for e in taught.examples) == {
        "": 8, "evolved": 4, "adversarial": 2, "out_of_scope": 2, "follow_up": 4,
    }  # fmt: skip
    # The candidate that shows more traits is the row, whichever came first.
    assert all(example.answer.startswith(GOOD) for example in taught.examples)
    follow_ups = [e for e in taught.examples if e.kind == "follow_up"]
    by_prompt = {e.prompt: e for e in taught.examples}
    for example in follow_ups:
        assert [turn.role for turn in example.prompt] == ["user", "assistant", "user"]
        base = by_prompt[example.prompt[:1]]
        assert (base.topic, base.kind) == (example.topic, "")
    kinds = Counter(pair.kind for pair in taught.preferences)
    assert kinds == {"candidates": 20, "voice_off": 5, "rule_broken": 5}
    by_id = {e.id: e for e in taught.examples}
    scores = {(s.response, s.arm): s.value for s in taught.scores}
    for pair in taught.preferences:
        assert pair.chosen == by_id[pair.parents[0]].answer
        assert (scores[pair.id, "chosen"], scores[pair.id, "rejected"]) == (1.0, 0.0)
    steps = Counter({step: usage["requests"] for step, usage in taught.steps.items()})
    assert steps == {
        "questions": 4,
        "answers": 40,
        "follow_ups": 4,
        "hard_negatives": 10,
        "judge": 50,
    }
    # A scripted hard negative is the same text for every row, so equal requests were joined.
    assert len(requests) <= sum(steps.values())
    assert "the judge: 50 traits of answers scored, 0 not" in lines
    assert any(line.startswith("answered of kinds: ordinary 8/8") for line in lines)
    assert lines[-1] == "pairs: candidates 20, rule_broken 5, voice_off 5; 0 too close"


def test_pairs_too_close_are_dropped_by_name(
    persona: Persona, seeds: list[Example], work: Path
) -> None:
    taught, _, _ = teach(persona, seeds, work, judged=False, margin=1.0, candidates=1)
    assert taught.steps.keys() == {"questions", "answers", "follow_ups", "hard_negatives"}
    # Weak answers alone: a hard negative lacks what they lack, so no pair has a margin.
    assert taught.preferences == []
    close = [drop for drop in taught.dropped if drop.reason == "pair_too_close"]
    assert Counter(drop.detail.split(":")[0] for drop in close) == {
        "voice_off": 5, "rule_broken": 5,
    }  # fmt: skip
