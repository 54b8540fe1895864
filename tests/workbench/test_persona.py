"""The persona file: valid ones load, and all mistakes of a broken one are told with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workbench.errors import UserError
from workbench.language import languages
from workbench.persona import Persona, load_persona
from workbench.prompts import system_prompt

SPEC = """\
id: coach
version: 1
language: en
name: Coach
role: A trainer.
audience: Office workers.
voice:
  address: champ
  register: Short sentences.
  emoji: {min: 1, max: 2, where: closing}
  length: {min: 5, max: 40, unit: words}
structure: [Names the problem.]
must: [One order.]
must_not: [Lists.]
safety:
  boundary: Pain means a doctor.
  unsafe_patterns: ['\\bthrough the pain\\b']
topics: [squat, sleep]
topic_names: {squat: Squat}
traits:
  - id: address
    name: Address
    about: Says champ.
    check: {rule: matches, patterns: ['\\bchamp\\b'], where: opening}
  - id: warm
    name: Warm
    about: Is warm.
    check: {judge: Is it warm}
"""


def _write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "persona.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def _lines(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_persona(_write(tmp_path, text))
    return [line.removeprefix(str(tmp_path / "persona.yaml")) for line in caught.value.lines()]


def test_a_valid_file_loads_and_its_rules_work(tmp_path: Path) -> None:
    persona = load_persona(_write(tmp_path, SPEC))
    assert persona.failed_traits("Stand up, champ. Walk.") == []
    assert persona.failed_traits("Stand up. Walk, champ.") == ["address"]
    assert [trait.id for trait in persona.rule_traits] == ["address"]
    assert persona.safety.unsafe("Work THROUGH the pain") == "THROUGH the pain"
    assert persona.topic_name("squat") == "Squat"
    assert persona.topic_name("sleep") == "sleep"


def test_all_mistakes_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = (
        SPEC.replace("language: en", "language: xx")
        .replace("  register:", "  registre:")
        .replace("min: 5, max: 40", "min: 50, max: 40")
        .replace("['\\bchamp\\b'], where: opening", "['(champ'], where: opening")
    )
    assert _lines(tmp_path, text) == [
        f":3: language: there is no pack 'xx' among {', '.join(languages())}",
        ":7: voice.register: is missing",
        ":9: voice.registre: unknown key — did you mean 'register'?",
        ":11: voice.length: min 50 is more than max 40",
        ":24: traits.0.check.matches.patterns.0: bad pattern '(champ': missing ), unterminated"
        " subpattern at position 0",
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("id: warm", "id: address"), ":20: traits: trait given twice: address"),
        (("id: warm", "id: refusal"), ":20: traits: reserved name: refusal"),
        (("{squat: Squat}", "{legs: Legs}"), ":19: topic_names: not among the topics: legs"),
        (("[squat, sleep]", "[squat, squat]"), ":18: topics: given twice: squat"),
        (
            ("{rule: matches, patterns: ['\\bchamp\\b'], where: opening}", "{judge: Ok}"),
            ":1: traits: at least one needs a rule, or nothing can be scored offline",
        ),
        (
            ("rule: matches", "rule: match"),
            ":24: traits.0.check: needs 'rule: matches|lacks|emoji|length|calls_by|politeness|"
            "address|speech_level|honorifics' or 'judge: <question>'",
        ),
    ],
)
def test_contradictions_are_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert told in _lines(tmp_path, SPEC.replace(*change))


def test_a_key_given_twice_is_told_with_its_line(tmp_path: Path) -> None:
    assert _lines(tmp_path, SPEC + "version: 2\n") == [":29: 'version' is given twice — keep one"]


def test_broken_yaml_tells_the_line(tmp_path: Path) -> None:
    (line,) = _lines(tmp_path, "id: coach\nname: [Coach\nrole: x\n")
    assert line.startswith(":3: broken YAML")


def test_another_encoding_is_told(tmp_path: Path) -> None:
    file = tmp_path / "persona.yaml"
    file.write_bytes("name: 코치\n".encode("euc-kr"))
    with pytest.raises(UserError, match="is not UTF-8"):
        load_persona(file)


def test_a_missing_folder_is_told_with_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no persona\.yaml there — name a persona's folder"):
        load_persona(tmp_path)


def test_the_record_id_follows_the_content(tmp_path: Path) -> None:
    one = load_persona(_write(tmp_path, SPEC))
    other = load_persona(_write(tmp_path, SPEC.replace("One order.", "Two orders.")))
    assert one.record_id == load_persona(_write(tmp_path, SPEC)).record_id
    assert one.record_id != other.record_id


@pytest.mark.parametrize("name", ["gym-trainer", "gym-trainer-ko"])
def test_the_shipped_personas_are_valid_and_speak_in_their_prompt(repo: Path, name: str) -> None:
    persona = load_persona(repo / "datasets" / name)
    prompt = system_prompt(persona)
    assert persona.id == name
    assert persona.voice.address in prompt
    assert persona.safety.boundary.strip() in prompt
    assert all(step.strip() in prompt for step in persona.structure)


def test_a_persona_survives_its_own_yaml(tmp_path: Path) -> None:
    persona = load_persona(_write(tmp_path, SPEC))
    text = yaml.safe_dump(persona.model_dump(mode="json", by_alias=True), allow_unicode=True)
    assert Persona.model_validate(yaml.safe_load(text)) == persona
