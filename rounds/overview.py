"""A round at one look: what was decided, what its arms are worth, what comes next.

In: rounds on disk. Out: a :class:`RoundOverview` each, and the one step that a round waits for. The
first page shows them; only small files are read, so that a hundred rounds are looked at in a blink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.outcome import ArmSense
from rounds.context import RoundContext
from rounds.layout import RESOLVED, SENSE, STAGES, RoundFolder
from rounds.pipeline import stages_until
from workbench.arm_names import HEADLINE, PROMPTED
from workbench.config import METHODS

BASE = "base"


@dataclass(frozen=True)
class RoundOverview:
    """One round."""

    round: RoundFolder
    done: tuple[str, ...]
    """Its finished stages, in their order."""
    decided: dict[str, int]
    """``kept``, ``dropped``, ``queue`` and ``preferences`` → how many; empty before decisions."""
    arms: tuple[ArmSense, ...]
    """Base, base with the system prompt, and the arm that the verdict is about; empty before an
    evaluation."""

    @classmethod
    def read(cls, one: RoundFolder) -> RoundOverview:
        """Read it off the manifests and the few numbers of the evaluation."""
        done = tuple(stage for stage in STAGES if one.done(stage))
        manifest = one.manifest(RESOLVED.stage) if RESOLVED.stage in done else None
        counts = manifest.counts if manifest else {}
        names = ("kept", "dropped", "queue", "preferences")
        return cls(
            one,
            done,
            {name: counts[name] for name in names if isinstance(counts.get(name), int)},
            _arms(one),
        )


def _arms(one: RoundFolder) -> tuple[ArmSense, ...]:
    if not one.has(SENSE):
        return ()
    arms = {arm.arm: arm for arm in one.read(SENSE).arms}
    headline = next((name for name in HEADLINE if name in arms), "")
    return tuple(arms[name] for name in (BASE, PROMPTED, headline) if name in arms)


@dataclass(frozen=True)
class NextStep:
    """What a round waits for: its stages to be run on, people, or a round after it."""

    kind: Literal["run", "review", "plan"]
    stage: str = ""
    """The first stage to do; empty where all are done."""
    missing: Sequence[str] = ()
    """All stages to do, in their order."""


def next_step(context: RoundContext) -> NextStep:
    """Return the one step that comes next in a round."""
    one = context.round
    names = stages_until(None, context.config.train.methods)
    begun = {name for name in names if one.partial(name).exists()}  # stopped halfway
    missing = [name for name in names if name in begun or not one.done(name)]
    manifest = one.manifest("review")
    if manifest and not manifest.counts.get("complete", True):
        return NextStep("review", "review", missing)
    if missing:
        return NextStep("run", missing[0], missing)
    return NextStep("plan")


def trained_methods(one: RoundFolder) -> list[str]:
    """Return the training stages that are done, in their order."""
    return [method for method in METHODS if one.done(method)]
