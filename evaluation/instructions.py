"""Whether a tuned model still does as it is told where nobody asks for the persona.

In: prompts whose form a rule can check (``datasets/instructions``) and the arms' answers to them.
Out: how each answer keeps to its prompt, and how large a fall so many prompts can tell.
The stage of evaluation asks and measures; the forgetting gate holds each arm against the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from evaluation.instruction_checks import Constraint, failed
from workbench.records import Example, Response, take_spread, user_prompt
from workbench.stats import Difference
from workbench.stats.comparison import FEWEST_PAIRS, paired_difference
from workbench.stats.significance import detectable
from workbench.store import language_file, read_models
from workbench.values import Frozen

INSTRUCTION = "instruction"
"""Kind of the examples that hold such prompts."""
_TINY = 1e-9
"""So that a fall of exactly the bound is not lost to rounding."""


class InstructionScore(Frozen):
    """How an answer keeps to the form that was asked for."""

    prompt: str
    share: float = Field(ge=0, le=1)
    """Share of the prompt's constraints that it keeps to."""
    broken: tuple[str, ...] = ()
    """Kinds of the others."""


Followed = Mapping[str, InstructionScore]
"""Id of a prompt → how the answer keeps to it."""


class _Instruction(Frozen):
    """One line of the file."""

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    checks: tuple[Constraint, ...] = Field(min_length=1)
    example: str = ""
    """An answer that keeps to all of them; no model is shown it. Prompts that are asked for what
    the base itself says have none."""


class Instructions(NamedTuple):
    """Prompts to ask, and what their answers have to keep to."""

    examples: list[Example]
    """``topic`` is the kind of the first constraint, ``source`` the prompt's own id."""
    checks: dict[str, tuple[Constraint, ...]]
    """Id of an example → its constraints."""


def load_instructions(folder: Path, language: str, most: int | None = None) -> Instructions:
    """Return the prompts of a language, at most ``most`` of them, spread over the kinds.

    ``folder`` holds a file a language, such as ``en.jsonl``. Each kind of first constraint is taken
    in turn, so that a smaller sample leaves out no kind before it has taken two of another. A
    language without such a file has no prompts.

    Raises:
        UserErrors: Every line that is no prompt with constraints.
        UserError: The folder holds no such file of any language.
    """
    file = language_file(folder, language)
    if file is None:
        return Instructions([], {})
    examples, checks = [], {}
    for _, row in read_models(file, _Instruction):
        example = Example(
            prompt=user_prompt(row.prompt),
            answer=row.example or row.prompt,
            topic=row.checks[0].kind,
            kind=INSTRUCTION,
            source=row.id,
        )
        examples.append(example)
        checks[example.id] = row.checks
    taken = take_spread(examples, most)
    return Instructions(taken, {example.id: checks[example.id] for example in taken})


def follow_instructions(
    instructions: Instructions, responses: Sequence[Response]
) -> dict[str, dict[str, InstructionScore]]:
    """Return arm → the prompt's own id → how the arm's answer keeps to it."""
    names = {example.id: example.source for example in instructions.examples}
    followed: dict[str, dict[str, InstructionScore]] = {}
    for one in responses:
        checks = instructions.checks[one.prompt_id]
        broken = failed(one.text, checks)
        followed.setdefault(one.arm, {})[names[one.prompt_id]] = InstructionScore(
            prompt=one.prompt[0].content, share=1 - len(broken) / len(checks), broken=broken
        )
    return followed


class InstructionFall(Frozen):
    """How an arm keeps to instructions, held against another's answers to the same prompts."""

    share: float
    """Share of the constraints kept, the mean over the prompts."""
    reference: float
    """The same of the other arm."""
    followed: int
    """Prompts whose answer keeps to everything."""
    difference: Difference
    detectable: float
    """Least fall that so many prompts tell from chance four times of five, 0 to 1."""
    bound: float
    """Largest fall that passes: the configured one, and never less than what can be told."""

    @property
    def failed(self) -> bool:
        """Whether it fell by more than the bound."""
        return -self.difference.mean > self.bound + _TINY

    @property
    def blind(self) -> bool:
        """Whether the other arm keeps so little that losing all of it would pass."""
        return self.reference <= self.bound + _TINY


def instruction_fall(
    own: Followed, other: Followed, bound: float, seed: int
) -> InstructionFall | None:
    """Return how an arm follows against another, pair by pair; None without a common prompt.

    What can be told is the detectable effect of the paired test at the spread of these differences.
    Where hardly an answer differs that spread says nothing, and the least fall is the one of
    :data:`~workbench.stats.comparison.FEWEST_PAIRS` prompts lost. ``bound`` is the largest fall
    wanted, 0 to 1.
    """
    pairs = [(own[name].share, other[name].share) for name in own if name in other]
    difference = paired_difference(pairs, seed)
    if difference is None:
        return None
    least = max(detectable(difference.sd, len(pairs)) or 0.0, FEWEST_PAIRS / len(pairs))
    return InstructionFall(
        share=sum(one for one, _ in pairs) / len(pairs),
        reference=sum(one for _, one in pairs) / len(pairs),
        followed=sum(one >= 1 for one, _ in pairs),
        difference=difference,
        detectable=least,
        bound=max(bound, least),
    )
