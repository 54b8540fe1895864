"""What a comparison of arms says: ``comparison.json``, as values."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ALPHA = 0.05
"""A corrected p below this is called a difference."""
FEWEST_PAIRS = 6
"""Pairs below which no difference is called one: five prompts all won have a p of 0.06."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difference(_Value):
    """An arm minus a reference on the prompts that both were scored on."""

    pairs: int
    """Prompts that both arms have a score for."""
    mean: float
    low: float | None
    """Lower end of the interval; None with fewer than two pairs."""
    high: float | None
    method: Literal["bca", "percentile", "none"]
    sd: float | None = None
    """Standard deviation of the differences; None with fewer than two pairs."""
    wins: int = 0
    """Prompts on which the arm scored higher."""
    losses: int = 0
    p: float | None = None
    """Two-sided p of the exact sign test; None where every prompt is a tie."""
    p_adjusted: float | None = None
    """The same after Holm's correction within its family of tests."""
    detectable: float | None = None
    """Least true difference that this many pairs find with 80 % power; fidelity only."""
    needed: int | None = None
    """Pairs that would find half of that difference with the same power."""

    @property
    def ties(self) -> int:
        """Prompts on which both scored alike."""
        return self.pairs - self.wins - self.losses

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies wholly on one side of zero, with pairs enough to say so."""
        if self.low is None or self.high is None or self.pairs < FEWEST_PAIRS:
            return False
        return self.low > 0 or self.high < 0

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes zero and the corrected test agrees."""
        return self.excludes_zero and self.p_adjusted is not None and self.p_adjusted < ALPHA


class Cell(_Value):
    """One arm on one metric."""

    arm: str
    metric: str
    scored: int
    unscored: int
    reasons: dict[str, int]
    """Why scores are missing → how many."""
    mean: float | None
    """Mean of the scored ones; None where there are none."""
    difference: Difference | None
    """To the base; None for the base itself, and where no prompt is scored in both."""
    against_prompt: Difference | None = None
    """To the base with the persona's system prompt, where that arm answered."""
    probe: str = ""
    """The probe set that was asked; empty for the held-out questions."""
    turn: int = 0
    """The turn of a conversation, from 1; 0 where there is only one."""


class Spread(_Value):
    """How far one arm's fidelity moves from seed to seed of sampled decoding."""

    arm: str
    means: dict[int, float]
    """Seed → mean fidelity over the held-out prompts."""
    sd: float | None
    """Standard deviation between the seeds; None with only one."""


class Comparison(_Value):
    """Every arm on every metric, each against the base and the base with a system prompt."""

    base: str
    seed: int
    level: float
    resamples: int
    prompts: int
    """Different held-out prompts that scores were asked for."""
    arms: tuple[str, ...]
    metrics: tuple[str, ...]
    cells: tuple[Cell, ...]
    """Held-out prompts only."""
    prompted: str = ""
    """The arm that is the base with the persona's system prompt; empty where it did not answer."""
    traits: tuple[str, ...] = ()
    """The traits that fidelity is made of; empty where the scores do not tell."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Trait that carries no weight in fidelity → why."""
    probes: tuple[Cell, ...] = ()
    """One a probe set, arm and metric."""
    drift: tuple[Cell, ...] = ()
    """One a turn, arm and metric of the conversations of several turns."""
    drift_change: dict[str, Difference] = Field(default_factory=dict)
    """Arm → fidelity in the last turn minus that in the first, over conversations."""
    seeds: tuple[Spread, ...] = ()

    def cell(self, arm: str, metric: str) -> Cell:
        """Return the cell of an arm and a metric on the held-out prompts.

        Raises:
            KeyError: There is none.
        """
        for cell in self.cells:
            if (cell.arm, cell.metric) == (arm, metric):
                return cell
        raise KeyError((arm, metric))

    @property
    def unscored_share(self) -> float:
        """Share of all scores that could not be given, those of probes and turns included."""
        every = (*self.cells, *self.probes, *self.drift)
        missing = sum(cell.unscored for cell in every)
        total = missing + sum(cell.scored for cell in every)
        return missing / total if total else 0.0
