"""What fails an evaluation: ability lost beyond its bound, or too much left unscored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from evaluation.gate_rounds import AcrossRounds
from evaluation.general import General
from evaluation.scorers import NO_JUDGE
from workbench.config import Gate
from workbench.records import Score


class Forgetting(BaseModel):
    """One arm's general ability against the base's."""

    model_config = ConfigDict(frozen=True)

    arm: str
    cross_entropy: float
    """Nats a token."""
    cross_entropy_change: float
    """Over the base's; above zero is worse."""
    accuracy: float
    accuracy_change: float
    """Over the base's; below zero is worse."""
    passed: bool


class GateReport(BaseModel):
    """The forgetting gate over all arms: the content of ``general.json``."""

    model_config = ConfigDict(frozen=True)

    base: str
    bounds: Gate
    arms: tuple[Forgetting, ...]
    general: dict[str, General]
    """Arm → text by text and question by question."""
    across: AcrossRounds | None = None
    """The last adapter against the last round's; None in a first round."""

    @property
    def failures(self) -> list[str]:
        """One line for each arm that forgot more than it may, of the base's or the last round's."""
        across = self.across.failures(self.bounds) if self.across else []
        return across + [
            f"{arm.arm}: cross-entropy {arm.cross_entropy_change:+.3f} nats a token (bound"
            f" +{self.bounds.cross_entropy:g}), right answers {arm.accuracy_change:+.0%} (bound"
            f" -{self.bounds.accuracy:.0%})"
            for arm in self.arms
            if not arm.passed
        ]


def check_forgetting(
    general: Mapping[str, General], bounds: Gate, *, base: str = "base"
) -> GateReport:
    """Return every arm's change against ``base`` and whether it stays within the bounds.

    Args:
        general: Arm → its general ability, the base's among them.
        bounds: Largest changes for the worse; a change of just the bound passes.
        base: Arm that the others are held against.
    """
    own = general[base]
    arms = []
    for name, found in general.items():
        rise = found.cross_entropy - own.cross_entropy
        change = found.accuracy - own.accuracy
        within = rise <= bounds.cross_entropy + _TINY and change >= -bounds.accuracy - _TINY
        arms.append(
            Forgetting(
                arm=name,
                cross_entropy=found.cross_entropy,
                cross_entropy_change=rise,
                accuracy=found.accuracy,
                accuracy_change=change,
                passed=within,
            )
        )
    return GateReport(base=base, bounds=bounds, arms=tuple(arms), general=dict(general))


_TINY = 1e-9
"""So that a change of exactly the bound is not lost to rounding."""


class Unscored(BaseModel):
    """How many of a metric's scores are missing."""

    model_config = ConfigDict(frozen=True)

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
    counts: dict[str, int] = defaultdict(int)
    reasons: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for score in scores:
        if score.unscored == NO_JUDGE:
            continue
        counts[score.metric] += 1
        if score.value is None:
            reasons[score.metric][score.unscored] += 1
    found = [
        Unscored(
            metric=metric,
            scores=count,
            unscored=sum(reasons[metric].values()),
            reasons=dict(reasons[metric]),
        )
        for metric, count in counts.items()
    ]
    return sorted((u for u in found if u.share > bound), key=lambda u: -u.share)
