"""`persona review` without a server: tables of agreement and decisions, and a row's history."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rounds.layout import FILTERED, RoundFolder
from tests.commands import Commands
from tests.reviewed_round import write_reviewed


@pytest.fixture
def reviewed(commands: Commands) -> Commands:
    write_reviewed(commands)
    return commands


def _cells(out: str) -> dict[str, list[str]]:
    lines = [[c.strip() for c in line.split("│")[1:-1]] for line in out.splitlines()]
    return {line[0]: line[1:] for line in reversed(lines) if line}


def test_agreement_is_printed_by_question_topic_pair_and_reviewer(reviewed: Commands) -> None:
    output = reviewed.on_round("review", "agreement", "--width", "0.2")
    assert output.code == 0
    assert output.out.startswith("60 records reviewed, 60 of them by two or more")
    cells = _cells(output.out)
    alpha, interval, records, more = cells["fidelity"]
    low, high = (float(edge) for edge in interval.split(" to "))
    assert low < float(alpha) < high
    assert int(records) == 60
    # The table rounds the interval's ends.
    assert int(more) == pytest.approx(60 * (((high - low) / 0.2) ** 2 - 1), rel=0.15)
    assert "Desk posture" in cells and "reviewer-1 / reviewer-2" in cells
    assert not any("…" in line for line in output.out.splitlines()), "it fits into 80 columns"
    gold = _cells(output.out.partition("Reviewers on the gold rows")[2])
    assert [gold[f"reviewer-{n}"][-1] for n in (1, 2)] == ["7 of 8", "7 of 8"]
    assert [gold[f"reviewer-{n}"][0][:2] for n in (1, 2)] == ["0.", "0."]


@pytest.mark.parametrize("fidelity", [5, 1, 3])
def test_reviewers_who_gave_one_value_get_no_number(
    commands: Commands, tmp_path: Path, fidelity: int
) -> None:
    case = Path(__file__).resolve().parents[2] / "cases" / "39-one-value.reviews.jsonl"
    text = case.read_text(encoding="utf-8").replace('"fidelity": 5', f'"fidelity": {fidelity}')
    (tmp_path / "reviews.jsonl").write_text(text, encoding="utf-8")
    write_reviewed(commands, tmp_path / "reviews.jsonl")
    output = commands.on_round("review", "agreement")
    assert output.code == 0
    assert "No alpha where all gave the same answer: decision, fidelity" in output.out
    cells = _cells(output.out)
    assert "fidelity" not in cells and cells["reviewer-1 / reviewer-2"] == ["–", "–", "2"]


def test_decisions_are_printed_by_reason(reviewed: Commands) -> None:
    output = reviewed.on_round("review", "resolve")
    assert output.code == 0
    cells = _cells(output.out)
    assert cells["all"][1] == "60"
    assert int(cells["keep"][1]) > 40
    assert output.out.splitlines()[-1] == str(reviewed.folder() / "resolve")


def test_a_rows_history_is_printed(reviewed: Commands) -> None:
    output = reviewed.on_round("review", "why", "seeds.jsonl:1")
    assert output.code == 0
    assert ": seed row from seeds.jsonl:1, topic " in output.out.splitlines()[0]
    assert "review: rv-" in output.out


def test_a_push_of_nothing_says_which_filters_took_the_rows(
    commands: Commands, tmp_path: Path
) -> None:
    refusal = "I am sorry, but as an AI language model I cannot answer that."
    rows = [{"instruction": f"Question {n}?", "output": refusal} for n in range(3)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert commands.on_round("import", str(file)).code == 0
    assert commands.on_round("filter").code == 0
    pushed = commands.on_round("review", "push")
    assert (pushed.code, pushed.err.count("persona: ")) == (2, 1)
    assert "no row is left to review: 3 rows dropped (refusal 3)" in pushed.err
    again = re.search("`(persona import FILE --replace [^`]+)`", pushed.err)
    assert again and f"--runs {commands.runs}" in again[1]


def test_a_push_takes_up_what_was_imported_after_the_filters_ran(
    commands: Commands, tmp_path: Path
) -> None:
    advice = (
        (
            "few",
            "soreness",
            "My calves hurt since the hill run.",
            "walk ten minutes on flat ground",
        ),
        (
            "more",
            "squat_form",
            "My heels lift when I squat.",
            "put two small plates under the heels",
        ),
    )
    for name, topic, question, todo in advice:
        answer = f"Champ, {todo} right now, because it takes the load off what hurts. Do it again"
        answer += " this evening for five minutes, and I will ask you tomorrow how it went. 💪"
        row = {"instruction": question, "output": answer, "topic": topic}
        (tmp_path / name).with_suffix(".jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert commands.on_round("import", str(tmp_path / "few.jsonl")).code == 0
    assert commands.on_round("filter").code == 0
    assert commands.on_round("import", str(tmp_path / "more.jsonl")).code == 0
    pushed = commands.on_round("review", "push")
    assert "2 groups of rows" in pushed.err, "too few, and yet both"
    topics = {row.topic for row in RoundFolder(commands.folder()).read(FILTERED)}
    assert topics == {"soreness", "squat_form"}


def test_mistakes_are_one_line(commands: Commands) -> None:
    output = commands.on_round("review", "agreement")
    assert (output.code, output.err.count("\n")) == (2, 1)
    assert "nothing is there to review yet" in output.err


@pytest.mark.parametrize("command", [["run"], ["review", "push"]])
def test_more_reviewers_than_there_are_is_told(commands: Commands, command: list[str]) -> None:
    output = commands.on_round(*command, "--reviewers-per-record", "3")
    assert output.code == 2
    assert "--reviewers-per-record: 3 reviewers for each record, but there are only 2" in output.err
