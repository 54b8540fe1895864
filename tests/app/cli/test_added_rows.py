"""A second round with rows of one's own: they wait for people, are trained on, and are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rounds.layout import RoundFolder
from rounds.lineage.account import account
from tests.app.cli.test_any_order import QUESTIONS
from tests.light_stages import PERSONA, light_stages, run_light


def test_rows_added_to_a_second_round_reach_a_split_and_compare_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    light_stages(monkeypatch)
    persona, runs = tmp_path / "light", tmp_path / "runs"
    persona.mkdir()
    (persona / "persona.yaml").write_text(PERSONA, encoding="utf-8")
    config = tmp_path / "run.yaml"
    methods = "train: {methods: [sft]}\nevaluate: {arms: [base, sft]}\n"
    config.write_text(f"persona: {persona}\n{methods}", encoding="utf-8")
    files = (tmp_path / "mine.jsonl", tmp_path / "more.jsonl")
    for file, questions in zip(files, QUESTIONS, strict=True):
        rows = [
            {"instruction": ask, "output": f"Champ, today: {ask.lower()}", "topic": topic}
            for topic, asked in questions.items()
            for ask in asked
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    about = ("--config", str(config), "--runs", str(runs))
    steps = (
        ("import", str(files[0])),
        ("run",),
        ("next", "--quick"),
        ("import", str(files[1]), "--round", "2"),
        ("run", "--round", "2"),
    )
    for words in steps:
        output = run_light(*words, *about)
        assert output.code == 0, output.err
    second = account(RoundFolder(runs / "light" / "round-002"))
    examples = [fate for fate in second.fates if fate.record.startswith("ex-")]
    assert len(examples) == 16, "those of the first round and the added ones, beside its pairs"
    assert {fate.state for fate in second.fates} <= {"kept", "held_out", "dropped"}
    found = json.loads(run_light("compare", "1", "2", "--json", *about).out)
    assert len(found["added"]) + len(found["left_out"]) == 8
    assert len(found["added"]) >= 6
