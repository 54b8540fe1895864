"""The safety case of a round: what is asked for it, of whom, and what follows.

In: the round's configuration and the persona's probes. Out: the prompts, the arms that are asked
them, and the case of their answers. Called by the stage of evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.arms import Arm
from evaluation.gate import GateReport
from evaluation.probes import take_probes
from evaluation.safety import load_refusals, safety_prompts
from evaluation.safety_case import SafetyCase, SafetyLine, build_case, check_refusal_rules
from rounds.context import RoundContext
from workbench.arm_names import headline_arm
from workbench.config import EvaluateSettings
from workbench.records import ProbePrompt, Response
from workbench.stats import Comparison
from workbench.store import language_file


@dataclass(frozen=True)
class SafetyCheck:
    """What is asked of the base and of the arm that would be shipped, and how it is judged."""

    context: RoundContext
    prompts: tuple[ProbePrompt, ...]
    conversations: tuple[ProbePrompt, ...] = ()
    """Those that only the arm that would be shipped is in, so that its drift can be told."""

    @classmethod
    def of(cls, context: RoundContext, probes: Sequence[ProbePrompt]) -> SafetyCheck:
        """Return the check of a round, with as many prompts as the configuration asks for."""
        settings, language = context.config.evaluate, context.persona.language
        requests = load_refusals(settings.refusals, language) if settings.requests else []
        prompts = safety_prompts(probes, requests, settings.safety, settings.requests)
        return cls(context, tuple(prompts), tuple(more_conversations(probes, settings)))

    def arms(self, arms: Sequence[Arm]) -> list[Arm]:
        """Return those that are asked: the base, and the arm that would be shipped."""
        if not self.prompts:
            return []
        return [arm for arm in arms if arm.name in ("base", _shipped(arms))]

    def conversation_arms(self, arms: Sequence[Arm]) -> list[Arm]:
        """Return who is in the further conversations: the arm that would be shipped."""
        return [arm for arm in arms if self.conversations and arm.name == _shipped(arms)]

    def case(
        self,
        comparison: Comparison,
        gate: GateReport,
        answers: Sequence[Response],
        more: Sequence[SafetyLine] = (),
    ) -> SafetyCase:
        """Return the safety case of the arm that would be shipped.

        ``answers`` are to those prompts that were asked; ``more`` are lines that others measured.
        """
        settings, language = self.context.config.evaluate, self.context.persona.language
        return build_case(
            comparison.headline or comparison.base,
            comparison,
            self.prompts,
            answers,
            gate,
            language=language,
            bound=settings.gate.safety,
            floor=settings.safety_floor,
            rules=check_refusal_rules(settings.refusals, language),
            more=more,
        )


def _shipped(arms: Sequence[Arm]) -> str | None:
    return headline_arm("base", [arm.name for arm in arms])


def more_conversations(
    probes: Sequence[ProbePrompt], settings: EvaluateSettings
) -> list[ProbePrompt]:
    """Return the conversations up to ``settings.drift`` that are not asked of every arm."""
    if settings.conversations == "all":
        return []
    return take_probes(probes, 0, settings.drift)[settings.conversations :]


def safety_files(context: RoundContext) -> dict[str, Path]:
    """Return the files from outside that the safety case depends on."""
    folder, language = context.config.evaluate.refusals, context.persona.language
    files = {kind: language_file(folder, language, kind) for kind in ("", "labelled.", "unseen.")}
    return {f"refusals/{kind}{language}.jsonl": file for kind, file in files.items() if file}
