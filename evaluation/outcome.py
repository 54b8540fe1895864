"""What an arm's two numbers amount to: voice (fidelity) beside sense, and whether it is a success.

In: the scores of all arms and of the controls. Out: a :class:`SenseReport`, which ``sense.json``
holds. The stage of evaluation makes it; the report, the plan of the next round and the gate read
one word from it: an arm is a success only where its voice rises and its answers make sense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from evaluation.guards import HarmKind
from evaluation.scorers import SAFE, SENSE
from evaluation.sense import (
    ANSWERED,
    FLOORS,
    HALF_FLOORS,
    MOST_HARMFUL,
    MOST_NONE,
    MOST_SENSELESS,
    AnswerSense,
    Guard,
    SenseInput,
    control_responses,
    measure_sense,
)
from workbench.arm_names import is_prompted
from workbench.config import GateBounds
from workbench.persona import FIDELITY, Persona
from workbench.records import Response, Score
from workbench.stats import Comparison
from workbench.stats.bootstrap import mean_intervals
from workbench.stats.comparison import FEWEST_PAIRS
from workbench.stats.table import Column, Key, tabulate
from workbench.values import Frozen

Outcome = Literal[
    "success", "harmful", "partial", "marks", "senseless", "unclear", "worse", "unmeasured"
]
"""Voice rises and the answers make sense; they do, and too many do harm; they do, and half of an
answer is about something else; voice alone rises; neither; sense without a change of voice that can
be told; voice falls; nothing is known of sense."""
SUCCESS: Outcome = "success"


class MeanEstimate(Frozen):
    """A mean over held-out questions with its 95 % interval."""

    mean: float | None
    low: float | None
    high: float | None


class ArmSense(Frozen):
    """One arm: both numbers, and how many of its answers answer."""

    arm: str
    voice: MeanEstimate
    sense: MeanEstimate
    answers: int
    answered: int
    """Answers whose sense reaches what tells an answer to another question apart."""
    guards: dict[Guard, int]
    """Why answers have no sense at all → how many."""
    half: MeanEstimate | None = None
    """Agreement of the answers' weaker halves."""
    harmful: int = 0
    """Answers in which rules find harm; that they find none is no proof of safety."""
    harms: dict[HarmKind, int] = Field(default_factory=dict)
    """Kind of harm → in how many answers."""

    @property
    def senseless(self) -> int:
        """Answers that do not answer their question."""
        return self.answers - self.answered

    @property
    def guarded(self) -> float:
        """Share of the answers that are none: empty, looping, copied and so on."""
        return sum(self.guards.values()) / self.answers if self.answers else 0.0


class Control(NamedTuple):
    """What gaming the scores gets here."""

    voice: float
    sense: float


class SenseReport(Frozen):
    """Sense of every arm, and of the controls: the content of ``sense.json``."""

    embedder: str
    by_meaning: bool
    loss: str
    """Whose loss tells fluent text from words in any order."""
    floor: float
    """Least lower end of an arm's sense from which a success may be claimed."""
    arms: tuple[ArmSense, ...]
    controls: dict[str, Control]
    half_floor: float | None = None
    """Least lower end of the weaker halves' mean; None of a report before they were measured."""

    def arm(self, name: str) -> ArmSense | None:
        """Return an arm's sense; None where it was not measured."""
        return next((one for one in self.arms if one.arm == name), None)

    def failures(self, comparison: Comparison, bounds: GateBounds) -> list[str]:
        """One line for each unprompted arm that lost sense, or whose answers are mostly none."""
        lines = []
        for one in self.arms:
            if one.arm == comparison.base or is_prompted(one.arm):
                continue
            change = comparison.cell(one.arm, SENSE).difference
            if change and change.excludes_zero and change.mean < -bounds.sense:
                lines.append(
                    f"{one.arm}: sense {change.mean:+.2f} to the base's (95% interval"
                    f" {change.low or 0:+.2f} to {change.high or 0:+.2f}, bound -{bounds.sense:g})"
                )
            harm = comparison.cell(one.arm, SAFE).difference if one.harmful else None
            if harm and harm.excludes_zero and harm.mean < -bounds.harm:
                why = ", ".join(f"{name} {count}" for name, count in one.harms.items())
                lines.append(
                    f"{one.arm}: harm in {one.harmful} of {one.answers} answers, {-harm.mean:.0%}"
                    f" more than the base's ({why}; bound {bounds.harm:.0%})"
                )
            if one.answers >= FEWEST_PAIRS and one.guarded > bounds.no_answers:
                why = ", ".join(f"{name} {count}" for name, count in one.guards.items())
                lines.append(
                    f"{one.arm}: {sum(one.guards.values())} of {one.answers} answers are no answers"
                    f" ({why}; bound {bounds.no_answers:.0%})"
                )
        return lines


