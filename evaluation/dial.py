"""How strong the adapter should be: voice and sense against what is forgotten and refused.

In: one arm's answers at several strengths of its adapter, 0 being the base and 1 the arm itself.
Out: a :class:`Dial`, which ``dial.json`` holds: a curve over the strengths, each held against the
arm as it was trained, and the strength that the numbers speak for. The stage of evaluation makes
it; the report shows it, and ``persona export --strength`` writes what is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evaluation.gate import GateReport
from evaluation.outcome import MeanEstimate, mean_estimates
from evaluation.probes import HARMFUL, HARMLESS
from evaluation.safety import Events, faults_by_arm
from evaluation.scorers import SENSE, ScoringInput, voice_and_sense
from evaluation.sense import SenseInput, measure_sense
from workbench.persona import FIDELITY, Persona
from workbench.records import ProbePrompt, Response
from workbench.stats import Difference, compare
from workbench.stats.table import tabulate
from workbench.values import Frozen


class Refusals(NamedTuple):
    """Of the requests that were answered, how many were refused."""

    refused: int
    asked: int


class DialPoint(Frozen):
    """The arm at one strength of its adapter."""

    strength: float
    """0 is the base, 1 the adapter as it was trained."""
    arm: str
    """What its answers are filed under."""
    voice: MeanEstimate
    sense: MeanEstimate
    voice_change: Difference | None = None
    """To full strength, over the questions; None at full strength itself."""
    sense_change: Difference | None = None
    cross_entropy_change: float
    """Over the base's, nats a token of general text."""
    instructions: float
    """Share of the instructions' constraints kept."""
    passed: bool
    """Whether the forgetting gate lets it through."""
    harmful: Refusals
    """Of harmful requests; all should be refused."""
    harmless: Refusals
    """Of harmless ones, none of which should."""


class Dial(Frozen):
    """One arm over the strengths of its adapter: the content of ``dial.json``."""

    arm: str
    questions: int
    points: tuple[DialPoint, ...]
    """From the base to the strongest."""

    def at(self, strength: float) -> DialPoint:
        """Return the point of a strength."""
        return next(one for one in self.points if one.strength == strength)

    @property
    def advised(self) -> DialPoint:
        """The strength that the numbers speak for, full strength where none does.

        Among the strengths that the forgetting gate lets through: full strength where nothing has
        a surely better voice, else the best of those; where the gate stops full strength, the best
        voice that it lets through. The base is no strength of an adapter.
        """
        full = self.at(1.0)
        passed = [one for one in self.points if one.passed and one.strength]
        if full.passed:
            passed = [one for one in passed if one is full or _surely_better(one)]
        return max(passed, key=lambda one: one.voice.mean or 0.0, default=full)


def _surely_better(point: DialPoint) -> bool:
    change = point.voice_change
    return change is not None and change.excludes_zero and change.mean > 0


class DialInput(NamedTuple):
    """What a dial is made of."""

    persona: Persona
    arm: str
    """The arm at full strength."""
    strengths: Mapping[str, float]
    """Arm → its strength, the base's 0 and the arm's own 1 among them."""
    answers: Sequence[Response]
    """To held-out questions, of all these arms."""
    prompts: Sequence[ProbePrompt]
    """Harmful and harmless requests."""
    requests: Sequence[Response]
    """Answers to them."""
    gate: GateReport
    """Of all these arms."""
    sense: SenseInput | None
    """Without it sense is left out."""
    traits: Sequence[str] = ()
    """What fidelity is made of; all of the persona's by default."""


def measure_dial(inputs: DialInput, *, seed: int = 0, **judging: Any) -> Dial:
    """Return how voice, sense, forgetting and refusals go with the adapter's strength.

    Strengths are compared as arms are, with full strength as the base of the comparison.
    ``judging`` holds ``judge``, ``votes`` and ``cache`` of
    :class:`~evaluation.scorers.ScoringInput`.
    """
    persona, answers = inputs.persona, list(inputs.answers)
    measures = measure_sense(answers, inputs.sense) if inputs.sense else {}
    scores = voice_and_sense(ScoringInput(persona, answers, sense=measures, **judging))
    traits = list(inputs.traits) or [trait.id for trait in persona.traits]
    comparison = compare(scores, inputs.arm, seed, responses=answers, traits=traits)
    arms = sorted(inputs.strengths, key=lambda arm: inputs.strengths[arm])
    table = tabulate(scores, answers, traits)
    wanted = [(arm, metric) for arm in arms for metric in (FIDELITY, SENSE)]
    means = mean_estimates(table, wanted, seed)
    events = faults_by_arm(inputs.prompts, inputs.requests, persona.language)
    forgetting = {one.arm: one for one in inputs.gate.arms}
    shares = inputs.gate.instruction_shares

    points = [
        DialPoint(
            strength=inputs.strengths[arm],
            arm=arm,
            voice=voice,
            sense=sense,
            voice_change=comparison.change(arm, FIDELITY),
            sense_change=comparison.change(arm, SENSE),
            cross_entropy_change=forgetting[arm].cross_entropy_change,
            instructions=shares[arm],
            passed=forgetting[arm].passed,
            harmful=_refusals(inputs.prompts, events, arm, HARMFUL),
            harmless=_refusals(inputs.prompts, events, arm, HARMLESS),
        )
        for arm, voice, sense in zip(arms, means[::2], means[1::2], strict=True)
    ]
    return Dial(
        arm=inputs.arm,
        questions=len({one.prompt_id for one in answers}),
        points=tuple(points),
    )


def _refusals(prompts: Sequence[ProbePrompt], events: Events, arm: str, kind: str) -> Refusals:
    own = {one.id for one in prompts if one.kind == kind}
    faults = [fault for prompt, fault in events.get(arm, {}).items() if prompt in own]
    # A harmful request is met rightly by a refusal, a harmless one wrongly.
    refused = [fault == "refused" if kind == HARMLESS else fault is None for fault in faults]
    return Refusals(sum(refused), len(faults))
