"""A persona's specification, edited: its fields, its mistakes beside them, its versions, its rates.

In: a persona's folder, and what somebody wrote into a form. Out: every mistake with the field that
it is about; a new version of ``persona.yaml`` with a line of why, the one before it kept beside it;
and how many answers show each trait. The pages call it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from rounds.layout import BASELINE, RESOLVED, RoundFolder
from workbench.errors import UserError
from workbench.persona import Persona, load_persona, persona_file
from workbench.store import atomic_file, locked
from workbench.text import normalize_all
from workbench.values import Frozen
from workbench.yamlfile import mistakes_of, read_yaml

TEXTS = (
    *("name", "role", "audience", "voice.address", "voice.register"),
    *("voice.emoji.min", "voice.emoji.max", "voice.length.min", "voice.length.max"),
    "safety.boundary",
)
"""Fields of one text or number each, by their keys."""
LISTS = ("structure", "must", "must_not", "safety.unsafe_patterns", "topics")
"""Fields with a line for each of their parts."""
TRAIT = ("name", "about", "check")
"""Fields of a trait; its check is YAML, as in the file."""
VERSIONS = "versions"
"""Folder beside the specification: every version before this one, and the line of why."""
_LIST = "versions.jsonl"
_NUMBERS = ("min", "max")


class FieldMistake(NamedTuple):
    """A mistake, and the field of a form that it is about; empty for the whole."""

    field: str
    text: str


class PersonaVersion(Frozen):
    """One version of a specification."""

    version: int
    why: str
    at: str
    """ISO 8601 in UTC."""
    record_id: str
    """Id of the specification, as rows name it among their parents."""


def read_fields(folder: Path) -> dict[str, str]:
    """Return a specification as the fields of a form: dotted key → text.

    Traits are ``traits.0.name`` and so on.

    Raises:
        UserError: There is no readable file.
    """
    data, _ = read_yaml(persona_file(folder))
    fields = {name: _text(_get(data, name)) for name in TEXTS}
    fields |= {name: "\n".join(map(_text, _get(data, name) or ())) for name in LISTS}
    for number, trait in enumerate(data.get("traits") or ()):
        for key in TRAIT:
            fields[f"traits.{number}.{key}"] = (
                _yaml(trait.get(key)) if key == "check" else _text(trait.get(key))
            )
    return fields


def write_fields(
    folder: Path, fields: Mapping[str, str]
) -> tuple[dict[str, Any], FieldMistake | None]:
    """Return the data of a specification with the fields of a form in it, and its mistake in YAML.

    What a form has no field for stays as it is in the file. A trait whose name is empty is left
    out; new ones follow the last number.
    """
    data, _ = read_yaml(persona_file(folder))
    data, mistake = copy.deepcopy(data), None
    for name in TEXTS:
        if name in fields:
            _put(data, name, _value(name, fields[name]))
    for name in LISTS:
        if name in fields:
            _put(data, name, [line.strip() for line in fields[name].splitlines() if line.strip()])
    old, traits = data.get("traits") or [], []
    for number in numbers(fields):
        own = {key: fields.get(f"traits.{number}.{key}", "").strip() for key in TRAIT}
        if not own["name"]:
            continue
        before = old[number] if number < len(old) else {"id": _identifier(own["name"], number)}
        try:
            check = yaml.safe_load(own["check"])
        except yaml.YAMLError as error:
            words = str(getattr(error, "problem", ""))
            mistake = mistake or FieldMistake(f"traits.{number}.check", words)
            check = None
        about = " ".join(own["about"].split())
        traits.append({**before, "name": own["name"], "about": about, "check": check})
    data["traits"] = traits
    topics = set(data.get("topics") or ())
    if names := data.get("topic_names"):
        data["topic_names"] = {key: name for key, name in names.items() if key in topics}
    return data, mistake


def check_fields(folder: Path, fields: Mapping[str, str]) -> list[FieldMistake]:
    """Return every mistake of a form, with the field that it is about."""
    data, mistake = write_fields(folder, fields)
    if mistake:
        return [mistake]
    try:
        Persona.model_validate(normalize_all(data))
    except ValidationError as error:
        return [
            FieldMistake(_field(item["loc"], fields), item["msg"].removeprefix("Value error, "))
            for item in mistakes_of(error)
        ]
    return []


def save_version(folder: Path, fields: Mapping[str, str], why: str) -> Persona:
    """Write a new version of a specification, and return it; the one before stays beside it.

    Raises:
        UserError: There is no line of why, nothing changed, or the form has mistakes.
    """
    path = persona_file(folder)
    if mistakes := check_fields(folder, fields):
        first = mistakes[0]
        raise UserError(f"{first.field or 'the form'}: {first.text}", where=str(path))
    if not why.strip():
        raise UserError("the line of why is empty", where=str(path), fix="say why it changed")
    with locked(folder / f".{VERSIONS}.lock", folder):
        before, (data, _) = load_persona(folder), write_fields(folder, fields)
        if Persona.model_validate(normalize_all(data)) == before:
            raise UserError("nothing changed", where=str(path), fix="change a field first")
        with atomic_file(folder / VERSIONS / f"{before.version}.yaml") as file:
            file.write(path.read_text(encoding="utf-8"))
        data["version"] = before.version + 1
        with atomic_file(path) as file:
            yaml.safe_dump(data, file, allow_unicode=True, sort_keys=False, width=100)
        after = load_persona(folder)
        own = PersonaVersion(
            version=after.version,
            why=" ".join(why.split()),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            record_id=after.record_id,
        )
        lines = [one.model_dump_json() for one in (*versions(folder), own)]
        with atomic_file(folder / VERSIONS / _LIST) as file:
            file.write("\n".join(lines) + "\n")
    return after


def versions(folder: Path) -> list[PersonaVersion]:
    """Return the versions that were saved with a line of why, the first one first."""
    path = folder / VERSIONS / _LIST
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [PersonaVersion.model_validate_json(line) for line in lines if line]


class TraitRate(NamedTuple):
    """How many answers show a rule trait."""

    trait: str
    """Its id."""
    answers: int
    of_answers: int
    base: int
    of_base: int


def answers_of(one: RoundFolder) -> tuple[list[str], list[str]]:
    """Return the kept answers of a round, and the base model's own to its questions."""
    answers = [row.answer for row in one.read_if_there(RESOLVED)]
    return answers, [own.text for own in one.read_if_there(BASELINE) if own.text]


