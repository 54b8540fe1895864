"""A round as a source of the next: kept rows come with what was decided, and nobody is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rounds.artifacts import Records
from rounds.context import RoundContext
from rounds.layout import (
    CARRY_OVER_EXAMPLES,
    DECISIONS,
    EXAMPLES,
    FILTER_DROPS,
    IMPORTED,
    RESOLVE_DROPS,
    RESOLVED,
    RESOLVED_PREFERENCES,
    RoundFolder,
)
from rounds.lineage.graph import read_lineage
from rounds.pipeline import run_stages, stages_until
from rounds.splits import check_rounds
from tests.commands import Workspace
from tests.curation.review_team import seeds
from workbench.errors import UserError
from workbench.records import Decision, Example, Preference, Record, Response, Review

pytestmark = pytest.mark.slow


@dataclass
class First:
    """What the first round has left behind."""

    kept: list[Example]
    edited: Example
    pair: Preference
    reviews: list[Review]


@pytest.fixture
def first(workspace: Workspace, tiny_model: Path) -> First:
    """Write a reviewed first round of the running example; one of its rows was corrected."""
    gym = workspace.repo / "datasets" / "gym-trainer"
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
    workspace.put("import/examples.jsonl", source)
    workspace.curated([*kept, edited], [pair])
    workspace.put("resolve/decisions.jsonl", decisions)
    workspace.put("review/reviews.jsonl", reviews)
    workspace.put("review/adjudications.jsonl", [])
    workspace.put("generate/baseline.jsonl", bare)
    workspace.finished("generate", settings={"model": str(tiny_model)})
    run_stages(workspace.context(), ["split"])
    return First(kept, edited, pair, reviews)


def _second(workspace: Workspace, tiny_model: Path, until: str, *more: Path) -> RoundFolder:
    """Run the second round up to a stage, from the first and from files."""
    context = _configured(workspace, sources=["round-001", *map(str, more)], model=str(tiny_model))
    run_stages(context, stages_until(until))
    return context.round


def _configured(workspace: Workspace, **settings: object) -> RoundContext:
    """Return the second round with a configuration of its own."""
    config = workspace.runs.parent / "second.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return workspace.context(2, config=config)


def _ids(records: Iterable[Record]) -> set[str]:
    return {record.id for record in records}


def test_kept_rows_come_along_reviewed_and_stay_on_their_sides(
    workspace: Workspace, first: First, tiny_model: Path
) -> None:
    again = workspace.runs.parent / "again.jsonl"
    row = first.kept[0]
    text = {"instruction": row.question, "output": row.answer, "topic": row.topic}
    again.write_text(json.dumps(text) + "\n", encoding="utf-8")

    second = _second(workspace, tiny_model, "split", again)

    assert not (workspace.runs / ".argilla").exists()  # no server, since nobody is asked
    rows = {*(row.id for row in first.kept), first.edited.id}
    assert _ids(second.read(RESOLVED)) == rows
    assert _ids(second.read(RESOLVED_PREFERENCES)) == {first.pair.id}
    for artifact in (DECISIONS, RESOLVED_PREFERENCES):
        records: Records[Any] = artifact
        assert _ids(second.read(records)) == _ids(workspace.round(1).read(records))
    counts = {
        stage: manifest.counts
        for stage in ("import", "review", "resolve")
        if (manifest := second.manifest(stage))
    }
    assert (counts["import"]["carry_over"], counts["import"]["carry_over_reviews"]) == (24, 24)
    assert (counts["review"]["carry_over"], counts["review"]["reviews"]) == (24, 0)
    assert (counts["resolve"]["carry_over"], counts["resolve"]["kept"]) == (24, 24)
    _same_splits_and_whole_chains(workspace, first)


def _same_splits_and_whole_chains(workspace: Workspace, first: First) -> None:
    splits = [
        {(row.id, name) for name, rows in EXAMPLES.items() for row in one.read(rows)}
        for one in (workspace.round(1), workspace.round(2))
    ]
    assert splits[0] == splits[1]
    check = check_rounds(workspace.context(2))
    assert (check.leaks, check.rounds) == ([], ("round-001", "round-002"))
    lineage = read_lineage(workspace.folder().parent)
    assert lineage.gaps(first.edited.id) == []
    assert {place.round for place in lineage.places[first.edited.id]} == {"round-001", "round-002"}
    assert first.reviews[-1].id in lineage.before(first.edited.id)


def test_a_new_row_that_nearly_repeats_a_kept_one_is_the_one_to_go(
    workspace: Workspace, first: First, tiny_model: Path
) -> None:
    near = workspace.runs.parent / "near.jsonl"
    row = first.kept[0]
    text = {"instruction": row.question, "output": f"{row.answer} Go.", "topic": row.topic}
    near.write_text(json.dumps(text) + "\n", encoding="utf-8")
    (drop,) = _second(workspace, tiny_model, "filter", near).read(FILTER_DROPS)
    assert (drop.reason, drop.source) == ("near_duplicate", "near.jsonl:1")


def test_asked_for_again_kept_rows_are_candidates_like_any_other(
    workspace: Workspace, first: First, tiny_model: Path
) -> None:
    settings = {"sources": ["round-001"], "model": str(tiny_model), "review": {"again": True}}
    context = _configured(workspace, **settings)
    run_stages(context, ["import"])
    rows = {*(row.id for row in first.kept), first.edited.id}
    assert _ids(context.round.read(IMPORTED)) == rows
    assert context.round.read(CARRY_OVER_EXAMPLES) == []


def test_a_kept_row_that_new_filters_take_out_goes_with_its_pair_and_both_are_told(
    workspace: Workspace, first: First, tiny_model: Path
) -> None:
    pair = first.pair
    row = first.edited
    masked = row.evolve(answer=f"{row.answer} Call me: jane@example.org")
    kept = [*first.kept, masked]
    workspace.put("resolve/examples.jsonl", kept)
    workspace.put("resolve/preferences.jsonl", [pair.evolve(parents=(masked.id, *pair.parents))])
    second = _second(workspace, tiny_model, "resolve")
    drops = [
        (drop.reason, drop.detail)
        for artifact in (FILTER_DROPS, RESOLVE_DROPS)
        for drop in second.read(artifact)
    ]
    assert drops == [("personal_data", "e-mail"), ("row_not_kept", "its row was filtered")]
    assert second.read(RESOLVED_PREFERENCES) == []
    assert len(second.read(DECISIONS)) == len(first.kept)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("round-002", "round-002 cannot take rows from round-002"),
        ("round-007", "round-002 cannot take rows from round-007"),
        ("round-001", "there is no such round"),
    ],
)
def test_a_round_that_cannot_be_a_source_is_a_mistake(
    workspace: Workspace, source: str, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        run_stages(_configured(workspace, sources=[source]), ["import"])


def test_no_earlier_adapter_or_one_of_another_base_is_a_mistake_before_anything_runs(
    workspace: Workspace, tiny_model: Path
) -> None:
    context = _configured(workspace, model=str(tiny_model), train={"sft": "sft-continue-embedded"})
    problem = "starts at the last sft adapter, but no round before round-002 has one"
    with pytest.raises(UserError, match=problem):
        run_stages(context, ["sft"])

    (workspace.folder() / "sft" / "adapter").mkdir(parents=True)
    workspace.finished("sft", settings={"model": "other-base"})
    problem = f"round-001/sft was trained on other-base, not on {tiny_model}"
    with pytest.raises(UserError, match=problem):
        run_stages(context, ["sft"])
    assert not context.round.stage("sft").exists()
