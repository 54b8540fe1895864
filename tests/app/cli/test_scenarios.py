"""Servers as people met them, each kind in several manners: `persona generate` and `doctor` end.

Each row of the table is one scripted server. The planned rows add up, with their reasons; the
account is the server's own; the doctor says what the job met.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from tests.app.cli.test_doctor import facts
from tests.scripted_server import Reply, Request, ScriptedServer, conforms
from tests.small_round import SmallRound
from tests.workbench.inference.dialects import error, openai

ROWS = 4
ANSWER = "Champ, squat to the chair at {share:.8f}."


def message(
    content: object, finish: str | None = "stop", tokens: int = 60, **fields: object
) -> Reply:
    """Return a reply of status 200 whose message has these fields."""
    said = {"role": "assistant", "content": content, **fields}
    usage = {"prompt_tokens": 50, "completion_tokens": tokens, "total_tokens": 50 + tokens}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    return Reply(raw=json.dumps({"choices": [choice], "usage": usage}).encode())


@dataclass
class Scenario:
    """One server, and what has to come of it."""

    reply: Callable[[Request], Reply | None]
    """To any request; None for a good reply."""
    lost: dict[str, int] = field(default_factory=dict)
    """Reason → planned rows without an answer."""
    told: str = ""
    """What `persona generate` says of it."""
    facts: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    """Of the doctor."""
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    tries: int | None = None
    """Requests for answers, where all are lost."""


def good(request: Request) -> str:
    return ANSWER.format(share=request.share)


def spoken(wrap: Callable[[str], Reply]) -> Callable[[Request], Reply | None]:
    """Reply to plain questions by a wrapped good answer."""
    return lambda r: None if "response_format" in r.body else wrap(good(r))


def filters(reply: Reply) -> Callable[[Request], Reply | None]:
    """Filter one topic of two, as often as it is asked about."""
    return lambda r: reply if "Topic: Sleep and rest" in r.prompt else None


def refuses(*fields: str, reply: Reply) -> Callable[[Request], Reply | None]:
    return lambda r: reply if any(name in r.body for name in fields) else None


def limits(most: int, seconds: float, reply: Reply) -> Callable[[Request], Reply | None]:
    """Let so many requests through in so many seconds."""
    lately: list[float] = []

    def limited(request: Request) -> Reply | None:
        now = time.monotonic()
        lately[:] = [then for then in lately if now - then < seconds]
        if len(lately) >= most:
            return reply
        lately.append(now)
        return None

    return limited


THINKS = {"reasoning": "taken off"}
THOUGHT = "reasoning taken off 4 of"
CUT = {"cut_off": ROWS}
LONG = "raise max_tokens"
EMPTY = {"empty_answer": ROWS}
PART = {"type": "text", "text": "Plan."}
PLAN = {"type": "thinking", "thinking": [PART]}
FILTER = {"content_filter": ROWS // 2}
NEEDS = "parameter.enable_thinking must be set to false for non-streaming calls"

SCENARIOS: dict[str, Scenario] = {
    # A teacher that thinks aloud.
    "thinks": Scenario(
        spoken(lambda a: message(f'<think>\nI draft {{"questions": ["x"]}}.\n</think>\n\n{a}')),
        told=THOUGHT,
        facts=THINKS,
    ),
    "thinks, unopened": Scenario(
        spoken(lambda a: message(f"Plan.\n</think>\n\n{a}")), told=THOUGHT
    ),
    "thinks in brackets": Scenario(spoken(lambda a: message(f"[THINK]Plan.[/THINK]{a}"))),
    "thinks in channels": Scenario(
        spoken(
            lambda a: message(
                "<|channel|>analysis<|message|>Plan.<|end|><|start|>assistant<|channel|>final"
                f"<|message|>{a}<|return|>"
            )
        ),
        told=THOUGHT,
    ),
    "thinks in details": Scenario(
        spoken(lambda a: message(a, reasoning_details=[{"type": "reasoning.text", "text": "Hm"}])),
        told=THOUGHT,
        facts=THINKS,
    ),
    # It is cut off in its reasoning: asked once, and the way out is named.
    "null and length": Scenario(
        spoken(lambda a: message(None, "length", 1024, reasoning_content="Hm")),
        CUT,
        code=2,
        facts={"answers": LONG},
        tries=ROWS,
    ),
    "unended and stop": Scenario(
        spoken(lambda a: message("<think>On and on")), CUT, code=2, tries=ROWS
    ),
    "empty and MAX_TOKENS": Scenario(
        spoken(lambda a: message("", "MAX_TOKENS", 1024)), CUT, code=2, tries=ROWS
    ),
    "half a sentence": Scenario(
        spoken(lambda a: message(a[:9], "length", 1024)), CUT, code=0, tries=ROWS
    ),
    # Content as parts.
    "parts": Scenario(
        spoken(
            lambda a: message(
                [{"type": "thinking", "thinking": [PART]}, {"type": "text", "text": a}]
            )
        ),
        told=THOUGHT,
        facts=THINKS,
    ),
    "parts of responses": Scenario(
        spoken(
            lambda a: message(
                [{"type": "reasoning", "summary": [PART]}, {"type": "output_text", "text": a}]
            )
        ),
        told=THOUGHT,
    ),
    "one part": Scenario(spoken(lambda a: message({"type": "text", "text": a}))),
    "text in pieces": Scenario(
        spoken(lambda a: message([{"type": "text", "text": one} for one in (a[:7], a[7:])]))
    ),
    # One topic is filtered: its rows are lost, the schema stays on for all others.
    "filter of azure": Scenario(
        filters(openai(400, "The response was filtered due to", code="content_filter")), FILTER
    ),
    "filter as a permission": Scenario(
        filters(error(403, {"code": "no permission", "error": "violates usage guidelines"})), FILTER
    ),
    "filter by the end": Scenario(filters(message("", "content_filter: PROHIBITED")), FILTER),
    "filter in a page of 200": Scenario(
        filters(error(200, {"error": {"code": 400, "message": "flagged by moderation"}})), FILTER
    ),
    "a refusal of its own": Scenario(filters(message("", "refusal")), {"refused": ROWS // 2}),
    # A server that needs a field of its own.
    "a field of its own": Scenario(
        lambda r: None if r.body.get("enable_thinking") is False else openai(400, NEEDS),
        endpoint={"extra_body": {"enable_thinking": False}},
    ),
    "a field within a field": Scenario(
        lambda r: None if "chat_template_kwargs" in r.body else error(422, {"detail": "kwargs"}),
        endpoint={"extra_body": {"chat_template_kwargs": {"thinking": False}}},
    ),
    "a header of its own": Scenario(
        lambda r: None if r.headers.get("x-team") == "gym" else error(403, {"error": "no team"}),
        endpoint={"headers": {"X-Team": "gym"}},
    ),
    # Fields that are refused, in other words each time.
    "limit and temperature": Scenario(
        lambda r: (
            openai(400, "Unsupported parameter: 'max_tokens'", param="max_tokens")
            if "max_tokens" in r.body
            else openai(400, "Unsupported value: 'temperature'", param="temperature")
            if "temperature" in r.body
            else None
        ),
        told="does not take 'max_tokens'",
        facts={"longest answer": "max_completion_tokens", "temperature": "not taken"},
    ),
    "an extraneous key": Scenario(
        refuses("seed", reply=error(400, {"message": "#: extraneous key [seed] is not permitted"})),
        told="does not take 'seed'",
        facts={"seed": "not taken"},
    ),
    "an argument": Scenario(
        refuses(
            "seed",
            reply=error(400, {"code": "invalid", "error": "Argument not supported: seed"}),
        ),
        facts={"seed": "not taken"},
    ),
    "a list of errors": Scenario(
        refuses("seed", reply=error(400, {"errors": [{"message": "Type mismatch of '/seed'"}]})),
        facts={"seed": "not taken"},
    ),
    "in French": Scenario(
        refuses("seed", reply=error(422, {"message": "Le paramètre « seed » est refusé"})),
        facts={"seed": "not taken"},
    ),
    # Limits without headers: the pace falls, and all rows come.
    "three at a time": Scenario(
        limits(3, 0.4, openai(429, "Rate limit reached", code="rate_limit_exceeded"))
    ),
    "limits with an offer": Scenario(
        limits(3, 0.4, openai(429, "Rate limit reached. Add a payment method at /billing."))
    ),
    "limits of status 200": Scenario(
        limits(3, 0.4, error(200, {"base_resp": {"status_msg": "rate limit"}, "choices": None}))
    ),
    "too busy": Scenario(limits(3, 0.4, error(503, {"error": "Model is overloaded"}))),
    # A model that says nothing.
    "no word": Scenario(spoken(lambda a: message("", tokens=1)), EMPTY, code=2),
    "blanks": Scenario(spoken(lambda a: message(" \n\u200b ", tokens=1)), EMPTY, code=2),
    "no content": Scenario(spoken(lambda a: message(None, None, 1)), EMPTY, code=2),
    "a call in place of words": Scenario(
        spoken(lambda a: message(None, "tool_calls", tool_calls=[{"function": {"name": "x"}}])),
        EMPTY,
        code=2,
    ),
}


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_a_job_comes_to_its_end_and_the_doctor_says_what_it_met(
    name: str,
    small_round: SmallRound,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scenario, bill, answers = SCENARIOS[name], [0, 0], 0

    def script(request: Request) -> Reply:
        nonlocal answers
        answers += bool(request.system) and request.body["model"] == "m"
        reply = scenario.reply(request) if request.body["model"] == "m" else None
        if reply is None:
            shaped = "response_format" in request.body
            reply = message(conforms(request).content if shaped else good(request))
        usage = json.loads(reply.raw or b"{}") if reply.status == 200 else {}
        if request.body["model"] == "m" and isinstance(usage, dict) and "usage" in usage:
            bill[0] += usage["usage"]["prompt_tokens"]
            bill[1] += usage["usage"]["completion_tokens"]
        return reply

    with ScriptedServer(script) as server:
        about = {"backoff": 0.01, "attempts": 3, "concurrency": 4, "rate_limit_wait": 20}
        options = small_round.options(server.url, ROWS // 2, **about, **scenario.endpoint)
        _with_student(Path(options[1]), server.url)
        assert main(["import", *options]) == 0
        assert main(["generate", *options]) == (3 if scenario.lost else 0)
        err = capsys.readouterr().err
        assert scenario.told in err
        _adds_up(small_round, scenario, bill)
        assert scenario.tries in (None, answers)
        assert main(["doctor", *options]) == scenario.code
        teacher = facts(capsys.readouterr().out)["teacher"]
        assert all(words in teacher[fact] for fact, words in scenario.facts.items())


def _with_student(file: Path, url: str) -> None:
    """Let the server give the baseline answers, so that no model is loaded."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["student"] = {"base_url": url, "model": "student"}
    file.write_text(json.dumps(config), encoding="utf-8")


def _adds_up(round_: SmallRound, scenario: Scenario, bill: list[int]) -> None:
    """Assert that every planned row came or has its reason, and that tokens add up."""
    folder = round_.folder / "generate"
    counts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["counts"]
    assert counts["lost"] == scenario.lost
    assert counts["taught"] == counts["planned"] - sum(scenario.lost.values())
    paid = counts["paid"].values()
    assert [sum(one[f"{way}put_tokens"] for one in paid) for way in ("in", "out")] == bill
    rows = (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(row)["answer"].startswith("Champ, squat to the chair at") for row in rows)
    drops = (folder / "drops.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(drop)["reason"] for drop in drops} >= set(scenario.lost)
