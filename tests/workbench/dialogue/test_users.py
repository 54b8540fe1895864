"""Simulated users: the shipped ones are whole, and a file's mistakes are told with lines."""

from pathlib import Path
from typing import get_args

import pytest

from workbench.dialogue.users import FILE, Behaviour, read_users
from workbench.errors import UserError
from workbench.persona import load_persona

PERSONAS = ("gym-trainer", "gym-trainer-ko")
USERS = """\
users:
  - id: a
    topic: squat
    who: A clerk.
    wants: One exercise.
    behaviour: patient
    manner: Calm.
    first: What do I do?
    lines: ['And then?', 'And tomorrow?']
    satisfied: ['\\bsquat\\b']
    turns: 3
"""


@pytest.mark.parametrize("name", PERSONAS)
def test_every_behaviour_is_there_for_rows_and_for_the_evaluation(repo: Path, name: str) -> None:
    folder = repo / "datasets" / name
    users = read_users(folder / FILE, load_persona(folder).topics)
    assert len(users) == 12
    for held_out in (False, True):
        assert {u.behaviour for u in users if u.held_out == held_out} == set(get_args(Behaviour))


@pytest.mark.parametrize("name", PERSONAS)
def test_nobody_says_what_another_says(repo: Path, name: str) -> None:
    users = read_users(repo / "datasets" / name / FILE)
    lines = ["".join(filter(str.isalnum, one)).casefold() for u in users for one in u.messages]
    assert len(set(lines)) == len(lines)


def test_the_korean_users_write_korean(repo: Path) -> None:
    for user in read_users(repo / "datasets" / "gym-trainer-ko" / FILE):
        for text in (user.who, user.wants, user.manner, *user.messages):
            letters = [c for c in text if c.isalpha()]
            assert sum("가" <= c <= "힣" or "ㄱ" <= c <= "ㅣ" for c in letters) > 0.6 * len(letters)


def test_every_mistake_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    broken = (
        USERS.replace("patient", "grumpy").replace("turns: 3", "turns: 4") + "    heldout: true\n"
    )
    file = tmp_path / FILE
    file.write_text(broken, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_users(file)
    grumpy, unknown = caught.value.lines()
    assert "users.yaml:6: users.0.behaviour: Input should be 'patient'" in grumpy
    assert "users.yaml:12: users.0.heldout: unknown key" in unknown and "held_out" in unknown


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("turns: 3", "turns: 4", 2, "4 turns take 3 lines after the first message"),
        ("'\\bsquat\\b'", "'('", 10, "users.0.satisfied.0"),
        ("topic: squat", "topic: squad", 3, "the persona has no topic 'squad'"),
        ("'And then?'", "' '", 9, "users.0.lines: one is empty"),
        (USERS[6:], USERS[6:] + USERS[6:].lstrip("\n"), 1, "id given twice: a"),
    ],
)
def test_a_mistake_is_told_where_it_stands(
    tmp_path: Path, old: str, new: str, line: int, what: str
) -> None:
    file = tmp_path / FILE
    file.write_text(USERS.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_users(file, ("squat", "sleep"))
    assert f"{FILE}:{line}: " in str(caught.value) and what in str(caught.value)


def test_another_word_of_a_user_is_another_user(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text(USERS, encoding="utf-8")
    (one,) = read_users(file)
    assert one.record_id == one.model_copy().record_id
    assert one.record_id != one.model_copy(update={"who": "A nurse."}).record_id
