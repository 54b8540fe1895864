"""The persona: what it is, how it speaks, and how each of its traits is checked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from workbench.checks import Check, EmojiHabit, Judge, LengthRange, Pattern, compiled
from workbench.errors import UserError
from workbench.language.packs import known_language, say
from workbench.text import normalize_all
from workbench.values import Frozen
from workbench.yamlfile import read_yaml, validate

Language = Annotated[str, AfterValidator(known_language)]
"""The code of a language whose pack is there."""
GENERAL_PROBLEMS = (
    "unsafe_advice",
    "wrong_fact",
    "refusal",
    "personal_data",
    "duplicate",
    "off_topic",
)
"""Problems of an answer that any persona's reviewer may name, beside the spec's traits."""
FIDELITY = "fidelity"
"""Metric: the mean over the traits that a response was scored on."""
IDENTIFIER = r"^[a-z0-9][a-z0-9_-]*$"


class Voice(Frozen):
    """How the persona speaks."""

    address: str = Field(min_length=1)
    """What it calls the person, such as ``you`` or ``회원님``."""
    register_: str = Field(alias="register", min_length=1)
    """Its tone, in words."""
    emoji: EmojiHabit
    """How many emoji, and where."""
    length: LengthRange
    """How long an answer is."""


class Safety(Frozen):
    """Where the persona stops, and what it never advises."""

    boundary: str = Field(min_length=1)
    """Where it stops and whom it names instead, in words."""
    unsafe_patterns: tuple[Pattern, ...] = ()
    """Regular expressions of what it must never say; a row with one is dropped."""

    def unsafe(self, text: str) -> str:
        """Return the first unsafe phrase in ``text``, or an empty string."""
        matches = (compiled(pattern).search(text) for pattern in self.unsafe_patterns)
        return next((match.group(0) for match in matches if match), "")


class Trait(Frozen):
    """One habit of the persona and how an answer is checked for it."""

    id: str = Field(pattern=IDENTIFIER)
    """Its name in files."""
    name: str = Field(min_length=1)
    """What people read."""
    about: str = Field(min_length=1)
    """What it is, in a sentence for reviewers."""
    source: str = ""
    """Which part of the specification it comes from."""
    check: Check
    """How an answer is checked: a rule, a question to a judge, or both."""
    meaning: Judge | None = None
    """What a rule's mark stands for, as a question to a judge: ``judge`` beside ``rule``."""

    @model_validator(mode="before")
    @classmethod
    def _mark_and_meaning(cls, data: object) -> object:
        """Take ``judge`` and ``rubric`` out of a check that is a rule."""
        check = data.get("check") if isinstance(data, dict) else None
        if not isinstance(data, dict) or not isinstance(check, dict):
            return data
        if not {"rule", "judge"} <= check.keys():
            return data
        meaning = {key: check[key] for key in ("judge", "rubric") if key in check}
        rule = {key: value for key, value in check.items() if key not in meaning}
        return {**data, "check": rule, "meaning": meaning}

    def passes(self, text: str) -> bool | None:
        """Return whether ``text`` shows the trait; None where only a judge can say."""
        return None if isinstance(self.check, Judge) else self.check.passes(text)


