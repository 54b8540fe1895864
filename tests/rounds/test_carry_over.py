"""A round as a source of the next: kept rows come with what was decided, and nobody is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from rounds.layout import MANIFEST
from rounds.lineage.graph import read_lineage
from tests.commands import Commands, Output
from tests.curation.review_team import seeds
from workbench.records import Decision, Drop, Example, Preference, Response, Review
from workbench.store import read_records

pytestmark = pytest.mark.slow


@dataclass
class First:
    """What the first round has left behind."""

    kept: list[Example]
    edited: Example
    pair: Preference
    reviews: list[Review]


@pytest.fixture
def first(commands: Commands, tiny_model: Path) -> First:
    """Write a reviewed first round of the running example; one of its rows was corrected."""
    gym = commands.repo / "datasets" / "gym-trainer"
    faulty = {
        json.loads(line)["row"] for line in (gym / "faults.jsonl").read_text("utf-8").splitlines()
    }
    source = [row.evolve(parents=("persona-1",)) for row in seeds(gym)]
    source = [row for n, row in enumerate(source, 1) if n not in faulty][:24]
    reviews = [Review(reviewer="ann", record=r.id, answers={"fidelity": 5}) for r in source]
    kept = [r.evolve(parents=(*r.parents, v.id)) for r, v in zip(source, reviews, strict=True)]
    last = kept.pop()
    edited = last.evolve(
        answer=f"{last.answer} Walk, too.", origin="edit", parents=(last.id, *last.parents)
    )
    pair = Preference(
        prompt=edited.prompt,
        chosen=edited.answer,
        rejected=last.answer,
        topic=edited.topic,
        origin="edit",
        parents=(edited.id, last.id, reviews[-1].id),
    )
    decisions = [
        Decision(record=r.id, outcome="keep" if r.id != last.id else "edit", parents=(r.id, v.id))
        for r, v in zip(source, reviews, strict=True)
    ]
    bare = [Response(arm="base", prompt_id=r.id, prompt=r.prompt, text="Hm.") for r in source]
    commands.put("import/examples.jsonl", source)
    commands.curated([*kept, edited], [pair])
    commands.put("resolve/decisions.jsonl", decisions)
    commands.put("review/reviews.jsonl", reviews)
    commands.put("review/adjudications.jsonl", [])
    commands.put("generate/baseline.jsonl", bare)
    commands.finished("generate", settings={"model": str(tiny_model)})
    assert commands.on_round("split").code == 0
    return First(kept, edited, pair, reviews)


def _second(commands: Commands, tiny_model: Path, until: str, *more: Path) -> Output:
    """Run the second round up to a stage, from the first and from files."""
    config = commands.runs.parent / "second.yaml"
    given = {"sources": ["round-001", *map(str, more)], "model": str(tiny_model)}
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    return commands.on_round("run", "--until", until, "--config", str(config), number=2)


def _ids(commands: Commands, name: str, kind: type[Example | Preference | Decision]) -> set[str]:
    return {record.id for record in read_records(commands.folder(2) / name, kind)}


def test_kept_rows_come_along_reviewed_and_stay_on_their_sides(
    commands: Commands, first: First, tiny_model: Path
) -> None:
    again = commands.runs.parent / "again.jsonl"
    row = first.kept[0]
    text = {"instruction": row.question, "output": row.answer, "topic": row.topic}
    again.write_text(json.dumps(text) + "\n", encoding="utf-8")

    said = _second(commands, tiny_model, "split", again)

    assert said.code == 0, said.err
    assert not (commands.runs / ".argilla").exists()  # no server, since nobody is asked
    rows = {*(row.id for row in first.kept), first.edited.id}
    assert _ids(commands, "resolve/examples.jsonl", Example) == rows
    assert _ids(commands, "resolve/preferences.jsonl", Preference) == {first.pair.id}
    for name, of_first in (("decisions", Decision), ("preferences", Preference)):
        file = f"resolve/{name}.jsonl"
        before = {one.id for one in read_records(commands.folder(1) / file, of_first)}
        assert _ids(commands, file, of_first) == before
    counts = {
        stage: json.loads((commands.folder(2) / stage / MANIFEST).read_text("utf-8"))["counts"]
        for stage in ("import", "review", "resolve")
    }
    assert (counts["import"]["carry_over"], counts["import"]["carry_over_reviews"]) == (24, 24)
    assert (counts["review"]["carry_over"], counts["review"]["reviews"]) == (24, 0)
    assert (counts["resolve"]["carry_over"], counts["resolve"]["kept"]) == (24, 24)
    _same_sides_and_whole_chains(commands, first)


def _same_sides_and_whole_chains(commands: Commands, first: First) -> None:
    sides = [
        {
            (row.id, side)
            for side in ("train", "validation", "test")
            for row in read_records(commands.folder(n) / f"split/{side}.jsonl", Example)
        }
        for n in (1, 2)
    ]
    assert sides[0] == sides[1]
    checked = commands.on_round("split", "--check", number=2)
    assert (checked.code, "of round-001, round-002" in checked.out) == (0, True)
    lineage = read_lineage(commands.folder().parent)
    assert lineage.gaps(first.edited.id) == []
    assert {str(place).split("/")[0] for place in lineage.places[first.edited.id]} == {
        "round-001",
        "round-002",
    }
    assert first.reviews[-1].id in lineage.before(first.edited.id)


def test_a_new_row_that_nearly_repeats_a_kept_one_is_the_one_to_go(
    commands: Commands, first: First, tiny_model: Path
) -> None:
    near = commands.runs.parent / "near.jsonl"
    row = first.kept[0]
    text = {"instruction": row.question, "output": f"{row.answer} Go.", "topic": row.topic}
    near.write_text(json.dumps(text) + "\n", encoding="utf-8")
    assert _second(commands, tiny_model, "filter", near).code == 0
    (drop,) = read_records(commands.folder(2) / "filter/drops.jsonl", Drop)
    assert (drop.reason, drop.source) == ("near_duplicate", "near.jsonl:1")


def test_asked_for_again_kept_rows_are_candidates_like_any_other(
    commands: Commands, first: First, tiny_model: Path
) -> None:
    config = commands.runs.parent / "again.yaml"
    given = {"sources": ["round-001"], "model": str(tiny_model), "review": {"again": True}}
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    assert commands.on_round("import", "--config", str(config), number=2).code == 0
    rows = {*(row.id for row in first.kept), first.edited.id}
    assert _ids(commands, "import/examples.jsonl", Example) == rows
    assert _ids(commands, "import/carry-over-examples.jsonl", Example) == set()


def test_a_kept_row_that_new_filters_take_out_goes_with_its_pair_and_both_are_told(
    commands: Commands, first: First, tiny_model: Path
) -> None:
    pair = first.pair
    row = first.edited
    masked = row.evolve(answer=f"{row.answer} Call me: jane@example.org")
    kept = [*first.kept, masked]
    commands.put("resolve/examples.jsonl", kept)
    commands.put("resolve/preferences.jsonl", [pair.evolve(parents=(masked.id, *pair.parents))])
    assert _second(commands, tiny_model, "resolve").code == 0
    drops = [
        (drop.reason, drop.detail)
        for stage in ("filter", "resolve")
        for drop in read_records(commands.folder(2) / stage / "drops.jsonl", Drop)
    ]
    assert drops == [("personal_data", "e-mail"), ("row_not_kept", "its row was filtered")]
    assert _ids(commands, "resolve/preferences.jsonl", Preference) == set()
    assert len(_ids(commands, "resolve/decisions.jsonl", Decision)) == len(first.kept)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("round-002", "round-002 cannot take rows from round-002"),
        ("round-007", "round-002 cannot take rows from round-007"),
        ("round-001", "there is no such round"),
    ],
)
def test_a_round_that_cannot_be_a_source_is_one_line(
    commands: Commands, source: str, said: str
) -> None:
    config = commands.runs.parent / "bad.yaml"
    config.write_text(yaml.safe_dump({"sources": [source]}), encoding="utf-8")
    answer = commands.on_round("import", "--config", str(config), number=2)
    assert (answer.code, said in answer.err, answer.err.count("\n")) == (2, True, 1)


def test_no_earlier_adapter_or_one_of_another_base_is_one_line_before_anything_runs(
    commands: Commands, tiny_model: Path
) -> None:
    config = commands.runs.parent / "goes-on.yaml"
    given = {"model": str(tiny_model), "train": {"sft": "sft-continue-embedded"}}
    config.write_text(yaml.safe_dump(given), encoding="utf-8")
    command = ("train", "sft", "--config", str(config))

    said = commands.on_round(*command, number=2)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "starts at the last sft adapter, but no round before round-002 has one" in said.err

    (commands.folder() / "sft" / "adapter").mkdir(parents=True)
    commands.finished("sft", settings={"model": "other-base"})
    said = commands.on_round(*command, number=2)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"round-001/sft was trained on other-base, not on {tiny_model}" in said.err
    assert not (commands.folder(2) / "sft").exists()
