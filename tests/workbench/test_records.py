"""Records: identity by content, provenance aside, and no half-said score."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from workbench.errors import UserError
from workbench.records import Example, Preference, Response, Review, Score, user_prompt
from workbench.store import read_records, write_records


def _example(answer: str = "Walk.", **changes: object) -> Example:
    return Example(prompt=user_prompt("How?"), answer=answer, topic="cardio", **changes)


def test_the_same_content_has_the_same_id_wherever_it_came_from() -> None:
    assert _example(source="a.jsonl:1", parents=("p-1",)).id == _example(source="b.jsonl:9").id


def test_other_content_has_another_id() -> None:
    assert _example("Walk.").id != _example("Run.").id


def test_the_time_of_a_review_is_not_part_of_its_identity() -> None:
    one = Review(reviewer="r", record="ex-1", answers={"fidelity": 4}, at="2026-01-01")
    assert one.id == one.evolve(at="2026-02-02").id
    assert one.id != one.evolve(answers={"fidelity": 3}).id


def test_an_id_that_does_not_match_the_content_is_refused() -> None:
    with pytest.raises(ValidationError, match="does not match the content"):
        Example.model_validate({**_example().model_dump(), "answer": "Other."})


def test_responses_and_scores_keep_the_ids_that_they_had_before_probes() -> None:
    response = _response()
    score = Score(arm="base", prompt_id="ex-1", response="rs-1", metric="emoji", value=1.0)
    assert (response.id, score.id) == ("rs-ba89158d98c17c6a", "sc-d3de2bca73073349")


def test_a_probe_a_turn_or_a_seed_makes_another_response() -> None:
    responses = [
        _response(),
        _response(probe="drift"),
        _response(probe="drift", turn=2),
        _response(seed=1),
    ]
    assert len({response.id for response in responses}) == 4


def _response(**changes: object) -> Response:
    prompt = user_prompt("My knees hurt on stairs.")
    return Response(arm="base", prompt_id="ex-1", prompt=prompt, text="Rest.", tokens=2, **changes)


def test_records_survive_a_file(tmp_path: Path) -> None:
    rows = [_example("하나 💪"), _example("둘\nlines")]
    assert write_records(tmp_path / "rows.jsonl", rows) == 2
    assert list(read_records(tmp_path / "rows.jsonl", Example)) == rows


def test_an_empty_file_of_records_has_none(tmp_path: Path) -> None:
    write_records(tmp_path / "rows.jsonl", [])
    assert list(read_records(tmp_path / "rows.jsonl", Example)) == []


def test_a_line_edited_by_hand_is_told_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_records(file, [_example("One."), _example("Two.")])
    file.write_text(file.read_text(encoding="utf-8").replace("Two.", "Three."), encoding="utf-8")
    with pytest.raises(UserError, match=r"rows\.jsonl:2: no valid Example"):
        list(read_records(file, Example))


def test_a_score_without_value_needs_its_reason() -> None:
    with pytest.raises(ValidationError, match="either a value or a reason"):
        Score(arm="base", prompt_id="ex-1", response="rs-1", metric="warm")


def test_a_preference_needs_two_different_answers() -> None:
    with pytest.raises(ValidationError, match="same text"):
        Preference(prompt=user_prompt("How?"), chosen="Walk.", rejected=" Walk. ")


def test_alpaca_input_follows_the_instruction() -> None:
    assert user_prompt(" How? ", " I am 31. ")[0].content == "How?\n\nI am 31."
