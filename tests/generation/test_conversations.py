"""Conversations with a scripted teacher: every planned turn has an end, repairs make pairs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from generation.conversations import plan_conversations
from generation.cost import account_lines, plan_teacher
from generation.teacher import Taught, teacher_rows
from tests.generation.conftest import rows
from tests.scripted_server import FAILURES, Reply, Request, ScriptedServer, says
from workbench.dialogue.users import SimulatedUser
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Example

WEAK = "Squat."
GOOD = "Champ, squat now."


def user(name: str, *, turns: int = 3, **fields: object) -> SimulatedUser:
    return SimulatedUser.model_validate(
        {
            **{"id": name, "topic": "squat", "who": "A clerk.", "wants": "One exercise."},
            **{"behaviour": "patient", "manner": "Calm.", "first": f"I am {name}. What now?"},
            "lines": [f"{name} asks {n}?" for n in range(2, turns + 1)],
            **{"satisfied": ["squat"], "turns": turns},
            **fields,
        }
    )


USERS = [user("ann"), user("bob"), user("eve", held_out=True)]


def teach(
    persona: Persona,
    seeds: list[Example],
    server: ScriptedServer,
    work: Path,
    count: int,
    **how: Any,
) -> Taught:
    fields = {"base_url": server.url, "model": "m", "backoff": 0.01, **how.pop("fields", {})}
    endpoint = Endpoint.model_validate(fields)
    settings = rows(0, conversations=count)
    users = how.pop("users", USERS)
    return teacher_rows(persona, seeds, endpoint, settings, workdir=work, users=users, **how)


def last(request: Request) -> str:
    text: str = request.body["messages"][-1]["content"]
    return text


def step(request: Request) -> str:
    if request.schema is not None:
        return "user"
    if "What the answer lacks:" in last(request):
        return "critique"
    return "repair" if "[Not part of the conversation." in last(request) else "answer"


def well(request: Request) -> Reply:
    """Answer in character, another text for every message."""
    return says(f"{GOOD} {len(request.body['messages'])} {request.share:.4f}")


def slips_once(request: Request) -> Reply:
    """Lose the voice on every user's second message, and mend it."""
    match step(request):
        case "critique":
            return says("It does not say champ.")
        case "repair":
            return says(f"Champ again. {request.share:.4f}")
    return says(WEAK) if "asks 2" in last(request) else well(request)


