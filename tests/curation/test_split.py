"""Splits: whole groups in one split, the same splits for the same seed, no related rows across."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from time import process_time

import pytest

from curation.leaks import Item, find_leaks
from curation.related_rows import Placed, questions_of, record_ids
from curation.split import SplitRows, assign_groups, split_rows
from workbench.config import SplitSettings
from workbench.errors import UserError
from workbench.records import SPLITS, Example, Message, Preference, Role, SplitName, user_prompt

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


def _splits(rows: SplitRows) -> dict[str, str]:
    return {one.record: one.split for one in rows.assignments}


def _split(
    examples: Sequence[Example], preferences: Sequence[Preference] = (), seed: int = 0
) -> SplitRows:
    return split_rows(examples, preferences, seed=seed)


def test_every_row_is_on_exactly_one_split() -> None:
    rows = _rows()
    made = _split(rows)
    assert sorted(e.id for split in made.examples.values() for e in split) == sorted(
        row.id for row in rows
    )
    assert {split: len(found) for split, found in made.examples.items()} == {
        "train": 70,
        "validation": 10,
        "test": 20,
    }


def test_a_topic_is_never_divided() -> None:
    made = _split(_rows())
    for topic in TOPICS:
        splits = {s for s, rows in made.examples.items() if any(r.topic == topic for r in rows)}
        assert len(splits) == 1


def test_spread_topics_give_every_split_its_share_and_still_keep_related_rows_together() -> None:
    rows = _rows()
    edit = _example(TOPICS[0], 50, origin="edit", parents=(rows[0].id,))
    again = rows[15].evolve(answer="Another answer.", topic=TOPICS[9])
    settings = SplitSettings(topics="spread")
    made = split_rows([*rows, edit, again], [], seed=3, settings=settings)
    assert made.examples == split_rows([*rows, edit, again], [], seed=3, settings=settings).examples
    for topic in TOPICS:
        held = sum(row.topic == topic for row in made.examples["test"])
        assert 1 <= held <= 3, "a fifth of 10 or 11 rows, give or take a group of two"
    sizes = {split: len(found) for split, found in made.examples.items()}
    assert 20 <= sizes["test"] <= 22 and sum(sizes.values()) == 102
    splits = _splits(made)
    assert splits[edit.id] == splits[rows[0].id]
    assert splits[again.id] == splits[rows[15].id]


def test_the_same_seed_gives_the_same_splits_whatever_the_order_of_rows() -> None:
    rows = _rows()
    assert _splits(_split(rows)) == _splits(_split(list(reversed(rows))))


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
    for split, found in made.preferences.items():
        questions = {row.prompt for row in made.examples[split]}
        assert {pair.prompt for pair in found} == questions


def test_an_edit_stays_with_the_row_that_it_came_from() -> None:
    rows = _rows()
    edits = [_example("", n, parents=(rows[n * 10].id,)) for n in range(10)]
    splits = _splits(_split([*rows, *edits]))
    assert all(splits[edit.id] == splits[edit.parents[0]] for edit in edits)


def test_near_duplicate_questions_join_their_topics() -> None:
    rows = _rows()
    text = rows[0].question
    rows.append(_example(TOPICS[9], 99, prompt=user_prompt(f"{text}!")))
    made = _split(rows)
    groups = {split.record: split.group for split in made.assignments}
    assert groups[rows[-1].id] == groups[rows[0].id]
    assert groups[rows[-1].id] == groups[rows[90].id] == TOPICS[0]


def test_rows_without_a_topic_are_groups_of_their_own() -> None:
    made = _split([_example("", n) for n in range(40)])
    assert {split: len(rows) for split, rows in made.examples.items()} == {
        "train": 28,
        "validation": 4,
        "test": 8,
    }


def test_too_few_groups_is_told() -> None:
    rows = [_example(topic, n) for topic in TOPICS[:2] for n in range(9)]
    with pytest.raises(UserError, match="too few for train, validation and test: 2 groups of rows"):
        _split(rows)


def test_without_validation_only_test_is_held_out() -> None:
    made = split_rows(_rows(), [], seed=0, settings=SplitSettings(validation=0))
    assert len(made.examples["validation"]) == 0


def _placed(made: SplitRows) -> list[Placed]:
    """Return the rows of a split as a later round finds them."""
    kinds = (made.examples, made.preferences)
    return [
        Placed(row, split, "round-001")
        for kind in kinds
        for split, rows in kind.items()
        for row in rows
    ]


def test_a_group_keeps_its_split_in_later_rounds_whatever_the_seed() -> None:
    rows = _rows()
    first = _split(rows)
    new = [
        _example(topic, n, prompt=user_prompt(sha256(f"{topic} {n}".encode()).hexdigest()))
        for topic in (*TOPICS, "topic_new")
        for n in range(4)
    ]
    later = split_rows([*rows[:50], *new], [], seed=5, earlier=_placed(first))
    split_by_topic = {row.topic: split for split, rows in first.examples.items() for row in rows}
    for split, found in later.examples.items():
        assert {row.topic for row in found} - {"topic_new"} == {
            topic for topic, its in split_by_topic.items() if its == split
        }
    assert later.drops == []


def test_a_question_held_out_earlier_holds_out_its_paraphrase_though_it_is_gone_itself() -> None:
    rows = _rows()
    first = _split(rows)
    held = first.examples["test"][0]
    reordered = " ".join(reversed(held.question.split()))
    new = _example("", 0, prompt=user_prompt(reordered))
    others = [row for row in rows if row.topic != held.topic]
    later = split_rows([*others, new], [], seed=0, earlier=_placed(first))
    assert _splits(later)[new.id] == "test"


def test_a_new_row_that_would_join_two_splits_is_dropped_and_names_both() -> None:
    rows = _rows()
    first = _split(rows)
    held, trained = first.examples["test"][0], first.examples["train"][0]
    joining = _example(trained.topic, 99, prompt=held.prompt, source="new.jsonl:3")
    pair = Preference(prompt=held.prompt, chosen="Yes.", rejected="No.", topic=trained.topic)
    later = split_rows([*rows, joining], [pair], seed=0, earlier=_placed(first))
    assert {(drop.record, drop.reason, drop.stage) for drop in later.drops} == {
        (joining.id, "joins_two_splits", "split"),
        (pair.id, "joins_two_splits", "split"),
    }
    assert "(test)" in later.drops[0].detail and "(train)" in later.drops[0].detail
    assert {row: _splits(later)[row] for row in _splits(first)} == _splits(first)


def test_in_a_first_round_a_row_of_two_topics_joins_them_instead() -> None:
    rows = _rows()
    joining = _example(TOPICS[1], 99, prompt=rows[0].prompt)
    made = _split([*rows, joining])
    assert made.drops == []
    assert len({_splits(made)[r.id] for r in rows if r.topic in TOPICS[:2]}) == 1


def test_earlier_rounds_that_contradict_each_other_are_told() -> None:
    rows = _rows()
    earlier = [Placed(rows[0], "train", "round-001"), Placed(rows[1], "test", "round-002")]
    with pytest.raises(
        UserError, match=r"related rows in two splits: round-002 ex-.* \(test\), round-001"
    ):
        split_rows(rows, [], seed=0, earlier=earlier)


def test_a_later_round_of_old_topics_alone_needs_no_new_groups() -> None:
    rows = _rows()
    first = _split(rows)
    only = [row for row in rows if row.topic == first.examples["train"][0].topic]
    later = split_rows(only, [], seed=0, earlier=_placed(first))
    assert len(later.examples["train"]) == len(only)


def test_what_is_split_passes_the_leak_check() -> None:
    from curation.leaks import Item, find_leaks
    from curation.related_rows import questions_of

    rows = _rows()
    turned = [
        _example("", n, prompt=user_prompt(" ".join(reversed(row.question.split()))))
        for n, row in enumerate(rows[::7])
    ]
    made = _split([*rows, *turned])
    items = [
        Item(row.id, split, questions_of(row), (row.id,), row.topic)
        for split, found in made.examples.items()
        for row in found
    ]
    assert find_leaks(items, topics=True) == []


def test_the_splits_of_many_groups_are_drawn_in_a_moment() -> None:
    members = {f"group-{n}": 1 + n % 3 for n in range(30_000)}
    strata = dict.fromkeys(members, "")
    started = process_time()
    splits = assign_groups(members, strata, {}, 0, SplitSettings(test=0.2, validation=0.1))
    # Each choice looks at sizes, not at groups: looking at all of them took a minute.
    assert process_time() - started < 3
    rows: Counter[str] = Counter()
    for group, split in splits.items():
        rows[split] += members[group]
    assert rows["test"] == pytest.approx(0.2 * 60_000, abs=2)
    assert rows["validation"] == pytest.approx(0.1 * 60_000, abs=2)
    assert sum(rows.values()) == sum(members.values())


def test_topics_that_are_only_trained_on_count_for_no_share() -> None:
    rows = _rows()
    without = split_rows(rows, [], seed=0)
    taught = [_example("honesty", n) for n in range(12)]
    splits = split_rows([*rows, *taught], [], seed=0, train_only=("honesty",))
    assert splits.examples["test"] == without.examples["test"]
    assert {row.id for row in taught} <= {row.id for row in splits.examples["train"]}


def _talks() -> tuple[list[Example], list[Preference]]:
    """Twelve users, each in two conversations that go on in other words, a pair at each turn."""
    rows, pairs = [], []
    for n in range(24):
        first = " ".join(f"u{n % 12}w{k}first" for k in range(6))
        later = " ".join(f"c{n}w{k}later" for k in range(6))
        roles: tuple[Role, ...] = ("user", "assistant", "user")
        texts = zip(roles, (first, f"Sit {n}.", later), strict=True)
        prompt = tuple(Message(role=role, content=text) for role, text in texts)
        row = Example(prompt=prompt, answer=f"Stand {n}.", parents=(f"cv-{n:016x}",))
        rows.append(row)
        pairs += [
            Preference(
                prompt=prompt[:end], chosen=good, rejected="No.", parents=(row.id, f"cr-{n:016x}")
            )
            for end, good in ((1, f"Sit {n}."), (3, row.answer))
        ]
    return rows, pairs


def _items(made: SplitRows) -> list[Item]:
    return [
        Item(one.id, split, questions_of(one), (one.id, *record_ids(one.parents)))
        for split in SPLITS
        for one in (*made.examples[split], *made.preferences[split])
    ]


def test_a_conversation_its_turns_and_its_siblings_stand_in_one_split() -> None:
    rows, pairs = _talks()
    settings = SplitSettings(topics="spread", test=0.25, validation=0.25)
    made = split_rows(rows, pairs, seed=1, settings=settings)
    splits = _splits(made)
    assert {len(found) for found in made.examples.values()} <= set(range(4, 17, 2))
    for n, row in enumerate(rows):
        related = {splits[row.id], splits[rows[(n + 12) % 24].id]}
        assert related | {splits[pair.id] for pair in pairs[2 * n : 2 * n + 2]} == related
        assert len(related) == 1
    items = _items(made)
    assert find_leaks(items) == []
    # And the check is not blind: one turn of a conversation on another side is found.
    place = next(i for i, item in enumerate(items) if item.ids[0] == pairs[0].id)
    other: SplitName = "train" if items[place].split != "train" else "test"
    items[place] = replace(items[place], split=other)
    assert {pairs[0].id} & {
        id_ for leak in find_leaks(items) for id_ in leak.one.ids + leak.other.ids
    }