def outcome_of(comparison: Comparison, sense: SenseReport | None, arm: str) -> Outcome:
    """Return what an arm's two numbers amount to.

    A success needs all of: the primary measure's paired interval above zero (fidelity's, unless
    the configuration named another); the sense's interval not below the floor; no sure fall of
    sense below the base's; few answers without sense, and next to none that are none; the weaker
    halves of answers on their questions; harm found in hardly any.
    """
    change = comparison.primary_change(arm)
    own = sense.arm(arm) if sense else None
    if sense is None or own is None or own.sense.low is None or not own.answers:
        return "unmeasured"
    fall = comparison.cell(arm, SENSE).difference
    makes_sense = (
        own.sense.low >= sense.floor
        and own.senseless <= MOST_SENSELESS * own.answers
        and own.guarded <= MOST_NONE
        and not (fall and fall.excludes_zero and fall.mean < 0)
    )
    rises = bool(change and change.excludes_zero and change.mean > 0)
    falls = bool(change and change.excludes_zero and change.mean < 0)
    if not makes_sense:
        return "marks" if rises else "senseless"
    if own.harmful > MOST_HARMFUL * own.answers:
        return "harmful"
    if own.half and (own.half.low or 0.0) < (sense.half_floor or 0.0):
        return "partial"
    if rises:
        return SUCCESS
    return "worse" if falls else "unclear"


def sense_report(
    persona: Persona,
    comparison: Comparison,
    responses: Sequence[Response],
    scores: Sequence[Score],
    measures: Mapping[str, AnswerSense],
    inputs: SenseInput,
    *,
    floor: float | None = None,
    controls: Mapping[str, Control] | None = None,
) -> SenseReport:
    """Return the sense of every arm beside its voice, and what the controls get.

    The rule traits are the controls' voice. Floors are by default :data:`evaluation.sense.FLOORS`;
    controls are measured where they are not given.
    """
    by_meaning, seed = inputs.embedder.by_meaning, comparison.seed
    table = tabulate(scores, responses, comparison.traits or None)
    by_arm = {
        arm: [measures[one.id] for one in responses if one.arm == arm and one.id in measures]
        for arm in comparison.arms
    }
    means = mean_estimates(table, [(a, m) for a in by_arm for m in (FIDELITY, SENSE)], seed)
    halves = estimated(([one.half for one in own] for own in by_arm.values()), seed)
    return SenseReport(
        embedder=inputs.embedder.name,
        by_meaning=by_meaning,
        loss=inputs.loss_name,
        floor=FLOORS[by_meaning] if floor is None else floor,
        arms=tuple(
            _arm_sense(arm, own, two, half, ANSWERED[by_meaning])
            for (arm, own), *two, half in zip(
                by_arm.items(), means[::2], means[1::2], halves, strict=True
            )
        ),
        controls=dict(controls or control_scores(persona, inputs, seed)),
        half_floor=HALF_FLOORS[by_meaning],
    )


def _arm_sense(
    arm: str,
    own: Sequence[AnswerSense],
    voice_and_sense: Sequence[MeanEstimate],
    half: MeanEstimate,
    bar: float,
) -> ArmSense:
    """Return an arm's two numbers, and what its answers are; ``bar`` is what an answer reaches."""
    voice, sense = voice_and_sense
    return ArmSense(
        arm=arm,
        voice=voice,
        sense=sense,
        answers=len(own),
        answered=sum(one.sense >= bar for one in own),
        guards=dict(Counter(one.guard for one in own if one.guard).most_common()),
        half=half,
        harmful=sum(bool(one.harm) for one in own),
        harms=dict(Counter(kind for one in own for kind in one.harm).most_common()),
    )


def estimated(samples: Iterable[Sequence[float]], seed: int) -> list[MeanEstimate]:
    """Return the mean of each sample with its interval."""
    import numpy as np

    arrays = [np.array(sample, dtype=np.float64) for sample in samples]
    return [
        MeanEstimate(mean=float(own.mean()) if len(own) else None, low=ends.low, high=ends.high)
        for own, ends in zip(arrays, mean_intervals(arrays, seed), strict=True)
    ]


def mean_estimates(
    table: Mapping[Key, Column], wanted: Sequence[tuple[str, str]], seed: int
) -> list[MeanEstimate]:
    """Return the means on held-out questions of (arm, metric) pairs, with their intervals."""
    columns = (table.get(Key(arm, "", 0, metric), Column()) for arm, metric in wanted)
    return estimated([column.values for column in columns], seed)


def control_scores(persona: Persona, inputs: SenseInput, seed: int) -> dict[str, Control]:
    """Return what each control gets: answers that game the scores, whatever the arms are."""
    controls = control_responses(inputs.rows, inputs.train, seed)
    measures = measure_sense([one for own in controls.values() for one in own], inputs)
    return {name: _control(persona, own, measures) for name, own in controls.items()}


def _control(
    persona: Persona, responses: Sequence[Response], measures: Mapping[str, AnswerSense]
) -> Control:
    """Return a control's mean voice by the rules alone, and its mean sense."""
    traits = persona.rule_traits
    shown = [bool(trait.passes(one.text)) for one in responses for trait in traits]
    senses = [measures[one.id].sense for one in responses]
    return Control(sum(shown) / max(len(shown), 1), sum(senses) / max(len(senses), 1))
