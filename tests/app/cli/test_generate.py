"""``persona generate`` against a scripted teacher: its plan, its account, its exit codes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from generation.prompts import prompt_versions
from tests.scripted_server import FAILURES, Reply, Request, ScriptedServer, conforms, fails
from workbench.persona import load_persona


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
    assert lines[4] == "baseline answers: 2 of the imported rows, and one for each new row"
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
        # The whole loop passes the same exit code on.
        assert run("run", "--until", "generate", url=server.url, price=price) == 3
        assert "60.0% of the planned rows came, 90.0% are asked for" in capsys.readouterr().err
        assert len(server.requests) == made
        server.script = conforms
        assert run("generate", "--force", url=server.url, price=price) == 0
        asked_again = {request.prompt for request in server.requests[made:]}
        capsys.readouterr()
        assert run("watch", "--rows", "--once", url=server.url, price=price) == 0
        shown = capsys.readouterr().out
    assert asked_again == refused
    assert "rows: 10: ordinary 10 (100%)" in shown and "\n  = Answer to: " in shown
    assert "10 rows planned = 6 answered + 4 failed (server_error 4)" in said
    assert "answers: 14 requests (10 planned)" in said
    assert "60.0% of the planned rows came, 70.0% are asked for" in said
    # Without a terminal, progress is lines: rows done, time left, rate, and the cost so far.
    progress = r"the teacher answers: 10/10 \(\d+ s\) [\d.]+/s, cost 0\.\d+ USD, 4 failed"
    assert re.search(progress, said)
    counts = counts_of(tmp_path)
    assert (counts["share"], counts["taught"]) == (1.0, 10)
    rows = tmp_path / "runs" / "tester" / "round-001" / "generate"
    file, cache = str(rows / "examples.jsonl"), str(tmp_path / "cache")
    assert load_dataset("json", data_files=file, cache_dir=cache)["train"].num_rows == 10
    card = (rows / "README.md").read_text(encoding="utf-8")
    versions = {**prompt_versions(load_persona(tmp_path / "tester"))}
    assert {"system", "questions", "judge", "hard_negative", "follow_up"} <= versions.keys()
    for told in ("| Teacher | m |", "10 of 10 planned; lost: none", f"{counts['spent']:.4f} USD"):
        assert told in card
    assert ", ".join(f"{name} `{hash_}`" for name, hash_ in versions.items()) in card
    assert counts["paid"]["answers"]["attempts"] == 14 + 4
    tokens = [counts["paid"][step] for step in ("questions", "answers")]
    spent = sum(t["input_tokens"] * 1000 + t["output_tokens"] * 2000 for t in tokens) / 1e6
    assert counts["spent"] == pytest.approx(spent, abs=1e-5)


def test_against_a_server_that_fails_in_every_way_the_told_counts_add_up(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = sorted(FAILURES)

    def script(request: Request) -> Reply:
        failing = request.share < 0.3
        return FAILURES[kinds[int(request.share / 0.3 * 8)]] if failing else conforms(request)

    with ScriptedServer(script) as server:
        about: dict[str, Any] = {"url": server.url, "per_topic": 60, "timeout": 2}
        assert run("import", **about) == 0
        assert run("generate", **about, concurrency=32) == 3
    said = capsys.readouterr().err
    (line,) = re.findall(r"120 rows planned = (.*)", said)
    told = {part.split(" ")[1]: int(part.split(" ")[0]) for part in line.split(" + ")}
    assert sum(told.values()) == 120
    assert told.keys() >= {"answered", "failed", "filtered"}
    folder = tmp_path / "runs" / "tester" / "round-001" / "generate"
    examples = (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    drops = [json.loads(row) for row in (folder / "drops.jsonl").read_text().splitlines()]
    # A question that was asked for in vain is lost as well: one drop for each request.
    lost = Counter(d["reason"] for d in drops if d["record"].startswith("qu-"))
    unasked = {d["reason"] for d in drops if d["record"].startswith("questions:")}
    counts = counts_of(tmp_path)
    rows = Counter(counts["lost"])
    assert all(rows[k] == lost[k] or (rows[k] > lost[k] and k in unasked) for k in rows | lost)
    assert len(examples) == told["answered"] == counts["taught"]
    assert sum(rows.values()) == told["failed"] + told["filtered"]
    named = re.findall(r"(\w+) (\d+)", " ".join(re.findall(r"\((.*?)\)", line)))
    assert {kind: int(count) for kind, count in named if kind in rows} == rows
    # Every way is met, by a row or by a request for questions.
    met = {**counts["failed"], **counts["filtered"]}
    assert set(met) == set(kinds) - {"wrong_body"}
    assert all(json.loads(row)["answer"] for row in examples)
