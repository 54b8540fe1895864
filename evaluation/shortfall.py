"""What is said of a tuned model's weak places and of more rows: values, without the statistics.

The command line holds them in its own records, so nothing heavy is imported here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Family = Literal["trait", "topic", "probe", "turn", "learned"]
Against = Literal["reviewed", "other_traits", "other_topics", "held_out", "first_turn"]
Advice = Literal["more", "stop", "unclear"]


class Gap(BaseModel):
    """How far the arm falls short in one place of what it is held against."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: Family
    name: str
    """The trait, the topic, the probe set, or the turn."""
    against: Against
    """``reviewed``: what people kept as the answer to the same prompt; ``other_traits``: the same
    answers' other traits; ``other_topics``, ``held_out``: other prompts; ``first_turn``: of the
    same conversations."""
    prompts: int
    others: int
    """Prompts of the other side where they are others; 0 where the same ones are compared."""
    value: float
    reference: float
    gap: float
    """Mean of ``value`` minus ``reference``; below 0 the arm is weaker here."""
    low: float | None
    """Lower end of the interval of ``gap``; None where there are too few prompts."""
    high: float | None
    p: float | None
    p_adjusted: float | None = None
    """After Holm's correction within the family."""

    @property
    def is_sure(self) -> bool:
        """Whether the arm is weaker here: interval below 0, and the corrected test agrees."""
        from workbench.stats.model import ALPHA

        below = self.high is not None and self.high < 0
        tested = self.p_adjusted is not None and self.p_adjusted < ALPHA
        return self.is_enough and below and tested

    @property
    def is_enough(self) -> bool:
        """Whether there are prompts enough to tell a difference at all."""
        from workbench.stats.model import FEWEST_PAIRS

        return min(self.prompts, self.others or self.prompts) >= FEWEST_PAIRS

    @property
    def certain_gap(self) -> float:
        """The end of the interval nearest to 0, as a size above 0; 0.0 where nothing is sure."""
        return -self.high if self.is_sure and self.high is not None else 0.0


class LearningCurve(BaseModel):
    """A fitted curve and what it foretells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: str
    """What falls: ``validation_loss`` in nats a token, or ``missed``, 1 less the fidelity."""
    sizes: tuple[int, ...]
    """Training rows, rising."""
    means: tuple[float, ...]
    scored: int
    """Rows or prompts that every size was scored on."""
    scale: float
    exponent: float
    floor: float
    doubled: float
    """Foretold mean with twice the rows of the largest size."""
    gain: float
    """By how much it is below the fitted mean of the largest size, as a share of that; 0 to 1."""
    low: float | None
    high: float | None
    advice: Advice
    """``more`` where the whole interval is worth it, ``stop`` where none of it is."""
