"""The dial of a round: the arm that the verdict is about, at several strengths of its adapter.

In: the round's arms and the strengths that the configuration names. Out: arms with scaled adapters
while they are asked, and the :class:`~evaluation.dial.Dial` of their answers. Called where the
models answer, and by the stage of evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from evaluation.arms import Arm
from evaluation.dial import Dial, DialInput, measure_dial
from evaluation.gate import GateReport
from evaluation.sense import SenseInput
from rounds.context import RoundContext
from workbench.arm_names import headline_arm
from workbench.inference.adapters import scale_adapter
from workbench.records import ProbePrompt, Response
from workbench.stats import Comparison


class DialAnswers(NamedTuple):
    """What the scaled arms answered, and what their weights can still do."""

    strengths: dict[str, float]
    """Arm → its strength."""
    questions: list[Response]
    """To held-out questions."""
    requests: list[Response]
    """To harmful and harmless requests."""
    instructed: list[Response]
    gate: GateReport
    """Of the base, the arm at full strength and the scaled ones."""

    @property
    def responses(self) -> list[Response]:
        """All answers."""
        return [*self.questions, *self.requests, *self.instructed]


def scaled_name(arm: str, strength: float) -> str:
    """Return what an arm is called at a strength, such as ``sft+dpo@0.5``."""
    return f"{arm}@{strength:g}"


def full_arm(arms: Sequence[Arm]) -> Arm | None:
    """Return the arm that is scaled: the one that the verdict is about; None without an adapter."""
    name = headline_arm("base", [arm.name for arm in arms])
    return next((arm for arm in arms if arm.name == name and arm.adapter), None)


@contextmanager
def scaled_arms(arms: Sequence[Arm], strengths: Sequence[float]) -> Iterator[list[Arm]]:
    """Yield the arm that the verdict is about at each strength; full strength answers already.

    The scaled adapters are files that are gone afterwards.

    Raises:
        UserError: An adapter that is more than LoRA's product, so that no factor is a part of it.
    """
    full = full_arm(arms)
    wanted = sorted({one for one in strengths if one != 1}) if full else []
    with TemporaryDirectory() as temporary:
        scaled = []
        for strength in wanted:
            folder = Path(temporary) / f"{strength:g}"
            folder.mkdir()
            assert full is not None and full.adapter is not None
            scale_adapter(full.adapter, strength, folder)
            scaled.append(replace(full, name=scaled_name(full.name, strength), adapter=folder))
        yield scaled


def dial_of(
    context: RoundContext,
    comparison: Comparison,
    answers: DialAnswers,
    plain: Sequence[Response],
    requests: Sequence[Response],
    prompts: Sequence[ProbePrompt],
    sense: SenseInput | None,
    **judging: object,
) -> Dial:
    """Return the curve over all strengths, those of the base and the arm itself among them.

    ``plain`` and ``requests`` are what those two answered, to held-out questions and to
    ``prompts`` and others.
    """
    arm = comparison.headline or comparison.base
    strengths = {"base": 0.0, arm: 1.0, **answers.strengths}
    own = [one for one in plain if one.arm in strengths and not one.probe]
    inputs = DialInput(
        context.persona,
        arm,
        strengths,
        [one for one in (*own, *answers.questions) if not one.unanswered],
        prompts,
        [*requests, *answers.requests],
        answers.gate,
        sense,
        comparison.traits,
    )
    return measure_dial(inputs, seed=comparison.seed, **judging)