def test_users_for_training_talk_in_turn_and_each_talk_is_a_row(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    with ScriptedServer(well) as server:
        taught = teach(persona, seeds, server, tmp_path, 4)
    talks = taught.talks
    assert talks.planned == 12 and talks.fates == {"kept": 12}
    assert Counter(one.user for one in talks.conversations) == {"ann": 2, "bob": 2}
    assert {(one.end, one.player, one.teacher) for one in talks.conversations} == {
        ("goal_met", "lines", "m")
    }
    assert len(taught.rows) == 4 and taught.examples == [] and taught.preferences == []
    for row, talk in zip(taught.rows, talks.conversations, strict=True):
        assert (*row.prompt, row.answer) == (*talk.messages[:-1], talk.messages[-1].content)
        assert [m.role for m in row.prompt] == ["user", "assistant"] * 2 + ["user"]
        assert row.parents[:2] == (talk.id, persona.record_id) and row.kind == "conversation"
        (played,) = [one for one in USERS if one.id == talk.user]
        assert played.record_id == talk.user_record
    # The same user twice is drawn with two seeds.
    assert len({(one.user, one.seed) for one in talks.conversations}) == 4
    assert len(server.requests) == 12


def test_a_turn_that_slips_is_critiqued_and_repaired_once(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    with ScriptedServer(slips_once) as server:
        taught = teach(persona, seeds, server, tmp_path, 2)
        steps = Counter(step(request) for request in server.requests)
        asked = [last(one) for one in server.requests if step(one) == "critique"]
    talks = taught.talks
    assert talks.fates == {"kept": 4, "repaired": 2}
    assert steps == {"answer": 6, "critique": 2, "repair": 2}
    assert all("- calls the person champ" in text and WEAK in text for text in asked)
    assert len(taught.preferences) == len(talks.critiques) == 2
    by_id = {one.id: one for one in talks.critiques}
    for pair, row in zip(taught.preferences, taught.rows, strict=True):
        assert (pair.rejected, pair.kind) == (WEAK, "repaired")
        assert pair.chosen.startswith("Champ again.")
        assert pair.parents[0] == row.id
        critique = by_id[pair.parents[1]]
        assert (critique.text, critique.missing) == ("It does not say champ.", ("address",))
        assert pair.prompt == critique.prompt and len(pair.prompt) == 3
        # What was mended is what the conversation went on from.
        assert row.prompt[3].content == pair.chosen and len(row.prompt) == 5
    assert {s.arm: s.value for s in taught.scores} == {"chosen": 1.0, "rejected": 0.0}
    lines = "\n".join(account_lines(_plan(persona, seeds, 2), taught))
    assert "6 turns planned = 4 kept + 2 repaired" in lines
    assert "conversations ended: goal_met 2; users: patient 2" in lines
    assert "repairs: 2 requests (0 to 6 planned)" in lines


def _plan(persona: Persona, seeds: list[Example], count: int) -> Any:
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", model="m")
    return plan_teacher(persona, seeds, endpoint, rows(0, conversations=count), users=USERS)


def test_what_stays_off_persona_is_no_row_and_the_rest_is_not_reached(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    def never(request: Request) -> Reply:
        return (
            well(request) if "I am" in last(request) and step(request) == "answer" else says(WEAK)
        )

    with ScriptedServer(never) as server:
        taught = teach(persona, seeds, server, tmp_path, 2)
    assert taught.talks.fates == {"kept": 2, "filtered": 2, "not_reached": 2}
    assert {(d.reason, d.detail) for d in taught.dropped} == {
        ("off_persona", "turn 2: lacks address")
    }
    assert [len(row.prompt) for row in taught.rows] == [1, 1] and taught.preferences == []
    assert {one.why for one in taught.talks.conversations} == {"off_persona"}


def faulty(request: Request) -> Reply:
    """Three requests of ten end badly, each kind in turn; the same ones whenever they are asked."""
    draw = int(request.share * 10_000) + 7 * len(request.body["messages"]) + len(last(request))
    kinds = ("rate_limit", "server_error", "malformed_reply", "empty_answer", "connection")
    if draw % 10 < 3:
        kind = draw // 10 % (len(kinds) + 1)
        return says("", finish_reason="content_filter") if kind == 5 else FAILURES[kinds[kind]]
    return slips_once(request)


def test_with_faults_every_planned_turn_has_one_end(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    users = [user(f"u{n}", turns=4) for n in range(30)]
    with ScriptedServer(faulty) as server:
        how: dict[str, Any] = {"users": users, "fields": {"attempts": 1, "concurrency": 4}}
        taught = teach(persona, seeds, server, tmp_path, 60, **how)
        asked = len(server.requests)
        again = teach(persona, seeds, server, tmp_path, 60, **how)
        repeated = {json.dumps(one.body) for one in server.requests[asked:]}
    talks = taught.talks
    assert talks.planned == 60 * 4 == sum(talks.fates.values())
    assert set(talks.fates) == {"kept", "repaired", "failed", "filtered", "not_reached"}
    lost = Counter(d.reason for d in taught.dropped if d.reason != "pair_too_close")
    assert sum(lost.values()) == talks.fates["failed"] + talks.fates["filtered"]
    assert {"rate_limit", "server_error", "content_filter"} <= set(lost)
    for one in talks.conversations:
        ends = [turn.fate for turn in one.turns]
        assert len(ends) == 4
        stay = sum(fate in ("kept", "repaired") for fate in ends)
        assert sum(m.role == "assistant" for m in one.messages) == stay
    # What ended for good is not paid for again; what failed is tried again, and fails alike.
    assert 0 < len(repeated) <= talks.fates["failed"]
    assert again.talks.fates == talks.fates


def plays(request: Request) -> Reply:
    if request.schema is None:
        return well(request)
    if request.system.count("I am") or "bob" in json.dumps(request.body):
        return says("", finish_reason="content_filter")
    said = sum(m["role"] == "assistant" for m in request.body["messages"])
    state = "goal_met" if said == 2 else "go_on"
    message = "" if state == "goal_met" else "And at work?"
    return says(json.dumps({"state": state, "reason": "Enough.", "message": message}))


def test_a_model_that_plays_a_user_is_named_and_may_fail(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    with ScriptedServer(plays) as server:
        endpoint = Endpoint(base_url=server.url, model="player")
        taught = teach(persona, seeds, server, tmp_path, 2, user=endpoint)
    by_user = {one.user: one for one in taught.talks.conversations}
    ann, bob = by_user["ann"], by_user["bob"]
    assert (ann.end, ann.why, ann.player) == ("goal_met", "Enough.", "player")
    assert [turn.fate for turn in ann.turns] == ["kept", "kept", "not_reached"]
    assert ann.messages[2].content == "And at work?"
    assert (bob.end, [turn.fate for turn in bob.turns]) == (
        "user_failed",
        ["kept", "failed", "not_reached"],
    )
    assert taught.steps["simulated_user"]["requests"] == 3


def test_held_out_users_never_talk_for_rows(persona: Persona) -> None:
    planned = plan_conversations(USERS, rows(0, conversations=40))
    assert {one.user.id for one in planned} == {"ann", "bob"}
    assert plan_conversations(USERS[2:], rows(0, conversations=4)) == []


def test_a_plan_names_conversations_before_anything_is_asked(
    persona: Persona, seeds: list[Example]
) -> None:
    lines = _plan(persona, seeds, 5).lines()
    assert "5 conversations with simulated users, 15 turns at the most" in lines
    assert any(line.startswith("conversations: 5 to 15 requests") for line in lines)
    assert any(line.startswith("critiques: 0 to 15 requests") for line in lines)


JOB = """
import os, sys
from pathlib import Path
from tests.generation.test_conversations import teach
import generation.pipelines.talks, openai
from workbench.persona import load_persona
class Server:
    url = sys.argv[2]
work = Path(sys.argv[1])
for _ in sys.stdin:
    job = os.fork()
    if not job:
        teach(load_persona(work), [], Server(), work / "job", 12, fields={"concurrency": 2})
        os._exit(0)
    print(job, flush=True)
    os.waitpid(job, 0)
"""


@pytest.mark.slow
def test_a_job_that_is_killed_loses_nothing_and_pays_nothing_twice(
    persona: Persona, tmp_path: Path
) -> None:
    """Ten kills spread over the job; the last run asks what is missing, and nothing else.

    One process imports what a job needs, and forks each job.
    """
    with ScriptedServer(lambda r: replace(slips_once(r), delay=0.02)) as server:
        command = [sys.executable, "-c", JOB, str(tmp_path), server.url]
        whole = 12 * (3 + 2)  # three answers a conversation, one critique and one repair
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as jobs:
            assert jobs.stdin and jobs.stdout
            for _ in range(10):
                began = len(server.requests)
                jobs.stdin.write("\n")
                jobs.stdin.flush()
                job = int(jobs.stdout.readline())
                while len(server.requests) < began + 4 and psutil.pid_exists(job):
                    time.sleep(0.002)
                with suppress(ProcessLookupError):  # all may be done before the last kill
                    os.kill(job, signal.SIGKILL)
        taught = teach(persona, [], server, tmp_path / "job", 12, fields={"concurrency": 2})
        bodies = Counter(json.dumps(one.body, sort_keys=True) for one in server.requests)
        assert len(bodies) == whole
        # Only what was under way at a kill was asked again: two requests a time at the most.
        assert sum(bodies.values()) - whole <= 10 * 2
        teach(persona, [], server, tmp_path / "job", 12, fields={"concurrency": 2})
        assert len(server.requests) == sum(bodies.values())
    assert sum(taught.talks.fates.values()) == taught.talks.planned == 36
    assert taught.talks.fates == {"kept": 24, "repaired": 12}
