"""A data engineer's first hour: a chat's export, a night's job with faults, filters, a split.

The job asks a server of which three requests in ten fail, is killed once, goes on, stops at its
budget, and is paid for to the end. Every row and every planned answer is accounted for, and the
money adds up to what the server would have billed.
"""

from __future__ import annotations

import codecs
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from rounds.layout import GENERATE_DROPS, GENERATED, RoundFolder
from rounds.lineage.account import account
from tests.commands import Output
from tests.light_stages import PERSONA, light_stages, run_light
from tests.scripted_server import FAILURES, Reply, Request, ScriptedServer, says
from tests.waiting import PATIENCE, waited

pytestmark = pytest.mark.slow

CONCURRENCY = 4
PRICE = {"input": 150.0, "output": 600.0}
"""Of a million tokens: a thousand times a small teacher's, so that cents tell."""
PLANNED = 40
FAULTS = tuple(
    FAILURES[name]
    for name in ("server_error", "rate_limit", "connection", "malformed_reply", "empty_answer")
)
WORDS = (
    "morning evening chair stairs shoulder back knee water bread coffee desk meeting bus walk run "
    "stretch sleep pillow lunch salad apple calf ankle breath nap screen jacket rain hill bicycle "
    "friend doctor ache habit hour week plan step weight towel shoe sock floor wall door garden "
    "river breakfast dinner soup rice egg milk tea"
)
CHATS: tuple[dict[str, Any] | str, ...] = (
    {"from": "How deep should I squat?", "to": "Champ, to a chair and up again, slowly."},
    {"from": "I sleep five hours.", "to": "Champ, lights out at eleven tonight."},
    '{"conversations": [{"from": "human", "value": "cut in the mid',
    {"from": "Coffee at six?", "to": "Champ, water now, coffee before two."},
    {"from": "What is the weather?", "tool": "weather", "to": "Champ, sunny."},
    {"from": "Did nobody answer?"},
    {"from": "I sleep five hours.", "to": "Champ, lights out at eleven tonight."},
)
"""With a broken line, a tool call, a question that nobody answered, and a row that comes twice."""


def exported() -> bytes:
    """Return the export as a file of ShareGPT lines that begins with a byte order mark."""
    lines = []
    for chat in CHATS:
        if isinstance(chat, str):
            lines.append(chat)
            continue
        turns = [{"from": "human", "value": chat["from"]}]
        if tool := chat.get("tool"):
            turns += [{"from": "function_call", "value": json.dumps({"name": tool})}]
            turns += [{"from": "observation", "value": "21 degrees"}]
        turns += [{"from": "gpt", "value": chat["to"]}] if "to" in chat else []
        lines.append(json.dumps({"conversations": turns}))
    return codecs.BOM_UTF8 + "\n".join(lines).encode() + b"\n"


def in_words(request: Request, length: int, path: str = "") -> str:
    """Return English words, the same for the same question."""
    draw = random.Random(f"{request.share}{path}")
    return " ".join(draw.sample(WORDS.split(), length))


def answered(request: Request) -> Reply:
    """Return questions or an answer that no filter takes for another's."""
    if request.schema is None:
        return says(f"Champ, right now: {in_words(request, 14)}.", delay=0.05)
    filled = _filled(request, request.schema)
    return says(json.dumps(filled), delay=0.05)


def _filled(request: Request, schema: dict[str, Any], path: str = "") -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            parts = schema.get("properties", {}).items()
            return {name: _filled(request, part, f"{path}.{name}") for name, part in parts}
        case "array":
            return [_filled(request, schema["items"], f"{path}.{n}") for n in range(5)]
        case "integer" | "number":
            return schema.get("minimum", 1)
    return f"What of {in_words(request, 9, path)}?"


def faulty(request: Request) -> Reply:
    """Fail three requests in ten once, and every fourth of those for good."""
    if request.share < 0.3 and (request.time == 0 or request.share < 0.3 / 4):
        return FAULTS[int(request.share * 1e6) % len(FAULTS)]
    return answered(request)


class Billed:
    """A script that writes the bill of the endpoint beside what it replies."""

    def __init__(self, script: Callable[[Request], Reply]) -> None:
        self.script = script
        self.bill: list[tuple[int, int]] = []
        """Tokens in and out of every reply that counts any."""

    def __call__(self, request: Request) -> Reply:
        reply = self.script(request)
        if reply.status == 200 and reply.raw is None and not reply.reset:
            asked = sum(len(turn["content"].split()) for turn in request.body["messages"])
            self.bill.append((asked, len((reply.content or "").split())))
        return reply

    @property
    def money(self) -> float:
        return sum(i * PRICE["input"] + o * PRICE["output"] for i, o in self.bill) / 1e6


