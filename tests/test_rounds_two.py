"""Two rounds on the embedded model: the second is planned from the first, taught, and goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from rounds.layout import MANIFEST
from tests.loop_round import KILLS, Loop
from tests.second_round import ROWS, Second
from workbench.records import Decision, Drop, Example, Response
from workbench.store import read_records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2700 if KILLS < 20 else 7200)]


@pytest.fixture(scope="module")
def second(loop: Loop, repo: Path) -> Second:
    """The first round, and the second one on top of it."""
    second = Second(repo, loop.runs)
    second.planned = second.run()
    return second


def _manifest(second: Second, stage: str) -> dict[str, Any]:
    path = second.folder / stage / MANIFEST
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _rows(folder: Path, name: str) -> dict[str, Example]:
    return {row.id: row for row in read_records(folder / name, Example)}


def test_it_is_planned_from_the_first_rounds_report(second: Second) -> None:
    config = yaml.safe_load(second.config.read_text(encoding="utf-8"))
    assert config["sources"] == ["round-001"]
    asked = {ask["topic"]: ask["count"] for ask in config["generate"]["plan"]}
    assert sum(asked.values()) == ROWS
    first = _rows(second.first, "split/train.jsonl").values()
    assert set(asked) <= {row.topic for row in first}  # other topics' rows would be held out
    assert f"{ROWS} new rows, asked of the teacher" in second.planned


def test_it_takes_the_kept_rows_over_and_adds_the_teachers(second: Second) -> None:
    kept = _rows(second.first, "resolve/examples.jsonl")
    taught = _rows(second.folder, "generate/examples.jsonl")
    now = _rows(second.folder, "resolve/examples.jsonl")
    assert kept.keys() <= now.keys()
    added = now.keys() - kept.keys()
    assert added and added <= taught.keys()
    review = _manifest(second, "review")["counts"]
    filtered = _rows(second.folder, "filter/examples.jsonl")
    assert review["carry_over"] == len(kept)
    assert review["reviews"] == 2 * (len(filtered) - len(kept))
    decided = [
        {one.record: one.id for one in read_records(folder / "resolve/decisions.jsonl", Decision)}
        for folder in (second.first, second.folder)
    ]
    carried = [record for record, one in decided[0].items() if decided[1].get(record) == one]
    assert len(carried) == len(kept)


def test_it_goes_on_from_the_first_adapter_and_hears_a_share_of_its_rows_again(
    second: Second,
) -> None:
    manifest = _manifest(second, "sft")
    assert "round-001/sft/adapter" in manifest["inputs"]
    counts = manifest["counts"]
    before = _rows(second.first, "split/train.jsonl")
    trained = _rows(second.folder, "sft/trained.jsonl")
    assert counts["start"] == "round-001/sft"
    assert counts["replayed"] == len(trained.keys() & before.keys())
    assert counts["replayed"] == math.ceil(0.34 * counts["earlier"])
    new = _rows(second.folder, "split/train.jsonl").keys() - before.keys()
    assert trained.keys() - before.keys() == new and new
    first = json.loads((second.first / "sft" / "summary.json").read_text(encoding="utf-8"))
    assert counts["loss_first"] < first["loss_first"]  # what was learned is still there


def test_compare_shows_the_paired_difference(second: Second) -> None:
    found = json.loads(second.read("compare", "1", "2", "--json"))
    # What a split dropped, since it would join two splits, was added to nothing.
    drops = read_records(second.folder / "split/drops.jsonl", Drop)
    now = _rows(second.folder, "resolve/examples.jsonl")
    added = (
        now.keys()
        - {drop.record for drop in drops}
        - _rows(second.first, "resolve/examples.jsonl").keys()
    )
    assert added, "rows that were added"
    assert set(found["added"]) == added
    assert (found["dropped"], found["relabelled"], found["moved"]) == ({}, [], [])
    assert found["recipes"]["sft"]["rounds.start"] == [None, "last"]
    (score,) = (s for s in found["scores"] if (s["arm"], s["metric"]) == ("sft", "fidelity"))
    assert score["pairs"] == 4
    assert score["low"] <= score["mean"] <= score["high"]
    told = second.read("compare", "1", "2")
    assert "fidelity: round-002 minus round-001" in told


def test_no_held_out_row_of_either_round_is_trained_on_in_the_other(second: Second) -> None:
    said = second.read("split", "--check", "--round", "2")
    assert said.startswith("no leak: ") and "round-001, round-002" in said
    for held, learned in ((second.first, second.folder), (second.folder, second.first)):
        out = _rows(held, "split/test.jsonl")
        assert out.keys().isdisjoint(_rows(learned, "split/train.jsonl"))
    asked = read_records(second.first / "evaluate/responses.jsonl", Response)
    prompts = {response.prompt for response in asked}
    trained = {row.prompt for row in _rows(second.folder, "sft/trained.jsonl").values()}
    assert prompts.isdisjoint(trained)


def test_a_row_is_traced_over_both_rounds_and_through_the_adapter_it_started_from(
    second: Second,
) -> None:
    trained = _rows(second.folder, "sft/trained.jsonl")
    new = next(one for one in trained if one in _rows(second.folder, "generate/examples.jsonl"))
    chain = json.loads(second.read("trace", new, "--json"))
    assert (chain["gaps"], chain["adapters"]) == ([], ["round-002/sft"])
    before = _rows(second.first, "split/train.jsonl")
    old = next(one for one in before if one not in trained)
    chain = json.loads(second.read("trace", old, "--json"))
    assert chain["gaps"] == []
    assert set(chain["adapters"]) == {"round-001/sft", "round-001/dpo", "round-002/sft"}
    assert "round-002/sft: its adapter was also trained on them, through round-001/sft" in (
        second.read("forget", old)
    )


def test_the_report_holds_the_adapter_against_the_first_rounds(second: Second) -> None:
    gate = json.loads((second.folder / "evaluate/general.json").read_text(encoding="utf-8"))
    across = gate["across"]
    assert (across["round"], across["before"], across["arm"]) == ("round-001", "sft+dpo", "sft")
    assert across["not_compared"] == []
    assert across["fidelity"]["pairs"] == 4
    page = (second.folder / "report/report.md").read_text(encoding="utf-8")
    assert "Against the last adapter of round-001" in page