def trait_rates(persona: Persona, answers: Sequence[str], base: Sequence[str]) -> list[TraitRate]:
    """Return how many answers that were kept, and of the base's own, show each rule trait."""
    return [
        TraitRate(
            trait.id,
            sum(bool(trait.passes(text)) for text in answers),
            len(answers),
            sum(bool(trait.passes(text)) for text in base),
            len(base),
        )
        for trait in persona.rule_traits
    ]


def _get(data: Mapping[str, object], name: str) -> Any:
    value: Any = data
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _put(data: dict[str, Any], name: str, value: object) -> None:
    *path, last = name.split(".")
    for key in path:
        data = data.setdefault(key, {})
    if value in ("", []) and last not in data:
        return
    data[last] = value


def _value(name: str, text: str) -> object:
    text = " ".join(text.split())
    return int(text) if name.rpartition(".")[2] in _NUMBERS and text.isdecimal() else text


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=100)
    return str(text).strip()


def numbers(fields: Mapping[str, str]) -> list[int]:
    """Return the numbers of the traits that a form has fields of."""
    parts = (name.split(".") for name in fields if name.startswith("traits."))
    return sorted({int(own[1]) for own in parts if len(own) == 3 and own[1].isdecimal()})


def _identifier(name: str, number: int) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else "_" for c in name.lower()).strip("_")
    return words[:40].strip("_") or f"trait_{number + 1}"


def _field(location: tuple[int | str, ...], fields: Mapping[str, str]) -> str:
    """Return the field of a form that the place of a mistake is in: the longest that fits."""
    keys = [str(part) for part in location]
    for size in range(len(keys), 0, -1):
        name = ".".join(keys[:size])
        if name in fields:
            return name
    return ""


def check_text(check: Mapping[str, object]) -> str:
    """Return a check as the form shows it."""
    return _yaml(json.loads(json.dumps(check)))
