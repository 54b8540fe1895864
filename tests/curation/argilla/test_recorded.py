from __future__ import annotations

import json
from pathlib import Path

import pytest

from curation.argilla.recorded import gold_with_reviews, read_recorded, recorded_of
from curation.review.reliability import read_gold, with_gold_rows
from tests.curation.review_team import seeds
from workbench.config import Policy
from workbench.errors import UserErrors
from workbench.near_duplicates import paraphrase_pairs
from workbench.persona import load_persona
from workbench.records import Example, user_prompt

ROW = "ex-" + "0" * 16
PROBLEMS = {"address": "Address", "unsafe_advice": "Unsafe advice"}


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["gym-trainer", "gym-trainer-ko"])
def test_every_seed_row_has_a_recorded_review_of_both_reviewers(repo: Path, name: str) -> None:
    folder = repo / "datasets" / name
    persona = load_persona(folder)
    found = read_recorded(folder / "reviews.jsonl", persona.problems)
    seeds = (folder / "seeds.jsonl").read_text(encoding="utf-8").splitlines()
    expected = {(n, r) for n in range(1, len(seeds) + 1) for r in ("reviewer-1", "reviewer-2")}
    assert {(review.row, review.reviewer) for review in found} == expected
    assert sum(bool(review.corrected) for review in found) >= 10


def test_empty_answers_are_left_out_since_argilla_refuses_them(tmp_path: Path) -> None:
    row = {"row": 1, "record": ROW, "reviewer": "a", "fidelity": 4, "corrected": "", "note": "ok"}
    (review,) = read_recorded(lines(tmp_path / "reviews.jsonl", row), PROBLEMS)
    assert review.values() == {"fidelity": {"value": 4}, "note": {"value": "ok"}}


def test_all_mistakes_of_the_file_are_told_with_their_lines(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "reviews.jsonl",
        {"row": 1, "record": ROW, "reviewer": "a", "fidelity": 9},
        {"row": 2, "record": ROW, "reviewer": "a", "fidelity": 3, "problems": ["adress"]},
        {"row": 3, "record": ROW, "reviewer": "a"},
        {"row": 4, "reviewer": "a", "fidelity": 3},
    )
    with pytest.raises(UserErrors) as error:
        read_recorded(path, PROBLEMS)
    assert error.value.lines() == [
        f"{path}:1: fidelity: Input should be less than or equal to 5",
        f"{path}:2: problems: unknown adress — one of address, unsafe_advice",
        f"{path}:3: fidelity: Field required",
        f"{path}:4: record: Field required",
    ]


def test_gold_rows_keep_their_outcomes_and_rows_are_drawn_the_same_way(tmp_path: Path) -> None:
    lines(
        tmp_path / "gold.jsonl",
        {"instruction": "Sharp pain?", "output": "Push on.", "outcome": "unsafe_advice"},
        {"instruction": "Tired?", "output": "Walk, champ.", "topic": "sleep", "outcome": "keep"},
    )
    gold = read_gold(tmp_path, Policy())
    assert list(gold.outcomes.values()) == ["unsafe_advice", "keep"]
    assert [row.source for row in gold.examples] == ["gold.jsonl:1", "gold.jsonl:2"]
    rows = [Example(prompt=user_prompt(f"Question {n}?"), answer="Yes.") for n in range(20)]
    strewn = with_gold_rows(rows, gold, "round-001")
    assert strewn == with_gold_rows(rows[::-1], gold, "round-001")
    assert [row for row in strewn if row.id not in gold.outcomes] != rows
    assert {row.id for row in strewn} == {row.id for row in rows} | set(gold.outcomes)


def test_gold_outcome_must_be_one_that_a_reviewer_can_vote_for(tmp_path: Path) -> None:
    path = lines(tmp_path / "gold.jsonl", {"instruction": "Q?", "output": "A.", "outcome": "great"})
    with pytest.raises(UserErrors, match="outcome: unknown 'great'") as error:
        read_gold(path.parent, Policy())
    assert error.value.lines()[0].startswith(f"{path}:1: ")


def test_persona_without_gold_has_an_empty_set(tmp_path: Path) -> None:
    assert read_gold(tmp_path, Policy()).examples == ()


def test_only_gold_rows_with_recorded_reviews_go_into_a_round_that_nobody_reviews(
    repo: Path, tmp_path: Path
) -> None:
    folder = repo / "datasets" / "gym-trainer"
    persona = load_persona(folder)
    gold = read_gold(folder, Policy())
    assert gold_with_reviews(folder, persona, gold, 2) == gold
    assert gold_with_reviews(folder, persona, gold, 3).examples == ()
    assert gold_with_reviews(tmp_path, persona, gold, 1).examples == ()
    third = gold.examples[2].id
    said = [{"row": 3, "record": third, "reviewer": "a", "fidelity": 5}]
    lines(tmp_path / "gold-reviews.jsonl", *said)
    (only,) = gold_with_reviews(tmp_path, persona, gold, 1).examples
    assert only.source == "gold.jsonl:3"


def test_a_recorded_review_is_taken_for_no_row_but_its_own(repo: Path) -> None:
    folder = repo / "datasets" / "gym-trainer"
    persona = load_persona(folder)
    first, second = seeds(folder)[:2]
    known = recorded_of(folder, persona, [first])
    assert [review.reviewer for review in known[first.id]] == ["reviewer-1", "reviewer-2"]
    on_its_line = second.evolve(source=first.source, answer="Another answer, champ.")
    edited = first.evolve(answer="Corrected, champ.", origin="edit", parents=(first.id, "rv-1"))
    made_of = first.evolve(answer="Taught, champ.", origin="teacher", parents=(first.id, "qu-1"))
    assert recorded_of(folder, persona, [on_its_line, edited, made_of]) == {}
    masked = first.evolve(answer="Call [phone], champ.", parents=(first.id,))
    moved = first.evolve(source="seeds.jsonl:99")
    assert recorded_of(folder, persona, [masked, moved]) == {
        masked.id: known[first.id],
        moved.id: known[first.id],
    }


def test_the_shipped_gold_set_is_far_from_every_seed_and_its_right_answers_keep_the_rules(
    repo: Path,
) -> None:
    folder = repo / "datasets" / "gym-trainer"
    persona = load_persona(folder)
    gold = read_gold(folder, Policy())
    right = [row for row in gold.examples if gold.outcomes[row.id] == "keep"]
    assert (len(gold.examples), len(right)) == (8, 4)
    assert [persona.failed_traits(row.answer) for row in right] == [[]] * 4
    asked = [json.loads(line) for line in (folder / "seeds.jsonl").open(encoding="utf-8")]
    texts = [row["instruction"] for row in asked] + [row.question for row in gold.examples]
    near = [pair for pair in paraphrase_pairs(texts, 0.5) if pair[1] >= len(asked)]
    assert near == []
