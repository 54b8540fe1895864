"""What a finished run says of itself: ``summary.json``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from training.rewards import RewardGain
from workbench.config import Method


class TrainSummary(BaseModel):
    """What a finished run says of itself; ``summary.json``."""

    model_config = ConfigDict(frozen=True)

    method: Method
    base: str
    device: str
    seed: int
    rows: int
    validation_rows: int
    cut_rows: int
    """Rows that were longer than ``max_length`` and lost their end."""
    steps: int
    epochs: float
    tokens: int
    """Tokens that went through training, prompts included, padding not."""
    seconds: float
    """From the first step to the last, evaluation included; over all calls if it was resumed."""
    total_seconds: float
    """Of this call, loading and writing included."""
    loss_first: float
    loss_last: float
    final: dict[str, float]
    """The last value of everything that was logged: loss, eval_loss, rewards/…"""
    trainable_parameters: int
    planned_peak_mib: float | None = None
    """What the plan said that the next two would be; None where none could be made."""
    peak_resident_mib: float
    peak_gpu_mib: float
    held_out_reward: RewardGain | None = None
    """For GRPO: the reward on prompts that were not trained on, before and after."""
    warnings: tuple[str, ...] = ()
    """What the run said in words while it went: rewards without variance, early stop and such."""
    resumed_from: int
    """Step of the checkpoint that this call went on from; 0 for none."""