class Persona(Frozen):
    """A validated persona specification."""

    id: str = Field(pattern=IDENTIFIER)
    """Its name in files: small letters, digits, hyphens."""
    version: int = Field(ge=1)
    """Raised with every change; each row names the one it was made by."""
    language: Language
    """What it speaks, and what its reviewers read."""
    name: str = Field(min_length=1)
    """What it is called."""
    role: str = Field(min_length=1)
    """Who it is, in a sentence or two."""
    audience: str = Field(min_length=1)
    """Whom it talks to."""
    voice: Voice
    """How it speaks."""
    structure: tuple[str, ...] = Field(min_length=1)
    """The parts of an answer, in their order."""
    must: tuple[str, ...] = ()
    """What it always does, a sentence each."""
    must_not: tuple[str, ...] = ()
    """What it never does, a sentence each."""
    safety: Safety
    """Where it stops."""
    topics: tuple[str, ...] = Field(min_length=1)
    """What it is asked about; whole topics are held out for the test."""
    topic_names: dict[str, str] = Field(default_factory=dict)
    """Topic → what people read in its place."""
    train_only: tuple[str, ...] = ()
    """Topics whose rows all go to training: what they teach is tried by probes instead."""
    few_shot: tuple[int, ...] = ()
    """Lines of ``seeds.jsonl``, from 1, that a teacher sees as examples; by default any."""
    traits: tuple[Trait, ...] = Field(min_length=1)
    """The habits that its fidelity is made of."""

    @field_validator("topics")
    @classmethod
    def _once(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [topic for topic, count in Counter(topics).items() if count > 1]:
            raise ValueError(f"given twice: {', '.join(twice)}")
        return topics

    @field_validator("topic_names")
    @classmethod
    def _of_known_topics(cls, names: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if unknown := set(names) - set(info.data.get("topics", names)):
            raise ValueError(f"not among the topics: {', '.join(sorted(unknown))}")
        return names

    @field_validator("train_only")
    @classmethod
    def _among_topics(cls, topics: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if unknown := set(topics) - set(info.data.get("topics", topics)):
            raise ValueError(f"not among the topics: {', '.join(sorted(unknown))}")
        return topics

    @field_validator("traits")
    @classmethod
    def _distinct(cls, traits: tuple[Trait, ...]) -> tuple[Trait, ...]:
        counts = Counter(trait.id for trait in traits)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"trait given twice: {', '.join(twice)}")
        if reserved := set(counts) & {*GENERAL_PROBLEMS, FIDELITY}:
            raise ValueError(f"reserved name: {', '.join(sorted(reserved))}")
        return traits

    @model_validator(mode="after")
    def _checkable(self) -> Self:
        if not self.rule_traits:
            raise ValueError("traits: at least one needs a rule, or nothing can be scored offline")
        return self

    @property
    def rule_traits(self) -> tuple[Trait, ...]:
        """The traits that a rule checks."""
        return tuple(trait for trait in self.traits if not isinstance(trait.check, Judge))

    @property
    def problems(self) -> dict[str, str]:
        """Problem id → its name, for reviewers: the traits, then the general problems."""
        general = {key: say(self.language, f"problem.{key}") for key in GENERAL_PROBLEMS}
        return {**{trait.id: trait.name for trait in self.traits}, **general}

    @property
    def record_id(self) -> str:
        """A hash of the whole specification; a parent of every row made with it."""
        data = self.model_dump(mode="json", exclude_none=True)
        text = json.dumps(data, ensure_ascii=False, sort_keys=True)
        return f"persona-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def topic_name(self, topic: str) -> str:
        """Return the topic as a reader sees it."""
        return self.topic_names.get(topic, topic.replace("_", " "))

    def failed_traits(self, text: str) -> list[str]:
        """Return the ids of the rule traits that ``text`` does not show."""
        return [trait.id for trait in self.rule_traits if not trait.passes(text)]


def persona_file(path: Path) -> Path:
    """Return the specification's file, given it or its folder."""
    return path / "persona.yaml" if path.is_dir() else path


def load_persona(path: Path) -> Persona:
    """Load and validate a persona from its folder or its ``persona.yaml``.

    Raises:
        UserError: Unreadable or broken file; every mistake of it at once, each with its line.
    """
    file = persona_file(path)
    if not file.exists():
        raise UserError(
            "no persona.yaml there",
            where=str(path),
            fix="name a persona's folder by --persona; `persona new` makes one",
        )
    data, lines = read_yaml(file)
    # Rows are normalized where they enter; what they are held against has to be, too.
    return validate(Persona, normalize_all(data), normalize_all(lines), file)
