"""A round's logs for Inspect hold what the round holds, in the shape that Inspect reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Commands
from workbench.errors import UserError
from workbench.records import Example, Message, Response, Score, user_prompt
from workbench.stats import compare
from workbench.store import write_json

VERSION = 2
"""Of the log format that inspect-ai 0.3.285 reads; these files were opened with it."""


@pytest.fixture
def logs(commands: Commands) -> dict[str, dict[str, Any]]:
    """Two arms, two held-out questions with two seeds, one turn of a conversation; by arm."""
    rows = [Example(prompt=user_prompt(f"Question {n}?"), answer=f"Answer {n}.") for n in range(2)]
    talk = [
        Message(role="user", content="Hi."),
        Message(role="assistant", content="Yes?"),
        Message(role="user", content="And now?"),
    ]
    responses, scores = [], []
    for arm in ("base", "sft+dpo"):
        own = [
            Response(
                arm=arm,
                prompt_id=row.id,
                prompt=row.prompt,
                text=f"{arm} says {seed}",
                tokens=8 if seed == 2 else 3,
                seed=seed,
            )
            for row in rows
            for seed in (1, 2)
        ]
        own.append(
            Response(
                arm=arm,
                prompt_id="ex-talk",
                prompt=talk,
                text="",
                probe="drift",
                turn=2,
                seed=1,
                unanswered="content_filter",
            )
        )
        responses += own
        for one in own:
            about: dict[str, Any] = {"arm": arm, "prompt_id": one.prompt_id, "response": one.id}
            about |= {"probe": one.probe, "turn": one.turn}
            value = float(arm != "base") / one.seed
            scores.append(Score(**about, metric="kind", unscored="judge_timeout"))
            scores.append(Score(**about, metric="fidelity", value=value))
    commands.put("evaluate/responses.jsonl", responses)
    commands.put("evaluate/scores.jsonl", scores)
    commands.put("split/test.jsonl", rows)
    commands.put("split/probes.jsonl", [])
    comparison = compare(scores, responses=responses, resamples=200)
    write_json(
        commands.folder() / "evaluate" / "comparison.json", comparison.model_dump(mode="json")
    )
    commands.finished("evaluate", counts={"max_new_tokens": 8})
    output = commands.on_round("export", "inspect")
    assert output.code == 0, output.err
    paths = [Path(line) for line in output.out.split()]
    read = [json.loads(path.read_text("utf-8")) for path in paths]
    return {log["eval"]["model"].removeprefix("persona/"): log for log in read}


def test_an_arm_is_a_log_and_an_answer_a_sample(logs: dict[str, dict[str, Any]]) -> None:
    log = logs["sft+dpo"]
    assert (log["version"], log["status"], len(log["samples"])) == (VERSION, "success", 5)
    assert log["eval"]["config"] == {"epochs": 2}
    assert log["eval"]["dataset"]["samples"] == 3
    assert log["eval"]["metadata"]["primary"] == "fidelity"
    assert log["eval"]["metadata"]["differences_to_base"]["fidelity"]["mean"] == 0.75
    first = log["results"]["scores"][0]
    assert (first["name"], first["metrics"]["mean"]["value"]) == ("fidelity", 0.75)
    assert (first["scored_samples"], first["unscored_samples"]) == (4, 0)


def test_a_sample_holds_conversation_answer_target_and_scores(
    logs: dict[str, dict[str, Any]],
) -> None:
    one, other, *_, turn = logs["sft+dpo"]["samples"]
    assert one["id"] == other["id"] and (one["epoch"], other["epoch"]) == (1, 2)
    assert one["id"].startswith("held-out/ex-")
    assert one["target"] == "Answer 0."
    assert [message["role"] for message in one["messages"]] == ["user", "assistant"]
    assert one["output"]["choices"][0]["message"]["content"] == "sft+dpo says 1"
    assert one["output"]["choices"][0]["stop_reason"] == "stop"
    assert other["output"]["choices"][0]["stop_reason"] == "max_tokens"  # cut at 8 tokens
    assert one["scores"] == {"fidelity": {"value": 1.0, "answer": "sft+dpo says 1"}}
    assert one["metadata"]["unscored"] == {"kind": "judge_timeout"}
    assert turn["id"] == "drift/ex-talk/2"
    assert [message["content"] for message in turn["input"]] == ["Hi.", "Yes?", "And now?"]
    assert turn["output"]["choices"][0]["stop_reason"] == "content_filter"


def test_logs_are_written_anew_and_nothing_else_is_replaced(
    logs: dict[str, dict[str, object]], commands: Commands
) -> None:
    folder = commands.folder() / "inspect"
    before = {path.name for path in folder.iterdir()}
    assert len(before) == len(logs)
    assert all(name.startswith("20") and name.count("_") == 2 for name in before)
    assert commands.on_round("export", "inspect").code == 0
    assert {path.name for path in folder.iterdir()} == before
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    refused = commands.on_round("export", "inspect")
    assert (refused.code, refused.out) == (2, "")
    assert "holds something else than logs — name a folder that is new" in refused.err
    assert (folder / "notes.txt").exists()


def test_a_round_without_an_evaluation_has_no_logs(commands: Commands) -> None:
    from rounds.inspect_logs import write_inspect_logs

    with pytest.raises(UserError, match="round-001 is not evaluated — persona evaluate"):
        write_inspect_logs(commands.context())
    assert not commands.folder().exists()
