"""What a report is made of: one value, which the stage of the report fills from a round.

The report knows no file of a round. Parts that a round does not have stay empty, and the page
leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from evaluation.calibration import Calibration
from evaluation.dial import Dial
from evaluation.gate import GateReport
from evaluation.outcome import SenseReport
from evaluation.pairwise import WinRate
from evaluation.people import People
from evaluation.prices import Prices
from evaluation.reward_model import RewardReport
from evaluation.robustness import Robustness
from evaluation.safety_case import SafetyCase
from evaluation.style import StyleReport
from evaluation.sweep import SweepReport
from workbench.commands import RoundOptions
from workbench.inference.endpoint import Paid, TeacherPart
from workbench.persona import Persona
from workbench.records import Drop, Example, Response, Score, SplitName
from workbench.stats import Comparison
from workbench.stats.agreement import RaterAgreement, RuleAgreement
from workbench.stats.training_seeds import CrossedMean, SeedsReport


class WrittenFile(NamedTuple):
    """A file as its stage wrote it."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class StageRun:
    """What one finished stage took and wrote."""

    stage: str
    started: str
    """ISO 8601."""
    seconds: float
    peak_mib: int
    """Peak memory of all its processes."""
    seed: int
    model: str = ""
    tokens: int = 0
    """Tokens that models of this machine answered with."""
    paid: Paid = field(default_factory=Paid)
    """Requests to endpoints and their tokens, over every run of the round."""
    spent: float | None = None
    """What these cost; None where no price is configured."""
    currency: str = ""
    teachers: Sequence[TeacherPart] = ()
    """What each of several teachers gave."""
    files: Mapping[str, WrittenFile] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Distribution → version."""


class PlantedFault(NamedTuple):
    """A fault that was put into one of the persona's seeds to see what finds it."""

    row: int
    """Line of the seed file, from 1."""
    fault: str
    detail: str = ""


class ReviewersAgreement(NamedTuple):
    """How far reviewers agree."""

    overlapping: int
    """Rows with two reviews or more."""
    questions: Mapping[str, RaterAgreement]
    rules: Mapping[str, RuleAgreement] = {}
    """Trait → its rule beside what reviewers themselves said of the trait."""


@dataclass(frozen=True)
class ReportInput:
    """One round as the report sees it."""

    round: str
    at: RoundOptions
    """What names the round in a command."""
    persona: Persona
    comparison: Comparison
    responses: Sequence[Response]
    scores: Sequence[Score]
    stages: Sequence[StageRun] = ()
    """Finished stages, in their order."""
    rows: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    """Stage of data → its rows, in the order of stages."""
    steps: Mapping[str, int] = field(default_factory=dict)
    """Step on the rows' way → rows left after it, in order; steps that were not taken are not in
    it."""
    splits: Mapping[SplitName, Sequence[Example]] = field(default_factory=dict)
    drops: Sequence[Drop] = ()
    """Every drop, in the order of stages."""
    faults: Sequence[PlantedFault] = ()
    agreement: ReviewersAgreement | None = None
    calibration: Calibration | None = None
    reward: RewardReport | None = None
    """The reward model in a judge's place, and how many labelled answers it takes."""
    general: GateReport | None = None
    style: StyleReport | None = None
    win_rates: Sequence[WinRate] = ()
    people: People | None = None
    sense: SenseReport | None = None
    safety: SafetyCase | None = None
    safety_answers: Sequence[Response] = ()
    """What the safety case was made of."""
    seeds: SeedsReport | None = None
    """Further trainings with other seeds; ``comparison`` has their means and intervals then."""
    by_topic: CrossedMean | None = None
    """The primary measure's difference of one training, with its interval over topics."""
    robustness: Robustness | None = None
    surface_answers: Sequence[Response] = ()
    """What the robustness is measured on; ``probe`` is the id of the surface."""
    prices: Prices | None = None
    sweeps: Sequence[SweepReport] = ()
    """What other values of the recipe, or other bases, make of the validation rows."""
    dial: Dial | None = None
    dial_answers: Sequence[Response] = ()
    """Of the arm at other strengths of its adapter."""
    curves: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """Training method → what each logged step held: step, losses and rewards by TRL's names."""
    primaries: Sequence[str] = ()
    """What was named as the measure that counts, evaluation by evaluation, the last one last."""
    max_new_tokens: int = 0
    """Tokens that an answer could have at most."""
    cut: Mapping[str, float] = field(default_factory=dict)
    """Arm → share of its answers that ended there."""
    config: str = ""
    """The round's configuration file."""

    def stage(self, name: str) -> StageRun | None:
        """Return a finished stage, or None."""
        return next((one for one in self.stages if one.stage == name), None)

    @property
    def examples(self) -> dict[str, Example]:
        """Every row of the stages of data, by id."""
        return {row.id: row for rows in self.rows.values() for row in rows}

    @property
    def spent(self) -> dict[str, float]:
        """Currency → what all stages cost; currencies are never added up."""
        sums: dict[str, float] = {}
        for one in self.stages:
            if one.spent is not None:
                sums[one.currency] = sums.get(one.currency, 0.0) + one.spent
        return sums

    @property
    def versions(self) -> dict[str, str]:
        """Distribution → version, the last stage's where they differ."""
        versions: dict[str, str] = {}
        for one in self.stages:
            versions |= one.versions
        return dict(sorted(versions.items()))
