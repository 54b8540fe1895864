"""Leaks: related rows in two splits are found in files of any shape, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.leaks import Item, find_leaks, read_items, split_of
from workbench.errors import UserError, UserErrors
from workbench.records import Example, Preference, SplitName, user_prompt

ASKED = "How many push-ups should I do before breakfast?"
REORDERED = "Before breakfast, how many push-ups should I do?"
CHAT = {"messages": [{"role": "user", "content": ASKED}, {"role": "assistant", "content": "Ten."}]}
OTHER = "My shoulder clicks whenever I reach for the top shelf."


def _file(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def _items(tmp_path: Path, **splits: list[dict[str, Any]]) -> list[Item]:
    return [
        item
        for name, rows in splits.items()
        for item in read_items(_file(tmp_path / f"{name}.jsonl", *rows), name)  # type: ignore[arg-type]
    ]


def _example(text: str, **changes: Any) -> dict[str, Any]:
    made = Example(prompt=user_prompt(text), answer="Ten, champ.", **changes)
    return made.model_dump(mode="json")


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": ASKED, "input": "", "output": "Ten."},
        CHAT,
        {"messages": [{"role": "system", "content": "Be kind."}, *CHAT["messages"]]},
        {"conversations": [{"from": "human", "value": ASKED}, {"from": "gpt", "value": "Ten."}]},
        {"prompt": ASKED, "chosen": "Ten.", "rejected": "None."},
        {"prompt": CHAT["messages"][:1], "chosen": CHAT["messages"][1:], "rejected": []},
        {"chosen": CHAT["messages"], "rejected": CHAT["messages"]},
        {"prompt": ASKED},
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]},
        {"question": ASKED, "answer": "Ten."},
        {"text": ASKED},
    ],
)
def test_one_question_is_known_again_in_every_shape(tmp_path: Path, row: dict[str, Any]) -> None:
    items = _items(tmp_path, train=[row], test=[{"instruction": f"  {ASKED.upper()} "}])
    (leak,) = find_leaks(items)
    assert (leak.why, leak.similarity) == ("same question", 1.0)
    assert [leak.one.where, leak.other.where] == [
        f"{tmp_path}/train.jsonl:1",
        f"{tmp_path}/test.jsonl:1",
    ]


@pytest.mark.parametrize(
    ("text", "low"),
    [(ASKED.replace("do before", "do just before"), 0.8), (REORDERED, 0.9)],
)
def test_a_near_duplicate_and_a_paraphrase_are_found_with_their_similarity(
    tmp_path: Path, text: str, low: float
) -> None:
    items = _items(tmp_path, train=[{"prompt": ASKED}, {"prompt": OTHER}], test=[{"prompt": text}])
    (leak,) = find_leaks(items)
    assert leak.why == "question nearly the same"
    assert leak.one.where.endswith("train.jsonl:1")
    assert low <= leak.similarity <= 1


def test_a_korean_paraphrase_is_found(tmp_path: Path) -> None:
    one, other = (
        "야근이 많아서 운동할 시간이 정말 없어요.",
        "운동할 시간이 정말 없어요, 야근이 많아요",
    )
    (leak,) = find_leaks(_items(tmp_path, train=[{"prompt": one}], test=[{"prompt": other}]))
    assert leak.similarity >= 0.8


def test_a_chat_that_opens_with_a_held_out_question_leaks(tmp_path: Path) -> None:
    long = {"messages": [*CHAT["messages"], {"role": "user", "content": "And after lunch?"}]}
    (leak,) = find_leaks(_items(tmp_path, train=[long], test=[{"prompt": ASKED}]))
    assert leak.why == "same question"


def test_different_questions_and_related_rows_in_one_split_are_no_leak(tmp_path: Path) -> None:
    train = [{"prompt": ASKED}, {"prompt": REORDERED}, {"prompt": ASKED}]
    short = {"messages": [*CHAT["messages"], {"role": "user", "content": "Why?"}]}
    test: list[dict[str, Any]] = [
        {"prompt": OTHER},
        {"messages": [{"role": "user", "content": "Why?"}]},
    ]
    assert find_leaks(_items(tmp_path, train=[*train, short], test=test)) == []


def test_numbered_rows_of_two_files_are_not_related(tmp_path: Path) -> None:
    rows = [{"id": 1, "parents": ["persona-0123456789abcdef"], "prompt": t} for t in (ASKED, OTHER)]
    assert find_leaks(_items(tmp_path, train=rows[:1], test=rows[1:])) == []


def test_an_edit_a_pair_and_two_children_of_one_row_are_related(tmp_path: Path) -> None:
    seed = _example(ASKED)
    edit = _example(OTHER, parents=(seed["id"],))
    pair = Preference(
        prompt=user_prompt("Is walking to work enough training for me?"),
        chosen="Yes.",
        rejected="No.",
        parents=(seed["id"],),
    ).model_dump(mode="json")
    found = find_leaks(_items(tmp_path, train=[seed], validation=[edit], test=[pair]))
    names = {(leak.one.split, leak.other.where.split("/")[-1]): leak.why for leak in found}
    assert names == {
        ("train", "validation.jsonl:1"): "one made from the other",
        ("train", "test.jsonl:1"): "one made from the other",
        ("validation", "test.jsonl:1"): "made from the same row",
    }


def test_an_answer_to_a_training_row_is_that_row(tmp_path: Path) -> None:
    seed = _example(ASKED)
    answered = {"id": "rs-0123456789abcdef", "prompt_id": seed["id"], "prompt": "Something else"}
    (leak,) = find_leaks(_items(tmp_path, train=[seed], test=[answered]))
    assert leak.why == "same row"


def test_topics_count_only_when_asked(tmp_path: Path) -> None:
    rows = [_example(text, topic="soreness") for text in (ASKED, OTHER)]
    items = _items(tmp_path, train=rows[:1], test=rows[1:])
    assert find_leaks(items) == []
    assert [leak.why for leak in find_leaks(items, topics=True)] == ["same topic"]


def test_one_held_out_row_among_many_copies_is_told_once(tmp_path: Path) -> None:
    items = _items(tmp_path, train=[{"prompt": ASKED}] * 50, test=[{"prompt": ASKED}])
    assert len(find_leaks(items)) == 1


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("preferences-train.jsonl", "train"),
        ("my_val_rows.jsonl", "validation"),
        ("heldout.jsonl", "test"),
        ("train/part-3.jsonl", "train"),
    ],
)
def test_a_files_name_says_its_split(name: str, split: SplitName) -> None:
    assert split_of(Path(name)) == split


@pytest.mark.parametrize("name", ["rows.jsonl", "train-test.jsonl"])
def test_a_name_that_says_none_or_two_splits_is_told(name: str) -> None:
    with pytest.raises(UserError, match="--split train="):
        split_of(Path("some") / name)


def test_rows_without_a_question_are_told_with_their_lines(tmp_path: Path) -> None:
    path = _file(tmp_path / "train.jsonl", {"prompt": ASKED}, {"answer": "Ten."}, {"prompt": " "})
    with pytest.raises(UserErrors) as error:
        list(read_items(path, "train"))
    assert [line.split(" — ")[0] for line in error.value.lines()] == [
        f"{path}:2: no question is found in it, only 'answer'",
        f"{path}:3: no question is found in it, only 'prompt'",
    ]
