"""Agreement and decisions from recorded reviews, without a server."""

from __future__ import annotations

import pytest

from curation.review.pairs import as_candidate
from curation.review.reliability import read_gold
from rounds.layout import DECISIONS, FILTERED, RESOLVE_DROPS, RESOLVED, RESOLVED_PREFERENCES
from rounds.pipeline import run_stages
from rounds.reviewing import count_decisions, measure_agreement
from tests.commands import Workspace
from tests.reviewed_round import write_reviewed
from workbench.config import Policy
from workbench.errors import UserError
from workbench.records import Decision, Preference, Review, user_prompt

FILES = ("reviews", "gold-reviews", "adjudications")


@pytest.fixture
def reviewed(workspace: Workspace) -> Workspace:
    write_reviewed(workspace)
    return workspace


def _decisions(workspace: Workspace) -> dict[str, Decision]:
    return {decision.record: decision for decision in workspace.round().read(DECISIONS)}


def test_agreement_has_intervals_by_question_topic_pair_and_reviewer(reviewed: Workspace) -> None:
    measured = measure_agreement(reviewed.context())
    assert (measured.records, measured.overlapping) == (60, 60)
    fidelity = measured.questions["fidelity"]
    assert fidelity.value is not None and fidelity.low is not None and fidelity.high is not None
    assert fidelity.low < fidelity.value < fidelity.high
    assert fidelity.rows == 60
    # The width shrinks with the root of the records.
    width = fidelity.high - fidelity.low
    assert fidelity.rows_needed(0.2) == pytest.approx(60 * (width / 0.2) ** 2, rel=0.05)
    assert fidelity.rows_needed(2) == 60
    assert "desk_posture" in measured.topics
    assert "reviewer-1 / reviewer-2" in measured.pairs
    for name in ("reviewer-1", "reviewer-2"):
        reviewer = measured.reviewers[name]
        assert (reviewer.gold_right, reviewer.gold_seen) == (7, 8)
        assert reviewer.gold and reviewer.gold.value and 0 < reviewer.gold.value < 1


def test_there_is_no_agreement_before_reviews_are_pulled(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="nothing is there to review yet"):
        measure_agreement(workspace.context())


def test_decisions_are_counted_by_reason_and_gold_is_never_curated(reviewed: Workspace) -> None:
    run_stages(reviewed.context(), ["resolve"])
    decisions = _decisions(reviewed)
    counts = count_decisions(reviewed.round())
    assert sum(one.rows for one in counts if one.share is not None) == len(decisions) == 60
    outcomes = [decision.outcome for decision in decisions.values()]
    (keep,) = [one for one in counts if one.decision == "keep"]
    assert (keep.rows, keep.share) == (outcomes.count("keep"), outcomes.count("keep") / 60)
    assert decisions[keep.example].outcome == "keep"
    gold = {row.id for row in read_gold(reviewed.repo / "datasets/gym-trainer", Policy()).examples}
    rows = reviewed.round().read(RESOLVED)
    assert gold.isdisjoint({one for row in rows for one in (row.id, *row.parents)})


def test_an_adjudicators_word_is_final(reviewed: Workspace) -> None:
    run_stages(reviewed.context(), ["resolve"])
    unsettled = [d for d in _decisions(reviewed).values() if d.outcome == "queue"]
    word = Review(reviewer="owner", record=unsettled[0].record, answers={"fidelity": 5})
    reviewed.put("review/adjudications.jsonl", [word])
    run_stages(reviewed.context(), ["resolve"])
    after = _decisions(reviewed)[unsettled[0].record]
    assert after.outcome == "keep" and word.id in after.parents


def test_a_correction_goes_through_the_filters_too(reviewed: Workspace) -> None:
    rows = reviewed.round().read(FILTERED)
    mine = Review(
        reviewer="reviewer-1",
        record=rows[0].id,
        answers={"fidelity": 4, "corrected": f"{rows[0].answer} Mail coach@example.com."},
    )
    reviewed.put("review/reviews.jsonl", [mine])
    run_stages(reviewed.context(), ["resolve"])
    drops = reviewed.round().read(RESOLVE_DROPS)
    assert ("personal_data", "e-mail") in {(drop.reason, drop.detail) for drop in drops}
    assert reviewed.round().read(RESOLVED) == []
    assert reviewed.round().read(RESOLVED_PREFERENCES) == []


def test_imported_pairs_stand_unless_reviewers_decided_on_them(reviewed: Workspace) -> None:
    good = reviewed.round().read(FILTERED)[0].answer
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
    run_stages(reviewed.context(), ["resolve"])
    pairs_left = reviewed.round().read(RESOLVED_PREFERENCES)
    assert {(pair.prompt, pair.rejected) for pair in pairs_left} == {
        (pairs[0].prompt, "No."),
        (pairs[1].prompt, "No."),
    }
    drops = reviewed.round().read(RESOLVE_DROPS)
    reasons = {drop.record: drop.reason for drop in drops}
    assert reasons[shown[1].id] == reasons[again.id] == "both_bad"


def test_every_file_of_reviews_is_an_input_of_the_decisions(reviewed: Workspace) -> None:
    run_stages(reviewed.context(), ["resolve"])
    manifest = reviewed.round().manifest("resolve")
    assert manifest and {f"review/{name}.jsonl" for name in FILES} <= set(manifest.inputs)
