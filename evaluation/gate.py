"""What fails an evaluation: ability lost beyond its bound, or too much left unscored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from evaluation.general import General
from evaluation.instructions import Followed, InstructionFall, InstructionScore, instruction_fall
from evaluation.scorers import NO_JUDGE
from workbench.config import GateBounds
from workbench.records import Response, Score
from workbench.stats import Difference, paired_difference
from workbench.text import counted
from workbench.values import Frozen

Why = Literal["base", "general", "persona", "decoding", "judge", "no_prompt"]
"""Why something cannot be held against the last round: other than there, or not asked in both."""
_TINY = 1e-9
"""So that a change of exactly the bound is not lost to rounding."""


class Earlier(Frozen):
    """What the last round has recorded of its last adapter."""

    round: str
    arm: str
    general: General | None = None
    instructions: dict[str, InstructionScore] = Field(default_factory=dict)
    """Prompt → how its answer kept to it."""
    fidelity: dict[str, float] = Field(default_factory=dict)
    """Held-out prompt as text → persona fidelity."""
    not_compared: tuple[Why, ...] = ()


class AcrossRounds(Frozen):
    """This round's last adapter against the last round's."""

    round: str
    before: str
    """The last round's arm."""
    arm: str
    cross_entropy_change: float | None = None
    """Nats a token over the last round's; above zero is worse. None where it is not compared."""
    instructions: InstructionFall | None = None
    """On the prompts that both rounds asked."""
    fidelity: Difference | None = None
    """Persona fidelity on the held-out prompts that both rounds asked."""
    not_compared: tuple[Why, ...] = ()
    lost: tuple[Literal["cross_entropy", "instructions", "fidelity"], ...] = ()
    """What fell by more than its bound."""

    @property
    def passed(self) -> bool:
        """Whether nothing fell by more than its bound."""
        return not self.lost

    def failures(self, bounds: GateBounds) -> list[str]:
        """One line for each loss beyond its bound."""
        against = f"{self.arm} against {self.round}/{self.before}"
        lines = {
            "cross_entropy": f"cross-entropy {self.cross_entropy_change or 0:+.3f} nats a token"
            f" (bound +{bounds.cross_entropy:g})",
            "instructions": _fall_line(self.instructions),
            "fidelity": f"persona fidelity {self.fidelity.mean if self.fidelity else 0:+.0%} on the"
            f" {self.fidelity.pairs if self.fidelity else 0} held-out prompts of both rounds"
            f" (bound -{bounds.fidelity:.0%})",
        }
        return [f"{against}: {lines[name]}" for name in self.lost]


class Forgetting(Frozen):
    """One arm's general ability against the base's."""

    arm: str
    cross_entropy: float
    """Nats a token."""
    cross_entropy_change: float
    """Over the base's; above zero is worse."""
    instructions: InstructionFall | None = None
    """Against the base; None for the base itself."""
    passed: bool


class GateReport(Frozen):
    """The forgetting gate over all arms: the content of ``general.json``."""

    base: str
    bounds: GateBounds
    arms: tuple[Forgetting, ...]
    general: dict[str, General]
    """Arm → text by text."""
    instructions: dict[str, dict[str, InstructionScore]]
    """Arm → prompt by prompt."""
    across: AcrossRounds | None = None
    """The last adapter against the last round's; None in a first round."""

    @property
    def instruction_shares(self) -> dict[str, float]:
        """Arm → share of its instructions' constraints kept, the mean over the prompts."""
        return {
            arm: sum(one.share for one in scores.values()) / len(scores)
            for arm, scores in self.instructions.items()
        }

    @property
    def failures(self) -> list[str]:
        """One line for each arm that forgot more than it may, of the base's or the last round's."""
        across = self.across.failures(self.bounds) if self.across else []
        return across + [
            f"{arm.arm}: cross-entropy {arm.cross_entropy_change:+.3f} nats a token (bound"
            f" +{self.bounds.cross_entropy:g}), {_fall_line(arm.instructions)}"
            for arm in self.arms
            if not arm.passed
        ]


def _fall_line(fall: InstructionFall | None) -> str:
    if fall is None:
        return "instructions not compared"
    return (
        f"instructions kept {fall.difference.mean:+.0%} on"
        f" {counted(fall.difference.pairs, 'prompt')} (bound -{fall.bound:.0%};"
        f" falls from {fall.detectable:.0%} are told from chance)"
    )