class Night:
    """The engineer's folder, and its commands."""

    def __init__(self, home: Path, url: str, model: Path) -> None:
        self.home = home
        (home / "light").mkdir()
        (home / "light" / "persona.yaml").write_text(PERSONA, encoding="utf-8")
        (home / "export.jsonl").write_bytes(exported())
        teacher = {
            "base_url": url,
            "model": "m",
            "price": PRICE,
            "concurrency": CONCURRENCY,
            "backoff": 0,
            "attempts": 2,
        }
        config = {
            "persona": str(home / "light"),
            "model": str(model),
            "teacher": teacher,
            "generate": {"per_topic": PLANNED // 4, "max_new_tokens": 40},
        }
        (home / "run.yaml").write_text(json.dumps(config), encoding="utf-8")

    @property
    def round(self) -> RoundFolder:
        return RoundFolder(self.home / "runs" / "light" / "round-001")

    @property
    def about(self) -> tuple[str, ...]:
        return ("--config", str(self.home / "run.yaml"), "--runs", str(self.home / "runs"))

    def persona(self, *words: str, code: int = 0) -> Output:
        output = run_light(*words, *self.about)
        assert output.code == code, output.err
        return output

    def killed(self, server: ScriptedServer, requests: int, *words: str) -> None:
        """Start a command as a process, and kill it with all its own at so many requests."""
        command = [sys.executable, "-m", "app.cli.main", *words, *self.about]
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        waited(lambda: len(server.requests) >= requests, unless=lambda: process.poll() is not None)
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
        waited(lambda: not server.at_once)

    def spent(self) -> float:
        """Return the money that the round says was paid, over every run."""
        manifest = self.round.manifest("generate")
        assert manifest is not None
        return float(manifest.counts["spent"])


def planned(output: Output) -> dict[str, int]:
    """Return what became of the planned answers, by the line that says so."""
    (line,) = re.findall(rf"{PLANNED} rows planned = (.*)", output.err)
    parts = re.sub(r" \(.*?\)", "", line).split(" + ")
    return {part.split(" ", 1)[1]: int(part.split(" ")[0]) for part in parts}


def test_a_nights_job_accounts_for_every_row_and_the_money_adds_up(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light_stages(monkeypatch)
    script = Billed(faulty)
    with ScriptedServer(script) as server:
        night = Night(tmp_path, server.url, tiny_model)
        export = str(tmp_path / "export.jsonl")
        looked = night.persona("import", "--dry-run", export, code=2)
        assert [n for n in (3, 5, 6) if f"export.jsonl:{n}: " not in looked.err] == []
        assert looked.err.splitlines()[-1].endswith("pass it over with --skip-bad")
        assert not (tmp_path / "runs").exists()
        night.persona("import", export, "--skip-bad")
        reasons = Counter(one.why for one in account(night.round).fates if one.state == "dropped")
        assert reasons == {"broken_json": 1, "tool_call": 1, "unanswered": 1, "exact_duplicate": 1}

        server.script = answered
        assert "answers        │ yes" in night.persona("doctor").out
        plan = night.persona("generate", "--plan").out
        assert plan.startswith(f"{PLANNED} rows over 4 topics")
        low, high = map(float, re.findall(r"cost: ([\d.]+) to ([\d.]+) USD", plan)[0])

        server.script, asked = script, len(server.requests)
        night.killed(server, asked + 12, "generate")
        budget = round(script.money + high / 12, 3)
        short = night.persona("generate", "--budget", str(budget), code=3)
        assert "stopped at the budget" in short.err
        assert sum(planned(short).values()) == PLANNED
        assert script.money <= budget
        full = night.persona("generate", "--force", "--budget", str(2 * high), "--min-share", "0.8")
    ends = planned(full)
    assert sum(ends.values()) == PLANNED
    assert 0.8 * PLANNED <= ends["answered"] < PLANNED, "some requests fail for good"
    assert len(night.round.read(GENERATED)) == ends["answered"]
    unmade = [one for one in night.round.read(GENERATE_DROPS) if one.record.startswith("qu-")]
    lost = Counter(one.reason for one in unmade if one.reason != "surplus_question")
    assert lost.total() == ends["failed"] and lost.keys() <= set(FAILURES)
    # What was under way at the kill was billed, and nobody was left to count it.
    unseen = CONCURRENCY * max(i * PRICE["input"] + o * PRICE["output"] for i, o in script.bill)
    assert 0 <= script.money - night.spent() <= unseen / 1e6 + 1e-4
    assert low <= night.spent() <= high

    night.persona("filter")
    night.persona("run", "--until", "split")
    fates = account(night.round).fates
    assert len(fates) == len(CHATS) + ends["answered"]
    assert {one.state for one in fates} == {"kept", "held_out", "dropped"}
    assert all(one.why for one in fates)
