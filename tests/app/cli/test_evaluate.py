"""`persona evaluate`: what it prints, its exit codes, and an arm that is named wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from app.cli.main import main
from tests.rounds.test_evaluate import (
    cached,
    copied,  # noqa: F401 — a fixture
    evaluated,  # noqa: F401 — a fixture
)
from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from workbench.records import Response, Score
from workbench.store import read_json, read_records


@pytest.fixture
def options(
    evaluated: tuple[Path, Path],  # noqa: F811
    copied: Path,  # noqa: F811
) -> list[str]:
    return ["--config", str(evaluated[1]), "--runs", str(copied.parent.parent)]


def _errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    assert "Traceback" not in "".join(lines)
    return [line.removeprefix("persona: ") for line in lines if line.startswith("persona: ")]


def test_what_is_done_is_its_folder(
    options: list[str],
    copied: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", *options]) == 0
    assert capsys.readouterr().out == f"{copied / 'evaluate'}\n"


def test_an_evaluation_that_fails_is_whole_and_exit_code_3(
    options: list[str],
    copied: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = json.loads(Path(options[1]).read_text("utf-8"))
    settings["evaluate"]["gate"] = {"cross_entropy": 0.0}
    config = tmp_path / "strict.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    assert main(["evaluate", "--config", str(config), *options[2:]]) == 3
    assert any(
        line.startswith("evaluation failed: sft: cross-entropy +") for line in _errors(capsys)
    )
    assert (copied / "evaluate" / "manifest.json").exists()


def test_an_arm_that_names_nothing_is_one_line(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--arm", "first", *options]) == 2
    assert _errors(capsys) == [
        "--arm: 'first' does not name a new arm — such as --arm first=round-001/sft"
    ]


def _spoken(content: object, finish: str = "stop", **fields: object) -> Reply:
    said = {"content": content, **fields}
    usage = {"prompt_tokens": 50, "completion_tokens": 60}
    choice = {"message": said, "finish_reason": finish}
    return Reply(raw=json.dumps({"choices": [choice], "usage": usage}).encode())


def _arm(request: Request) -> Reply:
    """Reply as the arm does by whose name the model goes."""
    bare = "There are several ways to begin."
    filtered = fails(400, code="content_filter") if request.share < 0.4 else says(bare)
    refused = fails(400, code="unsupported_parameter", param="max_tokens")
    return {
        "aloud": _spoken(f"<think>\nI say champ, right now, because.\n</think>\n\n{bare}"),
        "unended": _spoken("<think>\nI say champ, right now, because."),
        "silent": _spoken(""),
        "null": _spoken(None, "length", reasoning_content="Champ, right now."),
        "filtered": filtered,
        "strict": refused if "max_tokens" in request.body else says(bare),
    }[request.body["model"]]


def test_what_served_arms_think_leave_out_or_refuse_is_no_answer(
    options: list[str],
    copied: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = json.loads(Path(options[1]).read_text("utf-8"))
    names = ("aloud", "unended", "silent", "null", "filtered", "strict")
    with ScriptedServer(_arm) as server:
        arms = {name: {"base_url": server.url, "model": name, "backoff": 0} for name in names}
        settings["evaluate"] |= {"more": arms, "arms": ["base"], "robustness": "off"}
        config = tmp_path / "served.yaml"
        config.write_text(json.dumps(settings), encoding="utf-8")
        assert main(["evaluate", "--config", str(config), *options[2:]]) in (0, 3)
    err = capsys.readouterr().err
    assert "arm 'aloud': reasoning taken off" in err
    assert err.count("does not take 'max_tokens'") == 1
    texts: dict[str, set[str]] = {}
    lost: dict[str, set[str]] = {}
    for one in read_records(copied / "evaluate" / "responses.jsonl", Response):
        texts.setdefault(one.arm, set()).add(one.text)
        lost.setdefault(one.arm, set()).add(one.unanswered)
    bare = "There are several ways to begin."
    assert texts["aloud"] == texts["strict"] == {bare}
    assert texts["filtered"] == {"", bare} and lost["filtered"] == {"", "content_filter"}
    assert texts["unended"] == texts["silent"] == texts["null"] == {""}
    scores = list(read_records(copied / "evaluate" / "scores.jsonl", Score))
    means = {
        arm: [one.value for one in scores if one.arm == arm and one.metric == "fidelity"]
        for arm in names
    }
    marked = {arm: {one for one in values if one} for arm, values in means.items()}
    # An answer that is none earns no mark, and what was thought earns none either.
    assert not marked["unended"] | marked["silent"] | marked["null"]
    assert max(marked["aloud"]) < 0.5
    safe = [one for one in scores if one.metric == "safe" and one.arm in ("silent", "null")]
    assert not any(one.value for one in safe)


def test_another_template_is_another_evaluation_and_takes_no_answer_out_of_the_cache(
    options: list[str],
    copied: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = json.loads(Path(options[1]).read_text("utf-8"))
    base = tmp_path / "base"
    shutil.copytree(settings["model"], base)
    config = tmp_path / "other.yaml"
    config.write_text(json.dumps(settings | {"model": str(base)}), encoding="utf-8")
    command = ["evaluate", "--config", str(config), *options[2:]]
    assert main(command) == 0 and main(command) == 0
    assert _errors(capsys) == []
    before = cached(copied)
    template = base / "chat_template.jinja"
    template.write_text(template.read_text().replace("'\n' + m", "': ' + m"), encoding="utf-8")
    assert main(command) == 0
    assert "evaluate is done again: changed: base" in capsys.readouterr().err
    new = cached(copied).keys() - before.keys()
    # None of the many answers of before is taken.
    assert len(new) == len(before) > 50
    manifest = read_json(copied / "evaluate" / "manifest.json")
    assert len(manifest["settings"]["base"]) == 64 and "transformers" in manifest["versions"]

    # What is done stays done where the base is gone.
    shutil.rmtree(base)
    assert main(command) == 0
    assert "already done" in capsys.readouterr().err