def check_forgetting(
    general: Mapping[str, General],
    instructions: Mapping[str, Mapping[str, InstructionScore]],
    bounds: GateBounds,
    *,
    base: str = "base",
    seed: int = 0,
) -> GateReport:
    """Return every arm's change against ``base`` and whether it stays within the bounds.

    ``instructions`` are arm → prompt → how its answer keeps to it. A change of just the bound
    passes.
    """
    own = general[base]
    arms = []
    for name, ability in general.items():
        rise = ability.cross_entropy - own.cross_entropy
        fall = None
        if name != base:
            fall = instruction_fall(
                instructions[name], instructions[base], bounds.instructions, seed
            )
        arms.append(
            Forgetting(
                arm=name,
                cross_entropy=ability.cross_entropy,
                cross_entropy_change=rise,
                instructions=fall,
                passed=rise <= bounds.cross_entropy + _TINY and not (fall and fall.failed),
            )
        )
    return GateReport(
        base=base,
        bounds=bounds,
        arms=tuple(arms),
        general=dict(general),
        instructions={arm: dict(scores) for arm, scores in instructions.items()},
    )


def check_rounds(
    arm: str,
    general: General | None,
    instructions: Followed,
    fidelity: Mapping[str, float],
    earlier: Earlier,
    bounds: GateBounds,
    seed: int,
) -> AcrossRounds:
    """Hold a round's last adapter against the last round's.

    Fidelity fails where its mean fell by more than the bound and the paired 95 % interval, of
    prompts enough to call a difference one, lies below zero: chance alone is no failure.
    ``fidelity`` is by the held-out prompt's text. A change of just the bound passes.
    """
    lost: list[Literal["cross_entropy", "instructions", "fidelity"]] = []
    rise = None
    if general and earlier.general:
        rise = general.cross_entropy - earlier.general.cross_entropy
        lost += ["cross_entropy"] if rise > bounds.cross_entropy + _TINY else []
    fall = instruction_fall(instructions, earlier.instructions, bounds.instructions, seed)
    lost += ["instructions"] if fall and fall.failed else []
    before = earlier.fidelity
    pairs = [(value, before[prompt]) for prompt, value in fidelity.items() if prompt in before]
    difference = paired_difference(pairs, seed) if pairs else None
    if difference and difference.mean < -bounds.fidelity - _TINY:
        lost += ["fidelity"] if difference.excludes_zero else []
    why: tuple[Why, ...] = earlier.not_compared
    if not pairs and earlier.fidelity:
        why = (*why, "no_prompt")
    return AcrossRounds(
        round=earlier.round,
        before=earlier.arm,
        arm=arm,
        cross_entropy_change=rise,
        instructions=fall,
        fidelity=difference,
        not_compared=why,
        lost=tuple(lost),
    )


class Unscored(Frozen):
    """How many of a metric's scores are missing."""

    metric: str
    scores: int
    unscored: int
    reasons: dict[str, int]

    @property
    def share(self) -> float:
        """Missing over all, 0 to 1."""
        return self.unscored / self.scores


def check_unscored(scores: Sequence[Score], bound: float) -> list[Unscored]:
    """Return the metrics of which a larger share than ``bound`` is missing, the worst first.

    Where no judge is configured its metrics are not counted: nothing failed, nobody was asked.
    """
    asked = [score for score in scores if score.unscored != NO_JUDGE]
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for score in asked:
        reasons[score.metric].update([score.unscored] if score.value is None else [])
    counts = Counter(score.metric for score in asked)
    missing = [
        Unscored(metric=metric, scores=counts[metric], unscored=own.total(), reasons=dict(own))
        for metric, own in reasons.items()
    ]
    return sorted((u for u in missing if u.share > bound), key=lambda u: -u.share)


def check_unanswered(responses: Sequence[Response], bound: float) -> list[str]:
    """Return a line for each arm a larger share than ``bound`` of whose prompts has no answer."""
    arms: dict[str, list[str]] = defaultdict(list)
    for response in responses:
        arms[response.arm].append(response.unanswered)
    lines = []
    for arm, every in arms.items():
        reasons = Counter(reason for reason in every if reason)
        if (share := reasons.total() / len(every)) > bound:
            kinds = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            lines.append(
                f"arm '{arm}': {share:.0%} of its prompts have no answer (bound {bound:.0%};"
                f" {kinds}); `persona evaluate --force` asks again for what failed"
            )
    return lines
