"""A gold set: rows with known outcomes, mixed in to see how reliable each reviewer is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.review.policy import Policy
from curation.review.votes import KEEP, LOW_FIDELITY
from workbench.errors import UserError, UserErrors
from workbench.records import Example, user_prompt
from workbench.store import read_json_lines

FILE = "gold.jsonl"


class GoldLine(BaseModel):
    """One line of a persona's ``gold.jsonl``: an Alpaca row and its known outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instruction: str = Field(min_length=1)
    input: str = ""
    output: str = Field(min_length=1)
    topic: str = ""
    outcome: str
    """``keep``, ``low_fidelity`` or a blocking problem of the policy."""


@dataclass(frozen=True)
class Gold:
    """Rows whose outcome is known; they are reviewed like others and never trained on."""

    examples: tuple[Example, ...] = ()
    outcomes: dict[str, str] = field(default_factory=dict)
    """Example id → known outcome."""


def read_gold(folder: Path, policy: Policy) -> Gold:
    """Return the gold set of a persona's folder; an empty one where there is no ``gold.jsonl``.

    Raises:
        UserErrors: Every line that is no gold row.
    """
    path = folder / FILE
    if not path.exists():
        return Gold()
    known = (KEEP, LOW_FIDELITY, *policy.blocking)
    examples, outcomes, mistakes = [], {}, []
    for number, data in read_json_lines(path):
        where = f"{path}:{number}"
        try:
            line = GoldLine.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            mistakes.append(UserError(f"{name}: {first['msg']}", where=where))
            continue
        if line.outcome not in known:
            mistakes.append(
                UserError(
                    f"outcome: unknown '{line.outcome}'",
                    where=where,
                    fix=f"one of {', '.join(known)}",
                )
            )
            continue
        example = Example(
            prompt=user_prompt(line.instruction, line.input),
            answer=line.output,
            topic=line.topic,
            source=f"{FILE}:{number}",
        )
        examples.append(example)
        outcomes[example.id] = line.outcome
    if mistakes:
        raise UserErrors(mistakes)
    return Gold(tuple(examples), outcomes)


def mixed(examples: Sequence[Example], gold: Gold, round_name: str) -> list[Example]:
    """Return the rows of a push with the gold rows strewn among them, the same way every time.

    The other rows keep their order, so that nothing but the gold's places is changed.
    """

    def place(example: Example) -> int:
        digest = hashlib.sha256(f"{round_name}\0{example.id}".encode()).digest()
        return int.from_bytes(digest[:8]) % (len(examples) + 1)

    strewn = [(place(example), 0, number, example) for number, example in enumerate(gold.examples)]
    rows = [(number, 1, number, example) for number, example in enumerate(examples)]
    return [entry[-1] for entry in sorted([*strewn, *rows], key=lambda entry: entry[:3])]
