"""The history of a row, from its source to its split."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.review.reliability import read_gold
from rounds.layout import DECISIONS, FILTERED
from rounds.lineage.history import history
from rounds.pipeline import run_stages
from tests.commands import Workspace
from tests.reviewed_round import write_reviewed
from workbench.config import Policy
from workbench.errors import UserError
from workbench.records import Review


@pytest.fixture
def reviewed(workspace: Workspace) -> Workspace:
    write_reviewed(workspace)
    return workspace


def test_it_goes_from_the_source_to_the_split(reviewed: Workspace) -> None:
    run_stages(reviewed.context(), ["resolve", "split"])
    edit = next(one for one in reviewed.round().read(DECISIONS) if one.outcome == "edit")
    rows = reviewed.round().read(FILTERED)
    source = next(row.source for row in rows if row.id == edit.record)
    lines = history(reviewed.context(), source)
    assert lines[0].startswith(f"{edit.record}: seed row from {source}, topic ")
    starts = [line.split(":")[0] for line in lines if not line.startswith((" ", "ex-"))]
    assert list(dict.fromkeys(starts)) == ["generate", "filter", "review", "resolve", "split"]
    assert sum(line.startswith("review: rv-") for line in lines) == 2
    assert any(line.startswith("resolve: corrected, now ex-") for line in lines)
    review = next(line for line in lines if line.startswith("review: ")).split()[1]
    for name in (edit.record[:12], review):
        assert history(reviewed.context(), name) == lines


def test_a_correction_that_changes_nothing_is_none(reviewed: Workspace) -> None:
    row = reviewed.round().read(FILTERED)[0]
    answers = {"fidelity": 5, "corrected": f"  {row.answer}\n"}
    reviews = [Review(reviewer="reviewer-1", record=row.id, answers=answers)]
    reviewed.put("review/reviews.jsonl", reviews)
    run_stages(reviewed.context(), ["resolve"])
    assert not any("corrected" in line for line in history(reviewed.context(), row.id))
    answers["corrected"] = f"{row.answer} Up now, champ."
    changed = reviews[0].evolve(answers=answers)
    reviewed.put("review/reviews.jsonl", [changed])
    run_stages(reviewed.context(), ["resolve"], force=["resolve"])
    lines = history(reviewed.context(), row.id)
    assert any(line.startswith("  fidelity 5; corrected: ") for line in lines)
    assert any(line.startswith("resolve: corrected, now ex-") for line in lines)


def test_a_dropped_row_has_its_reason_and_no_split(reviewed: Workspace) -> None:
    run_stages(reviewed.context(), ["resolve"])
    gone = next(one for one in reviewed.round().read(DECISIONS) if one.reason)
    lines = history(reviewed.context(), gone.record)
    assert f"resolve: {gone.outcome} ({gone.reason}): {gone.detail}" in lines
    assert not any(line.startswith("split:") for line in lines)


def test_a_gold_row_has_its_text_and_its_known_outcome(reviewed: Workspace, repo: Path) -> None:
    gold = read_gold(repo / "datasets" / "gym-trainer", Policy())
    row = gold.examples[2]
    lines = history(reviewed.context(), "gold.jsonl:3")
    assert lines[0].startswith(f"{row.id}: ") and "from gold.jsonl:3" in lines[0]
    assert lines[1].startswith(f"  question: {row.question[:60]}")
    outcome = f"gold: the known outcome is {gold.outcomes[row.id]};"
    assert any(line.startswith(outcome) for line in lines)
    assert sum(line.startswith("gold: rv-") for line in lines) == 2
    assert history(reviewed.context(), row.id) == lines


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("seeds.jsonl:460", "no record is meant by 'seeds.jsonl:460' — did you mean"),
        ("ex-", "68 records are meant by 'ex-'"),
    ],
)
def test_a_name_that_means_none_or_several_is_a_mistake(
    reviewed: Workspace, name: str, problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        history(reviewed.context(), name)
