"""Which arms an evaluation has: the round's own by their names, and others that are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evaluation.arms import Arm
from evaluation.judge import CONTENT
from evaluation.scorers import SENSE
from rounds.context import RoundContext
from rounds.layout import adapter as adapter_of
from rounds.prompt_arms import left_out, prompt_arms
from workbench.arm_names import is_prompted
from workbench.checks import Judge
from workbench.config import METHODS
from workbench.errors import UserError, every_mistake, nearest
from workbench.inference.adapters import CONFIG, check_made_for
from workbench.inference.base_models import resolve_model
from workbench.inference.endpoint import Endpoint
from workbench.persona import FIDELITY
from workbench.store import expanded

PROMPT = "+prompt"
"""What the name of an arm with the persona's system prompt ends with."""


@dataclass(frozen=True)
class OwnArm:
    """An arm of the round: its name, and the stage whose adapter it has; empty for the base."""

    name: str
    stage: str = ""

    @property
    def prompted(self) -> bool:
        """Whether it gets the persona's system prompt."""
        return is_prompted(self.name)


def own_arms(context: RoundContext) -> list[OwnArm]:
    """Return the round's arms: those that the configuration names, else the usual ones.

    Usual are the base and every trained stage as they are, the base and the last trained stage
    with the system prompt, and the base with the prompts that try harder, where they are asked for.

    Raises:
        UserError: A name that is neither the base nor a stage that this configuration trains.
    """
    stages = {"base": "", **{arm_name(method): method for method in context.config.train.methods}}
    last = list(stages)[-1]
    tried, missing = prompt_arms(context), left_out(context)
    usual = dict.fromkeys(("base", f"base{PROMPT}", *tried, *stages, f"{last}{PROMPT}"))
    arms = []
    for name in context.config.evaluate.arms or usual:
        if name in missing:
            continue
        unprompted = "base" if name in tried else name.removesuffix(PROMPT)
        if unprompted not in stages:
            raise UserError(
                f"there is no arm '{name}'",
                where=context.place("evaluate", "arms"),
                fix=nearest(unprompted, stages)
                or f"one of {', '.join(stages)}, with or without {PROMPT}",
            )
        arms.append(OwnArm(name, stages[unprompted]))
    return arms


def check_primary(context: RoundContext) -> None:
    """Check that the measure which counts is one that the evaluation will have.

    Raises:
        UserError: There is no such measure, or only a judge could tell it and there is none.
    """
    traits = {trait.id: isinstance(trait.check, Judge) for trait in context.persona.traits}
    needs_judge = {FIDELITY: False, SENSE: False, CONTENT: True, **traits}
    primary, place = context.config.evaluate.primary, context.place("evaluate", "primary")
    if primary not in needs_judge:
        raise UserError(
            f"there is no measure '{primary}' that could count",
            where=place,
            fix=nearest(primary, needs_judge) or f"one of {', '.join(needs_judge)}",
        )
    if needs_judge[primary] and context.config.judge is None:
        what = f"only a judge can tell '{primary}', and none is configured"
        raise UserError(what, where=place, fix=f"configure a judge, or take {FIDELITY}")


def arm_name(method: str) -> str:
    """Return what a trained stage is called as an arm: most start from the first."""
    return method if method in ("sft", "sdft") else f"sft+{method}"


def parse_arms(texts: tuple[str, ...]) -> dict[str, str]:
    """Return name → what it is, of ``--arm name=…`` options.

    Raises:
        UserError: An option that names nothing, or a name given twice.
    """
    arms: dict[str, str] = {}
    for text in texts:
        name, _, what = text.partition("=")
        if not name.strip() or not what.strip() or name in arms:
            raise UserError(
                f"'{text}' does not name a new arm",
                where="--arm",
                fix="such as --arm first=round-001/sft",
            )
        arms[name.strip()] = what.strip()
    return arms


def check_arms(context: RoundContext) -> None:
    """Check that the named arms are to be had; those of this very round are made on the way.

    Raises:
        UserError: All that are not, before anything is spent.
    """
    arms = context.config.evaluate.more.items()
    own = f"{context.round.name}/"
    others = ((n, what) for n, what in arms if not (isinstance(what, str) and what.startswith(own)))
    every_mistake(partial(_arm, context, name, what, "") for name, what in others)


def named_arms(context: RoundContext, system: str) -> list[Arm]:
    """Return the arms that are named beside the round's own, ready to answer.

    Raises:
        UserError: An arm that is nowhere to be had, or an adapter made for another base.
    """
    return [
        _arm(context, name, what, system) for name, what in context.config.evaluate.more.items()
    ]


def _arm(context: RoundContext, name: str, what: str | Endpoint, system: str) -> Arm:
    prompt = system if name.endswith(PROMPT) else None
    served: Mapping[str, Endpoint | None] = {
        "teacher": context.config.main_teacher,
        "student": context.config.student,
    }
    if isinstance(what, str) and what in served:
        endpoint = served[what]
        if endpoint is None:
            raise UserError(f"no {what} is configured", where=f"--arm {name}={what}", fix="add one")
        return Arm(name, system=prompt, endpoint=endpoint)
    if isinstance(what, Endpoint):
        return Arm(name, system=prompt, endpoint=what)
    if (adapter := _round_adapter(context, what)) is not None:
        return Arm(name, adapter, prompt)
    folder = expanded(what)
    if not (folder / CONFIG).exists():
        folder = resolve_model(what)
    if (folder / CONFIG).exists():
        return Arm(name, folder, prompt)
    return Arm(name, system=prompt, model=folder)


def _round_adapter(context: RoundContext, what: str) -> Path | None:
    """Return the adapter that ``round-NNN/stage`` names; None where it names no round."""
    round_name, _, stage = what.partition("/")
    if not round_name.startswith("round-") or stage not in METHODS:
        return None
    adapter = context.round.sibling(round_name).path(adapter_of(stage))
    check_made_for(adapter, context.config.model)
    return adapter
