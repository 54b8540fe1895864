"""Groups of rows that are left out of a training: what is in each, and what goes with it."""

from __future__ import annotations

import pytest

from rounds.ablation import leave_out, parse_group
from workbench.errors import UserError
from workbench.records import Example, Origin, Preference, Review, user_prompt

MINE = Review(reviewer="reviewer-1", record="ex-1", answers={"fidelity": 5})
THEIRS = Review(reviewer="reviewer-2", record="ex-1", answers={"fidelity": 5})
CORRECTED = Review(reviewer="reviewer-1", record="ex-2", answers={"corrected": "Ten, champ. "})


def _row(
    question: str, topic: str, source: str, origin: Origin = "seed", parents: tuple[str, ...] = ()
) -> Example:
    return Example(
        prompt=user_prompt(question),
        answer="Ten, champ.",
        topic=topic,
        source=source,
        origin=origin,
        parents=parents,
    )


ROWS = [
    _row("a", "eating", "seeds.jsonl:1", parents=(MINE.id, THEIRS.id)),
    _row("b", "eating", "seeds.jsonl:2", "edit", (CORRECTED.id, THEIRS.id)),
    _row("c", "soreness", "more.jsonl:1", "imported", (MINE.id,)),
    _row("d", "soreness", "a-teacher", "teacher", (THEIRS.id,)),
]
PAIRS = [
    Preference(prompt=row.prompt, chosen="Ten.", rejected="It depends.", topic=row.topic)
    for row in ROWS
]


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("topic=eating", "ab"),
        ("origin=teacher", "d"),
        ("source=seeds.jsonl", "ab"),
        ("source=a-teacher", "d"),
        ("source=more.jsonl:1", "c"),
        # Nobody else vouches for c, and b is this reviewer's own answer.
        ("reviewer=reviewer-1", "bc"),
    ],
)
def test_a_group_goes_with_the_pairs_of_its_questions(text: str, out: str) -> None:
    rows, pairs = leave_out(parse_group(text), ROWS, PAIRS, [MINE, THEIRS, CORRECTED])
    assert {row.question for row in rows} == set("abcd") - set(out)
    assert [pair.prompt for pair in pairs] == [row.prompt for row in rows]
    assert len(rows) == len(ROWS) - len(out)


def test_random_rows_follow_the_seed() -> None:
    drawn = [leave_out(parse_group("random=2"), ROWS, PAIRS, [], seed=seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert [len(rows) for rows, _ in drawn] == [2, 2, 2]


def test_a_group_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(UserError, match=r"no row of training is .*there are eating, soreness"):
        leave_out(parse_group("topic=sleep"), ROWS, PAIRS, [])
    with pytest.raises(UserError, match="all rows of training are"):
        leave_out(parse_group("random=9"), ROWS, PAIRS, [])


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("soreness", "such as topic=soreness"),
        ("topic=", "such as topic=soreness"),
        ("topics=eating", "did you mean 'topic'"),
        ("random=few", "random=12 to compare with"),
        ("random=²", "random=12 to compare with"),
    ],
)
def test_what_names_no_group_is_one_line(text: str, fix: str) -> None:
    with pytest.raises(UserError, match=f"names no group of rows — .*{fix}"):
        parse_group(text)
