"""``persona generate`` against servers as they are: they think aloud, filter, limit and refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_server import Batches, Reply, Request, ScriptedServer, conforms, fails

FORMS: dict[str, dict[str, Any]] = {
    "closed": {"content": "<think>\nChamp has to stand there.\n</think>\n\n{answer}"},
    "not opened": {"content": "Plan: champ.\n</think>\n\n{answer}"},
    "field": {"content": "{answer}", "reasoning_content": "Plan."},
    "other field": {"content": "{answer}", "reasoning": "Plan."},
    "parts": {
        "content": [
            {"type": "thinking", "thinking": [{"type": "text", "text": "Plan."}]},
            {"type": "text", "text": "{answer}"},
        ]
    },
    "harmony": {
        "content": "<|channel|>analysis<|message|>Plan.<|end|><|start|>assistant"
        "<|channel|>final<|message|>{answer}<|return|>"
    },
    "bare channels": {"content": "analysisPlan it.assistantfinal{answer}"},
    "never ended": {"content": "<think>\nOn and on"},
}


def message(form: dict[str, object], answer: str) -> Reply:
    """Return a reply whose message thinks in some form."""
    text = json.dumps(form).replace("{answer}", json.dumps(answer)[1:-1])
    choice = {"index": 0, "message": json.loads(text), "finish_reason": "stop"}
    usage = {"prompt_tokens": 50, "completion_tokens": 60, "total_tokens": 110}
    return Reply(raw=json.dumps({"choices": [choice], "usage": usage}).encode())


def records(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    file = tmp_path / "runs" / "tester" / "round-001" / "generate" / name
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_reasoning_is_taken_off_in_every_form_and_a_filtered_topic_costs_its_own_rows_alone(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forms = list(FORMS)
    used: dict[str, str] = {}

    def script(request: Request) -> Reply:
        if request.system:
            form = used.setdefault(request.prompt, forms[len(used) % len(forms)])
            return message(FORMS[form], f"Champ, do it: {request.share}")
        if "Topic: Sleep and rest" in request.prompt:
            return fails(400, code="content_filter", param="prompt")
        draft = 'I could ask {"questions": ["A draft?", "Another draft?"]} or better:'
        return message(
            {"content": f"<think>{draft}</think>{{answer}}".replace('"', "'")},
            str(conforms(request).content),
        )

    with ScriptedServer(script) as server:
        price = {"input": 1000, "output": 2000}
        assert run("import", url=server.url) == 0
        # Half of the rows are planned for the topic that is filtered.
        code = run("generate", url=server.url, per_topic=16, price=price)
        made = [request for request in server.requests if request.schema or request.system]
    assert code == 3
    err = capsys.readouterr().err
    rows, drops = records(tmp_path, "examples.jsonl"), records(tmp_path, "drops.jsonl")
    assert {row["topic"] for row in rows} == {"squat"}
    answered = [form for form in used.values() if form != "never ended"]
    assert len(rows) == len(answered) == 14 and len(used) == 16
    assert all(re.fullmatch(r"Champ, do it: [\d.e-]+", row["answer"]) for row in rows)
    assert "draft" not in json.dumps(rows)
    cut = [drop for drop in drops if drop["reason"] == "cut_off"]
    assert len(cut) == 2 and "reasoning alone; raise the endpoint's max_tokens" in cut[0]["detail"]
    filtered = [drop for drop in drops if drop["reason"] == "content_filter"]
    assert filtered and all(drop["record"].startswith("questions:sleep") for drop in filtered)
    # A filtered prompt teaches nothing about fields, and nothing is asked for twice in vain.
    assert all(request.schema for request in made if not request.system)
    assert "does not take" not in err
    assert re.search(r"reasoning taken off \d+ of \d+ replies", err)


def test_what_is_refused_is_told_once_and_a_cut_off_answer_is_asked_for_once(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(request: Request) -> Reply:
        if "seed" in request.body:
            detail = [{"loc": ["body", "seed"], "msg": "지원하지 않는 필드", "type": "extra"}]
            return Reply(status=422, raw=json.dumps({"detail": detail}).encode())
        if request.system:
            empty = {"content": None, "reasoning_content": "Hm, let me think ..."}
            choice = {"message": empty, "finish_reason": "length"}
            usage = {"prompt_tokens": 50, "completion_tokens": 200}
            return Reply(raw=json.dumps({"choices": [choice], "usage": usage}).encode())
        return conforms(request)

    with ScriptedServer(script) as server:
        assert run("import", url=server.url) == 0
        assert run("generate", url=server.url, per_topic=1, max_tokens=200) == 3
        bodies = [request.body for request in server.requests if request.system]
    # One refused try and one answer each at most, since they start together.
    assert len([body for body in bodies if "seed" not in body]) == 2
    assert {body["max_tokens"] for body in bodies} == {200}
    err = capsys.readouterr().err
    assert err.count("does not take 'seed'") == 1
    drops = [drop for drop in records(tmp_path, "drops.jsonl") if drop["reason"] == "cut_off"]
    assert len(drops) == 2 and "after 200 tokens of reasoning alone" in drops[0]["detail"]


def test_a_teacher_in_batches_gives_the_same_account_at_half_the_price(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(conforms) as server:
        batches = Batches(server)
        price = {"input": 1000, "output": 2000}
        assert run("import", url=server.url) == 0
        assert run("generate", url=server.url, per_topic=2, price=price, batch=True) == 0
        asked = [request.body for request in server.requests]
    err = capsys.readouterr().err
    manifest = tmp_path / "runs" / "tester" / "round-001" / "generate" / "manifest.json"
    counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
    tokens = [counts["paid"][step] for step in ("questions", "answers")]
    full = sum(t["input_tokens"] * 1000 + t["output_tokens"] * 2000 for t in tokens) / 1e6
    assert counts["spent"] == pytest.approx(full / 2, abs=1e-5)
    words = sum(len(turn["content"].split()) for body in asked for turn in body["messages"])
    assert sum(t["input_tokens"] for t in tokens) == words
    assert (counts["taught"], counts["share"], len(batches.made)) == (4, 1.0, 2)
    assert "batch batch-1: 4 requests sent" in err and "batch batch-1: completed, 4 replies" in err


def test_thinking_in_rows_that_are_imported_is_taken_off_and_told(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "My knees hurt.", "output": "<think>\nPlan.\n</think>\n\nChamp, rest."},
        {"instruction": "Too tired.", "output": "Plan.\n</think>\nChamp, sleep."},
        {"instruction": "Which shoes?", "output": "<think>\nI never stop"},
        {"instruction": "Tags?", "output": "Champ, `<think>` is a mark and `</think>` its end."},
        {
            "messages": [
                {"role": "user", "content": "Hi."},
                {"role": "assistant", "content": "<think>x</think>Champ!"},
                {"role": "user", "content": "And now?"},
                {"role": "assistant", "reasoning_content": "y", "content": "Squat, champ."},
            ]
        },
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run("import", str(file), "--skip-bad", url="http://127.0.0.1:9/v1") == 0
    folder = tmp_path / "runs" / "tester" / "round-001" / "import"
    lines = (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [json.loads(line) for line in lines]
    assert [row["answer"] for row in kept] == [
        "Champ, rest.",
        "Champ, sleep.",
        rows[3]["output"],
        "Squat, champ.",
    ]
    assert kept[3]["prompt"][1]["content"] == "Champ!"
    (drop,) = [json.loads(line) for line in (folder / "drops.jsonl").open(encoding="utf-8")]
    assert (drop["reason"], drop["source"]) == ("cut_off", "rows.jsonl:3")
    assert "reasoning taken off 3 rows" in capsys.readouterr().err
