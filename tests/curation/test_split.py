"""Splits: whole groups on one side, the same sides for the same seed, no sibling across."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from curation.split import SplitRows, SplitSettings, split_rows
from workbench.errors import UserError
from workbench.records import Example, Preference, user_prompt

TOPICS = [f"topic_{n}" for n in range(10)]


def _example(topic: str, n: int, **changes: object) -> Example:
    words = [f"{topic}w{n}q{k}" for k in range(6)]
    data = {
        "prompt": user_prompt(" ".join(words)),
        "answer": f"Answer {topic} {n}.",
        "topic": topic,
    }
    return Example.model_validate(data | changes)


def _rows() -> list[Example]:
    return [_example(topic, n) for topic in TOPICS for n in range(10)]


def _sides(rows: SplitRows) -> dict[str, str]:
    return {split.record: split.side for split in rows.splits}


def _split(
    examples: Sequence[Example], preferences: Sequence[Preference] = (), seed: int = 0
) -> SplitRows:
    return split_rows(examples, preferences, seed=seed)


def test_every_row_is_on_exactly_one_side() -> None:
    rows = _rows()
    made = _split(rows)
    assert sorted(e.id for side in made.examples.values() for e in side) == sorted(
        row.id for row in rows
    )
    assert {side: len(found) for side, found in made.examples.items()} == {
        "train": 70,
        "validation": 10,
        "test": 20,
    }


def test_a_topic_is_never_divided() -> None:
    made = _split(_rows())
    for topic in TOPICS:
        sides = {s for s, rows in made.examples.items() if any(r.topic == topic for r in rows)}
        assert len(sides) == 1


def test_the_same_seed_gives_the_same_sides_whatever_the_order_of_rows() -> None:
    rows = _rows()
    assert _sides(_split(rows)) == _sides(_split(list(reversed(rows))))


def test_another_seed_holds_out_other_topics() -> None:
    tests = {tuple(_split(_rows(), seed=seed).groups("test")) for seed in range(6)}
    assert len(tests) > 1


def test_a_pair_stays_with_its_question() -> None:
    rows = _rows()
    pairs = [
        Preference(prompt=row.prompt, chosen=row.answer, rejected="No.", topic=row.topic)
        for row in rows
    ]
    made = _split(rows, pairs)
    for side, found in made.preferences.items():
        questions = {row.prompt for row in made.examples[side]}
        assert {pair.prompt for pair in found} == questions


def test_an_edit_stays_with_the_row_that_it_came_from() -> None:
    rows = _rows()
    edits = [_example("", n, parents=(rows[n * 10].id,)) for n in range(10)]
    sides = _sides(_split([*rows, *edits]))
    assert all(sides[edit.id] == sides[edit.parents[0]] for edit in edits)


def test_near_duplicate_questions_join_their_topics() -> None:
    rows = _rows()
    text = rows[0].question
    rows.append(_example(TOPICS[9], 99, prompt=user_prompt(f"{text}!")))
    made = _split(rows)
    groups = {split.record: split.group for split in made.splits}
    assert groups[rows[-1].id] == groups[rows[0].id]
    assert groups[rows[-1].id] == groups[rows[90].id] == TOPICS[0]


def test_rows_without_a_topic_are_groups_of_their_own() -> None:
    made = _split([_example("", n) for n in range(40)])
    assert {side: len(rows) for side, rows in made.examples.items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }


def test_too_few_groups_is_told() -> None:
    rows = [_example(topic, n) for topic in TOPICS[:2] for n in range(9)]
    with pytest.raises(UserError, match="2 groups of rows are too few"):
        _split(rows)


def test_without_validation_only_test_is_held_out() -> None:
    made = split_rows(_rows(), [], seed=0, settings=SplitSettings(validation=0))
    assert len(made.examples["validation"]) == 0
