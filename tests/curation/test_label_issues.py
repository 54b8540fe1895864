"""Label quality of answers: a planted wrong row ranks first, in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.label_issues import LabelledAnswer, label_quality
from workbench.store import read_json_lines

BASELINE = (
    "There are several factors that contribute to {}. It is important to consult a professional"
    " before beginning any programme, and to consider individual needs and circumstances."
)


def _rows(persona: str) -> list[LabelledAnswer]:
    """Return 60 seed answers of a persona as kept, each with an answer in another voice as not."""
    folder = Path("datasets") / persona
    faulty = {row["row"] for _, row in read_json_lines(folder / "faults.jsonl")}
    rows = [(n, row) for n, row in read_json_lines(folder / "seeds.jsonl") if n not in faulty][:60]
    answers = [LabelledAnswer(f"{n}", f"{n}", row["output"], True) for n, row in rows]
    others = [
        LabelledAnswer(f"baseline-{n}", f"{n}", BASELINE.format(row["instruction"]), False)
        for n, row in rows
    ]
    return answers + others


@pytest.mark.parametrize("persona", ["gym-trainer", "gym-trainer-ko"])
def test_a_planted_wrong_row_ranks_first_among_the_kept(persona: str) -> None:
    answers = _rows(persona)
    planted = LabelledAnswer("planted", "planted", BASELINE.format("스쿼트 squats"), True)
    qualities = label_quality([*answers, planted])
    kept = [one for one in qualities if one.label]
    assert kept[0].id == "planted"
    assert kept[0].issue
    assert kept[0].quality < 0.2 < kept[1].quality
    assert sum(one.issue for one in qualities) == 1


def test_with_too_few_of_a_label_nothing_is_said() -> None:
    answers = _rows("gym-trainer")
    assert label_quality([one for one in answers if one.label]) == []
    assert label_quality([]) == []


def test_a_label_that_only_one_prompt_has_says_nothing() -> None:
    kept = [one for one in _rows("gym-trainer") if one.label]
    # Without that prompt's fold there would be one label to learn from.
    dropped = [LabelledAnswer(f"no-{n}", kept[0].prompt, f"No. {n}", False) for n in range(12)]
    assert label_quality([*kept, *dropped]) == []
