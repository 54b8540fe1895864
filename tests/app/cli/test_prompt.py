from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.main import main
from workbench.errors import EXIT_USER_ERROR


def test_the_prompt_goes_to_standard_output_and_its_reply_can_be_imported(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["prompt", "--count", "4", "--topic", "eating", *runs]) == 0
    text = capsys.readouterr().out
    assert '- 4 on "eating" (Eating around training)' in text
    rows = [
        line
        for line in text.splitlines()
        if line.startswith('{"instruction": "') and "…" not in line
    ]
    reply = tmp_path / "reply.md"
    reply.write_text("Here you go:\n```jsonl\n" + "\n".join(rows) + "\n```\n", encoding="utf-8")
    assert main(["import", str(reply), *runs]) == 0
    assert len(rows) == 2
    assert "kept 2" in capsys.readouterr().err


def test_an_unknown_topic_is_told_with_the_nearest(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo)
    assert main(["prompt", "--topic", "eatin"]) == EXIT_USER_ERROR
    assert capsys.readouterr().err == (
        "persona: --topic: unknown topic 'eatin' — did you mean 'eating'?\n"
    )
