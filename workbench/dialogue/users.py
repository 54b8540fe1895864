"""Simulated users: the typed content of a persona's ``users.yaml``.

In: the file. Out: a :class:`SimulatedUser` each, every mistake of the file with its line.
Generation takes those for training, evaluation those that are held out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from workbench.checks import Pattern, compiled
from workbench.errors import UserError, UserErrors, nearest
from workbench.text import normalize_all
from workbench.values import Settings
from workbench.yamlfile import line_of, read_yaml, validate

FILE = "users.yaml"
"""Name of the file in a persona's folder."""
MOST_TURNS = 10
"""Longest conversation that may be asked for, in answers of the assistant."""
Behaviour = Literal["patient", "hurried", "contrary", "off_topic", "distressed", "breaker"]
"""Takes the time; is in a hurry; contradicts; strays; is in distress; tries to break the act."""


ConversationEnd = Literal["goal_met", "given_up", "turns_out", "no_answer", "user_failed"]
"""The user has what they came for; sees no use in going on; has no turn left; the assistant gave no
answer; the model that plays the user failed."""


class SimulatedUser(Settings):
    """Somebody who talks to an assistant, with a goal of their own."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Its name in files."""
    topic: str = Field(min_length=1)
    """The persona's topic that it is about."""
    who: str = Field(min_length=1)
    """Who they are, in a sentence."""
    wants: str = Field(min_length=1)
    """What they came for; with it the conversation has reached its goal."""
    behaviour: Behaviour
    """How they behave, as reports count it."""
    manner: str = Field(min_length=1)
    """How they behave, in words."""
    first: str = Field(min_length=1)
    """Their first message."""
    lines: tuple[str, ...] = Field(min_length=1)
    """What they say after it, one by one, where no model plays them."""
    satisfied: tuple[Pattern, ...] = Field(min_length=1)
    """Each of these stands in an answer once the goal is met, for one who is played by lines."""
    turns: int = Field(default=6, ge=2, le=MOST_TURNS)
    """Most answers that they wait for."""
    held_out: bool = False
    """Whether they talk in evaluations alone, never for rows to train on."""

    @field_validator("lines")
    @classmethod
    def _worded(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        if any(not line.strip() for line in lines):
            raise ValueError("one is empty")
        return lines

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if len(self.lines) < self.turns - 1:
            raise ValueError(
                f"lines: {self.turns} turns take {self.turns - 1} lines after the first message"
            )
        return self

    @property
    def messages(self) -> tuple[str, ...]:
        """All that they say where no model plays them."""
        return (self.first, *self.lines[: self.turns - 1])

    @property
    def record_id(self) -> str:
        """A hash of all of it; every conversation that they took part in names it."""
        text = json.dumps(self.model_dump(mode="json"), ensure_ascii=False, sort_keys=True)
        return f"user-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def is_satisfied(self, answers: Collection[str]) -> bool:
        """Return whether the answers hold all that they came for."""
        return all(any(compiled(p).search(text) for text in answers) for p in self.satisfied)


class UsersFile(Settings):
    """The people who talk to a persona."""

    users: tuple[SimulatedUser, ...] = Field(min_length=1)
    """One entry a person."""

    @field_validator("users")
    @classmethod
    def _once(cls, users: tuple[SimulatedUser, ...]) -> tuple[SimulatedUser, ...]:
        for name in ("id", "first"):
            counts = Counter(str(getattr(user, name)) for user in users)
            if twice := [text for text, count in counts.items() if count > 1]:
                raise ValueError(f"{name} given twice: {', '.join(twice)}")
        return users


def read_users(path: Path, topics: Collection[str] = ()) -> list[SimulatedUser]:
    """Return the simulated users of a file.

    Without ``topics``, the persona's, nobody looks whether theirs are among them.

    Raises:
        UserErrors: Every mistake of the file, each with its line.
    """
    data, lines = read_yaml(path)
    users = validate(UsersFile, normalize_all(data), normalize_all(lines), path).users
    mistakes = [
        UserError(
            f"users.{place}.topic: the persona has no topic '{user.topic}'",
            where=f"{path}:{line_of(lines, ('users', place, 'topic'))}",
            fix=nearest(user.topic, topics) or f"one of {', '.join(topics)}",
        )
        for place, user in enumerate(users)
        if topics and user.topic not in topics
    ]
    if mistakes:
        raise UserErrors(mistakes)
    return list(users)
