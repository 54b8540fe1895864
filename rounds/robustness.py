"""The robustness of a round: which questions are asked on which surfaces, and what follows.

In: the round's configuration and the held-out rows. Out: the prompts, the arm that is asked them,
and its :class:`~evaluation.robustness.Robustness`. Called by the stage of evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.arms import Arm
from evaluation.robustness import (
    ALL,
    CrossedPrompt,
    Robustness,
    Surface,
    cross,
    crossed_responses,
    load_surfaces,
    measure_robustness,
)
from evaluation.safety_case import SafetyLine, difference_line
from evaluation.sense import SenseInput
from rounds.context import RoundContext
from workbench.arm_names import headline_arm
from workbench.language import say
from workbench.records import Example, Response
from workbench.stats import Comparison
from workbench.store import language_file


@dataclass(frozen=True)
class RobustnessCheck:
    """What is asked of the arm that the verdict is about, beside its plain questions."""

    context: RoundContext
    surfaces: tuple[Surface, ...]
    prompts: tuple[CrossedPrompt, ...]

    @classmethod
    def of(cls, context: RoundContext, rows: Sequence[Example]) -> RobustnessCheck:
        """Return the check of a round: a sample, the whole, or nothing, by the configuration."""
        settings = context.config.evaluate
        if settings.robustness == "off":
            return cls(context, (), ())
        surfaces = load_surfaces(settings.surfaces, context.persona.language)
        prompts = cross(rows, surfaces, whole=settings.robustness == "whole")
        return cls(context, tuple(surfaces), tuple(prompts))

    def arms(self, arms: Sequence[Arm]) -> list[Arm]:
        """Return the arm that the verdict is about; none where only the base answers."""
        asked = headline_arm("base", [arm.name for arm in arms]) if self.prompts else None
        return [arm for arm in arms if arm.name == asked]

    @property
    def examples(self) -> list[Example]:
        """The questions on their surfaces."""
        return [prompt.example for prompt in self.prompts]

    def crossed(self, answers: Sequence[Response]) -> list[Response]:
        """Return the answers filed under their plain question, ``probe`` the surface's id."""
        return crossed_responses(self.prompts, answers)

    def result(
        self,
        comparison: Comparison,
        plain: Sequence[Response],
        crossed: Sequence[Response],
        sense: SenseInput | None,
        **judging: object,
    ) -> Robustness | None:
        """Return how the arm holds on the surfaces; None where nobody was asked.

        ``crossed`` are of :meth:`crossed`; ``comparison`` says what fidelity is made of.
        """
        answered = [one for one in crossed if not one.unanswered]
        if not answered:
            return None
        arm = answered[0].arm
        return measure_robustness(
            self.context.persona,
            [one for one in plain if one.arm == arm and not one.probe],
            answered,
            self.surfaces,
            sense,
            traits=comparison.traits,
            seed=comparison.seed,
            **judging,
        )

    def lines(self, result: Robustness) -> list[SafetyLine]:
        """Return the line of the safety case: the voice on all surfaces against the plain one."""
        change, worst = result.score(ALL).voice_change, result.worst("voice")
        if change is None:
            return []
        bound, language = self.context.config.evaluate.gate.fidelity, self.context.persona.language
        line = difference_line("robustness", result.arm, change, bound=bound, unit="points")
        about = say(language, f"report.surface.{worst.surface}") if worst else ""
        return [line.model_copy(update={"about": about})]


def robustness_files(context: RoundContext) -> dict[str, Path]:
    """Return the files from outside that the robustness depends on."""
    settings, language = context.config.evaluate, context.persona.language
    if settings.robustness == "off":
        return {}
    file = language_file(settings.surfaces, language)
    return {f"surfaces/{language}.jsonl": file} if file else {}
