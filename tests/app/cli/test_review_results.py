"""Agreement, decisions and a row's story, told from recorded reviews without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.review.pairs import as_candidate
from curation.review.reliability import read_gold
from tests.commands import Commands
from tests.curation.review_team import seeds
from workbench.config import Policy
from workbench.records import Decision, Drop, Example, Preference, Response, Review, user_prompt
from workbench.store import read_records

FILES = ("reviews", "gold-reviews", "adjudications")


def _recorded(path: Path, rows: dict[int, Example]) -> list[Review]:
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        number, reviewer = said.pop("row"), said.pop("reviewer")
        if number in rows:
            found.append(Review(reviewer=reviewer, record=rows[number].id, answers=said))
    return found


@pytest.fixture
def reviewed(commands: Commands, repo: Path) -> Commands:
    """A round whose first 60 rows were reviewed as recorded."""
    folder = repo / "datasets" / "gym-trainer"
    rows = seeds(folder)[:60]
    gold = dict(enumerate(read_gold(folder, Policy()).examples, start=1))
    commands.put("import/examples.jsonl", rows)
    commands.put("import/drops.jsonl", [])
    commands.put("filter/examples.jsonl", rows)
    commands.put("filter/preferences.jsonl", [])
    bare = [
        Response(arm="baseline", prompt_id=r.id, prompt=r.prompt, text=f"Hm {r.id}") for r in rows
    ]
    commands.put("generate/baseline.jsonl", bare)
    commands.put("generate/preferences.jsonl", [])
    given = _recorded(folder / "reviews.jsonl", dict(enumerate(rows, start=1)))
    commands.put("review/reviews.jsonl", given)
    commands.put("review/gold-reviews.jsonl", _recorded(folder / "gold-reviews.jsonl", gold))
    commands.put("review/adjudications.jsonl", [])
    commands.put("review/pairs.jsonl", [])
    commands.put("review/gold.jsonl", list(gold.values()))
    return commands


def _cells(out: str) -> dict[str, list[str]]:
    lines = [[c.strip() for c in line.split("│")[1:-1]] for line in out.splitlines()]
    return {line[0]: line[1:] for line in reversed(lines) if line}


def _decisions(commands: Commands) -> dict[str, Decision]:
    path = commands.folder() / "resolve/decisions.jsonl"
    return {decision.record: decision for decision in read_records(path, Decision)}


def test_agreement_has_intervals_by_question_topic_pair_and_reviewer(reviewed: Commands) -> None:
    said = reviewed.on_round("review", "agreement", "--width", "0.2")
    assert said.code == 0
    assert said.out.startswith("60 records reviewed, 60 of them by two or more")
    cells = _cells(said.out)
    alpha, interval, records, more = cells["fidelity"]
    low, high = (float(edge) for edge in interval.split(" to "))
    assert low < float(alpha) < high
    assert int(records) == 60
    # The width shrinks with the root of the records; the table rounds its ends.
    assert int(more) == pytest.approx(60 * (((high - low) / 0.2) ** 2 - 1), rel=0.15)
    assert "Desk posture" in cells and "reviewer-1 / reviewer-2" in cells
    assert not any("…" in line for line in said.out.splitlines()), "it fits into 80 columns"
    gold = _cells(said.out.partition("Reviewers on the gold rows")[2])
    assert [gold[f"reviewer-{n}"][-1] for n in (1, 2)] == ["7 of 8", "7 of 8"]
    assert [gold[f"reviewer-{n}"][0][:2] for n in (1, 2)] == ["0.", "0."]
    wide = _cells(reviewed.on_round("review", "agreement", "--width", "2").out)
    assert wide["fidelity"][-1] == "0"


def test_decisions_are_shown_by_reason_and_gold_is_never_curated(
    reviewed: Commands, repo: Path
) -> None:
    said = reviewed.on_round("review", "resolve")
    assert said.code == 0
    cells = _cells(said.out)
    decisions = _decisions(reviewed)
    assert int(cells["all"][1]) == len(decisions) == 60
    assert int(cells["keep"][1]) == sum(d.outcome == "keep" for d in decisions.values())
    gold = {e.id for e in read_gold(repo / "datasets/gym-trainer", Policy()).examples}
    kept = read_records(reviewed.folder() / "resolve/examples.jsonl", Example)
    assert gold.isdisjoint({i for row in kept for i in (row.id, *row.parents)})


def test_an_adjudicators_word_is_final(reviewed: Commands) -> None:
    reviewed.on_round("review", "resolve")
    unsettled = [d for d in _decisions(reviewed).values() if d.outcome == "queue"]
    word = Review(reviewer="owner", record=unsettled[0].record, answers={"fidelity": 5})
    reviewed.put("review/adjudications.jsonl", [word])
    reviewed.on_round("review", "resolve")
    after = _decisions(reviewed)[unsettled[0].record]
    assert after.outcome == "keep" and word.id in after.parents


def test_a_correction_goes_through_the_filters_too(reviewed: Commands) -> None:
    rows = list(read_records(reviewed.folder() / "filter/examples.jsonl", Example))
    mine = Review(
        reviewer="reviewer-1",
        record=rows[0].id,
        answers={"fidelity": 4, "corrected": f"{rows[0].answer} Mail coach@example.com."},
    )
    reviewed.put("review/reviews.jsonl", [mine])
    reviewed.on_round("review", "resolve")
    drops = list(read_records(reviewed.folder() / "resolve/drops.jsonl", Drop))
    assert ("personal_data", "e-mail") in {(drop.reason, drop.detail) for drop in drops}
    assert list(read_records(reviewed.folder() / "resolve/examples.jsonl", Example)) == []
    pairs = read_records(reviewed.folder() / "resolve/preferences.jsonl", Preference)
    assert list(pairs) == []


def test_imported_pairs_stand_unless_reviewers_decided_on_them(reviewed: Commands) -> None:
    good = next(iter(read_records(reviewed.folder() / "filter/examples.jsonl", Example))).answer
    pairs = [
        Preference(prompt=user_prompt(f"{q}?"), chosen=f"{good} {n}", rejected=r, origin="imported")
        for n, (q, r) in enumerate([("Unseen", "No."), ("Seen", "No."), ("Turned", "Yes, champ.")])
    ]
    again = pairs[2].evolve(rejected="Another one.")
    reviewed.put("filter/preferences.jsonl", [*pairs, again])
    shown = [as_candidate(pair) for pair in pairs[1:]]
    reviewed.put("review/pairs.jsonl", shown)
    better = ("candidate", "both_bad")
    words = [
        Review(reviewer="r", record=row.id, answers={"fidelity": 5, "better": side})
        for row, side in zip(shown, better, strict=True)
    ]
    reviewed.put("review/reviews.jsonl", words)
    assert reviewed.on_round("review", "resolve").code == 0
    left = read_records(reviewed.folder() / "resolve/preferences.jsonl", Preference)
    assert {(pair.prompt, pair.rejected) for pair in left} == {
        (pairs[0].prompt, "No."),
        (pairs[1].prompt, "No."),
    }
    drops = read_records(reviewed.folder() / "resolve/drops.jsonl", Drop)
    reasons = {drop.record: drop.reason for drop in drops}
    assert reasons[shown[1].id] == reasons[again.id] == "both_bad"


def test_the_story_of_a_row_goes_from_its_source_to_its_side(reviewed: Commands) -> None:
    reviewed.on_round("review", "resolve")
    reviewed.on_round("split")
    decisions = _decisions(reviewed)
    edit = next(d for d in decisions.values() if d.outcome == "edit")
    rows = read_records(reviewed.folder() / "filter/examples.jsonl", Example)
    source = next(row.source for row in rows if row.id == edit.record)
    said = reviewed.on_round("review", "why", source)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{edit.record}: seed row from {source}, topic ")
    starts = [line.split(":")[0] for line in lines if not line.startswith((" ", "ex-"))]
    assert list(dict.fromkeys(starts)) == ["generate", "filter", "review", "resolve", "split"]
    assert sum(line.startswith("review: rv-") for line in lines) == 2
    assert any(line.startswith("resolve: corrected, now ex-") for line in lines)
    by_prefix = reviewed.on_round("review", "why", edit.record[:12])
    review = next(word for word in lines if word.startswith("review: ")).split()[1]
    assert reviewed.on_round("review", "why", review).out == by_prefix.out == said.out


def test_the_story_of_a_dropped_row_says_why(reviewed: Commands) -> None:
    reviewed.on_round("review", "resolve")
    gone = next(d for d in _decisions(reviewed).values() if d.reason)
    said = reviewed.on_round("review", "why", gone.record)
    assert f"resolve: {gone.outcome} ({gone.reason}): {gone.detail}" in said.out
    assert "split:" not in said.out


def test_the_story_of_a_gold_row_tells_its_text_and_its_known_outcome(
    reviewed: Commands, repo: Path
) -> None:
    gold = read_gold(repo / "datasets" / "gym-trainer", Policy())
    row = gold.examples[2]
    said = reviewed.on_round("review", "why", "gold.jsonl:3")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{row.id}: ") and "from gold.jsonl:3" in lines[0]
    assert lines[1].startswith(f"  question: {row.question[:60]}")
    assert f"gold: the known outcome is {gold.outcomes[row.id]};" in said.out
    assert sum(line.startswith("gold: rv-") for line in lines) == 2
    assert reviewed.on_round("review", "why", row.id).out == said.out


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("seeds.jsonl:460", "no record is meant by 'seeds.jsonl:460' — did you mean"),
        ("ex-", "68 records are meant by 'ex-'"),
    ],
)
def test_a_name_that_means_none_or_several_is_told(
    reviewed: Commands, name: str, what: str
) -> None:
    said = reviewed.on_round("review", "why", name)
    assert said.code == 2
    assert what in said.err


def test_without_reviews_there_is_no_agreement(commands: Commands) -> None:
    said = commands.on_round("review", "agreement")
    assert said.code == 2
    assert "no reviews are pulled yet" in said.err


@pytest.mark.parametrize("command", [["run"], ["review", "push"]])
def test_more_reviewers_than_there_are_is_told(commands: Commands, command: list[str]) -> None:
    said = commands.on_round(*command, "--reviewers-per-record", "3")
    assert said.code == 2
    assert "--reviewers-per-record: 3 reviewers for each record, but there are only 2" in said.err


def test_every_file_of_reviews_is_an_input_of_the_decisions(reviewed: Commands) -> None:
    reviewed.on_round("review", "resolve")
    manifest = reviewed.round().manifest("resolve")
    assert manifest and {f"review/{name}.jsonl" for name in FILES} <= set(manifest.inputs)
