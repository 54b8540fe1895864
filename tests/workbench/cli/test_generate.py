"""``persona generate`` against a scripted teacher: its plan, its account, its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from workbench.cli.main import main

PERSONA = """\
id: tester
version: 1
language: en
name: Coach
role: a kind but tough gym trainer
audience: office workers who begin to train
voice:
  address: champ
  register: short and warm
  emoji: {min: 0, max: 2}
  length: {min: 3, max: 90}
structure: [names the problem, one thing to do right now]
safety: {boundary: pain goes to a doctor}
topics: [squat, sleep]
traits:
  - id: address
    name: Says champ
    about: calls the person champ
    check: {rule: matches, patterns: ['\\bchamp\\b']}
"""
SEEDS = [
    {"instruction": "My knees hurt.", "output": "Champ, stop at half depth.", "topic": "squat"},
    {"instruction": "I sleep five hours.", "output": "Champ, lights out.", "topic": "sleep"},
]


@pytest.fixture
def persona_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tester"
    folder.mkdir()
    (folder / "persona.yaml").write_text(PERSONA, encoding="utf-8")
    rows = "".join(json.dumps(row) + "\n" for row in SEEDS)
    (folder / "seeds.jsonl").write_text(rows, encoding="utf-8")
    return folder


@pytest.fixture
def run(persona_folder: Path, tmp_path: Path, tiny_model: Path) -> Callable[..., int]:
    """Run a command of the round, with the scripted server at ``url`` as its teacher."""

    def run(*arguments: str, url: str, **teacher: Any) -> int:
        fields = {"base_url": url, "model": "m", "backoff": 0, "attempts": 2, **teacher}
        config = {
            "persona": str(persona_folder),
            "model": str(tiny_model),
            "teacher": fields,
            "generate": {"per_topic": 5, "max_new_tokens": 8, "mix": {}, "near_misses": 0},
        }
        file = tmp_path / "run.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")
        runs = str(tmp_path / "runs")
        return int(main([*arguments, "--config", str(file), "--runs", runs]))

    return run


def counts_of(tmp_path: Path) -> dict[str, Any]:
    manifest = tmp_path / "runs" / "tester" / "round-001" / "generate" / "manifest.json"
    counts: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
    return counts


def test_the_plan_is_printed_and_nothing_is_asked(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer() as server:
        price = {"input": 10, "output": 20}
        code = run("generate", "--plan", "--budget", "0", url=server.url, price=price)
        assert (code, server.requests) == (0, [])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10 rows over 2 topics"
    assert re.fullmatch(r"questions: 2 to 6 requests, [\d,]+ to [\d,]+ tokens in, .* out", lines[1])
    assert lines[2].startswith("answers: 10 requests, ")
    low, high = map(float, re.findall(r"\d+\.\d\d", lines[3]))
    assert 0 < low < high
    assert lines[4] == "bare answers: 2 of the imported rows, and one for each new row"
    assert lines[5].startswith("the budget of 0.00 may not be enough")
    assert not (tmp_path / "runs").exists()


def test_every_row_is_accounted_for_and_too_few_rows_are_exit_code_3(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused: set[str] = set()

    def script(request: Request) -> Reply:
        if request.system and (len(refused) < 4 or request.prompt in refused):
            refused.add(request.prompt)
            return fails(500)
        return conforms(request)

    with ScriptedServer(script) as server:
        price = {"input": 1000, "output": 2000}
        assert run("import", url=server.url) == 0
        code = run("generate", "--min-share", "0.7", url=server.url, price=price)
        said = capsys.readouterr().err
        made = len(server.requests)
        assert code == 3
        # With what came, a lower bound is met; done is done, and nothing is asked anew.
        assert run("generate", "--min-share", "0.6", url=server.url, price=price) == 0
        assert len(server.requests) == made
        server.script = conforms
        assert run("generate", "--force", url=server.url, price=price) == 0
        asked_again = {request.prompt for request in server.requests[made:]}
    assert asked_again == refused
    assert "10 rows planned = 6 answered + 4 failed (server_error 4)" in said
    assert "answers: 14 requests (10 planned)" in said
    assert "60.0% of the planned rows came, 70.0% are asked for" in said
    assert "cost" in said and "USD" in said
    counts = counts_of(tmp_path)
    assert (counts["share"], counts["taught"]) == (1.0, 10)
    assert counts["paid"]["answers"]["attempts"] == 14 + 4
    tokens = [counts["paid"][step] for step in ("questions", "answers")]
    spent = sum(t["input_tokens"] * 1000 + t["output_tokens"] * 2000 for t in tokens) / 1e6
    assert counts["spent"] == pytest.approx(spent, abs=1e-5)
