"""A specification edited: mistakes beside their fields, versions that lose nothing, rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from rounds.specification import (
    FieldMistake,
    check_fields,
    numbers,
    read_fields,
    save_version,
    trait_rates,
    versions,
)
from tests.generation.conftest import PERSONA
from workbench.errors import UserError
from workbench.persona import load_persona


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "persona.yaml").write_text(f"# By hand.\n{PERSONA}", encoding="utf-8")
    return tmp_path


def test_a_form_has_every_field_and_changes_nothing_by_itself(folder: Path) -> None:
    fields = read_fields(folder)
    assert fields["voice.emoji.max"] == "2"
    assert fields["structure"] == "names the problem\none thing to do right now"
    assert fields["traits.0.check"] == "rule: matches\npatterns:\n- \\bchamp\\b"
    assert numbers(fields) == [0]
    assert check_fields(folder, fields) == []
    for shipped in ("datasets/gym-trainer", "datasets/gym-trainer-ko"):
        assert check_fields(Path(shipped), read_fields(Path(shipped))) == []
    with pytest.raises(UserError, match="nothing changed"):
        save_version(folder, fields, "why")


@pytest.mark.parametrize(
    ("field", "text", "mistake"),
    [
        ("name", "", "String should have at least 1 character"),
        ("voice.emoji.max", "many", "valid integer"),
        ("voice.length.max", "", "valid integer"),
        ("structure", " \n", "at least 1 item"),
        ("topics", "squat\nsquat", "given twice: squat"),
        ("traits.0.check", "rule: matches\npatterns: ['(']", "bad pattern"),
        ("traits.0.check", "rule: match\n", "needs 'rule: matches|"),
        ("traits.0.check", "rule: [", "expected the node content"),
        ("traits.0.about", "", "at least 1 character"),
        ("safety.unsafe_patterns", "fine\n(", "bad pattern"),
    ],
)
def test_a_mistake_stands_beside_its_field(
    folder: Path, field: str, text: str, mistake: str
) -> None:
    fields = {**read_fields(folder), field: text}
    (own,) = check_fields(folder, fields)
    assert own.field == field
    assert mistake in own.text
    with pytest.raises(UserError):
        save_version(folder, fields, "why")
    assert load_persona(folder).version == 1


def test_a_mistake_of_the_whole_has_no_field(folder: Path) -> None:
    fields = {**read_fields(folder), "traits.0.check": "judge: Is it kind?"}
    assert check_fields(folder, fields) == [
        FieldMistake("", "traits: at least one needs a rule, or nothing can be scored offline")
    ]


def test_a_version_is_saved_with_why_and_the_one_before_stays(folder: Path) -> None:
    before = (folder / "persona.yaml").read_text(encoding="utf-8")
    fields = {
        **read_fields(folder),
        "name": "Trainer",
        "traits.1.name": "Says now",
        "traits.1.about": "Gives an order",
        "traits.1.check": "{rule: matches, patterns: ['\\bnow\\b']}",
        "traits.2.name": "",
        "traits.2.check": "left out",
    }
    with pytest.raises(UserError, match="line of why is empty"):
        save_version(folder, fields, " ")
    after = save_version(folder, fields, " A better \n name ")
    assert (after.version, after.name) == (2, "Trainer")
    assert [trait.id for trait in after.traits] == ["address", "says_now"]
    assert after.topic_names == {"squat": "Squats", "sleep": "Sleep and rest"}
    assert (folder / "versions" / "1.yaml").read_text(encoding="utf-8") == before
    (own,) = versions(folder)
    assert (own.version, own.why, own.record_id) == (2, "A better name", after.record_id)
    save_version(folder, {**read_fields(folder), "traits.1.name": ""}, "One less")
    assert [trait.id for trait in load_persona(folder).traits] == ["address"]
    assert [one.why for one in versions(folder)] == ["A better name", "One less"]


def test_rates_count_what_passes_on_either_side(folder: Path) -> None:
    (rate,) = trait_rates(load_persona(folder), ["Up, champ.", "Up."], ["I am a champion."])
    assert rate == ("address", 1, 2, 0, 1)
