"""``persona push-dataset`` against a scripted Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands import write_manifest
from tests.scripted_hub import ScriptedHub
from workbench.records import Example, user_prompt
from workbench.store import write_records

TOKEN = "hf_verysecret4711"
MANIFEST: dict[str, Any] = {
    "counts": {
        "taught": 1,
        "planned": 2,
        "lost": {"timeout": 1},
        "requests": 3,
        "spent": 0.5,
        "currency": "USD",
    },
    "settings": {"teacher": {"base_url": "http://t/v1", "model": "big-teacher"}},
    "outputs": {
        f"{name}.jsonl": {"sha256": "0" * 64, "bytes": count, "records": count}
        for name, count in (("examples", 1), ("preferences", 0))
    },
    "versions": {"distilabel": "1.5.3"},
    "seed": 0,
    "started": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture
def push(of_round: Callable[..., list[str]], repo: Path) -> Callable[..., Any]:
    options = of_round("http://127.0.0.1:1/v1")

    def run(url: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-m", "app.cli.main", "push-dataset", "team/rows"]
        return subprocess.run(
            [*command, *options], cwd=repo, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "tester" / "round-001" / "generate"
    row = Example(prompt=user_prompt("How deep?"), answer="To the chair, champ.", topic="squat")
    write_records(folder / "examples.jsonl", [row])
    write_records(folder / "preferences.jsonl", [])
    write_manifest(folder.parent, "generate", **MANIFEST)
    return folder


def test_rows_and_card_arrive_and_the_token_is_shown_nowhere(
    push: Callable[..., Any], generated: Path, tmp_path: Path
) -> None:
    with ScriptedHub(TOKEN) as hub:
        done = push(hub.url)
    assert done.returncode == 0, done.stderr
    assert (hub.created["name"], hub.created["type"]) == ("rows", "dataset")
    assert hub.created["visibility"] == "private"
    assert hub.files.keys() == {"README.md", "examples.jsonl"}
    assert json.loads(hub.files["examples.jsonl"])["answer"] == "To the chair, champ."
    _, head, text = hub.files["README.md"].split("---\n", 2)
    assert yaml.safe_load(head)["configs"] == [
        {"config_name": "examples", "data_files": "examples.jsonl"}
    ]
    for told in ("big-teacher", "1 of 2 planned; lost: timeout 1", "0.5000 USD", "terms of\n"):
        assert told in text
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    assert not any(TOKEN.encode() in content for content in written)
    assert TOKEN not in done.stdout + done.stderr + "".join(hub.files.values())


def test_a_refusal_and_a_missing_round_are_one_line(
    push: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with ScriptedHub("another") as hub:
        nothing = push(hub.url)
        request.getfixturevalue("generated")
        refused = push(hub.url)
    assert (nothing.returncode, refused.returncode) == (2, 2)
    assert "the round has no generated rows" in nothing.stderr
    assert refused.stderr == (
        "persona: team/rows: the Hub refuses (HTTP 401) — check name and token\n"
    )
