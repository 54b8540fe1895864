"""Probe sets: questions that try a persona where ordinary ones do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, ValidationError, model_validator

from workbench.dialogue.users import FILE as USERS
from workbench.dialogue.users import SimulatedUser
from workbench.errors import UserError, UserErrors
from workbench.persona import Persona
from workbench.records import Message, NumberBound, ProbePrompt
from workbench.stats.comparison import DRIFT
from workbench.store import first_mistake, read_json_lines
from workbench.values import Frozen

ProbeSet = Literal[
    "out_of_scope",
    "drop_the_act",
    "role_reversal",
    "safety",
    "disclosure",
    "crisis",
    "format",
    "drift",
]
PROBES: tuple[ProbeSet, ...] = get_args(ProbeSet)
"""Off the persona's field; asked to leave its role; asked to swap roles; signs of danger; sincerely
asked whether it is a machine; a person in danger; asked for another form; and conversations of
several turns."""
HARMFUL, HARMLESS = "harmful", "harmless"
REFUSAL_SETS = (HARMFUL, HARMLESS)
"""Requests that any model should turn down, and ones that only sound so: not of a persona."""
FILE = "probes.jsonl"
"""Name of the file in the persona's folder."""


class _ProbeRow(Frozen):
    probe: ProbeSet
    turns: tuple[str, ...] = Field(min_length=1)
    """What the user says, turn by turn."""
    expect: str = Field(min_length=1)
    """What a good answer does, for reviewers and a judge; no model is shown it."""
    require: tuple[tuple[str, ...], ...] = ()
    forbid: tuple[str, ...] = ()
    bounds: tuple[NumberBound, ...] = ()
    game: bool = False
    """These four as in :class:`workbench.records.ProbePrompt`."""

    @model_validator(mode="after")
    def _turns(self) -> _ProbeRow:
        if any(not turn.strip() for turn in self.turns):
            raise ValueError("turns: one is empty")
        if (self.probe == DRIFT) != (len(self.turns) > 1):
            raise ValueError("turns: several for drift, one for any other probe")
        phrases = [*self.forbid, *(phrase for choice in self.require for phrase in choice)]
        if not all(self.require) or not all(phrase.strip() for phrase in phrases):
            raise ValueError("require, forbid: a list or a phrase is empty")
        return self


def read_probes(path: Path, persona: Persona | None = None) -> list[ProbePrompt]:
    """Return the probes of a file as examples: ``kind`` is the probe, ``answer`` what is expected.

    The persona stands among their parents.

    Raises:
        UserErrors: Every broken row, with its line.
    """
    probes: list[ProbePrompt] = []
    mistakes: list[UserError] = []
    for number, data in read_json_lines(path, mistakes=mistakes):
        try:
            row = _ProbeRow.model_validate(data)
        except ValidationError as error:
            what = f"no valid probe: {first_mistake(error)}"
            fix = "give probe, turns and expect"
            mistakes.append(UserError(what, where=f"{path}:{number}", fix=fix))
            continue
        probes.append(
            ProbePrompt(
                prompt=tuple(Message(role="user", content=turn) for turn in row.turns),
                answer=row.expect,
                kind=row.probe,
                source=f"{path.name}:{number}",
                parents=(persona.record_id,) if persona else (),
                require=row.require,
                forbid=row.forbid,
                bounds=row.bounds,
                game=row.game,
            )
        )
    if mistakes:
        raise UserErrors(mistakes)
    return probes


def user_probes(
    users: Sequence[SimulatedUser], persona: Persona | None = None
) -> list[ProbePrompt]:
    """Return the held-out simulated users as conversations of the drift probe."""
    return [
        ProbePrompt(
            prompt=tuple(Message(role="user", content=text) for text in user.messages),
            answer=user.wants,
            kind=DRIFT,
            source=f"{USERS}:{user.id}",
            parents=(persona.record_id,) if persona else (),
            user=user,
        )
        for user in users
        if user.held_out
    ]


def take_probes(
    probes: Sequence[ProbePrompt], each: int, conversations: int | Literal["all"]
) -> list[ProbePrompt]:
    """Return the first ``each`` of every probe set, and so many conversations, users' first."""
    taken: dict[str, list[ProbePrompt]] = defaultdict(list)
    most = len(probes) if conversations == "all" else conversations
    for probe in sorted(probes, key=lambda one: one.user is None):
        if len(taken[probe.kind]) < (most if probe.kind == DRIFT else each):
            taken[probe.kind].append(probe)
    return [probe for kind in PROBES for probe in taken[kind]]
