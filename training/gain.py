"""How much the reward on held-out prompts rose, with an interval over the prompts."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

RESAMPLES = 2000


class RewardGain(BaseModel):
    """Mean rewards before and after training, on the same prompts that were not trained on."""

    model_config = ConfigDict(frozen=True)

    prompts: int
    before: float
    after: float
    gain: float
    low: float
    """Lower end of the 95 % bootstrap interval of the gain, prompts resampled."""
    high: float
    unrewarded_before: float | None = None
    """Mean share of the traits that the reward leaves out; None where it leaves none out."""
    unrewarded_after: float | None = None


def reward_gain(
    before: Mapping[str, float], after: Mapping[str, float], seed: int, **unrewarded: float | None
) -> RewardGain:
    """Return the paired gain over the prompts, each prompt's mean reward being one number.

    The interval is the percentile bootstrap of ``scipy.stats.bootstrap``; with one prompt, or the
    same gain everywhere, it has no width.
    """
    import numpy as np
    from scipy.stats import bootstrap

    shared = sorted(set(before) & set(after))
    first, last = (np.array([side[key] for key in shared]) for side in (before, after))
    gains = last - first
    low = high = float(gains.mean())
    if len(gains) > 1 and np.ptp(gains) > 0:
        found = bootstrap(
            (gains,), np.mean, n_resamples=RESAMPLES, method="percentile", random_state=seed
        )
        low, high = (float(end) for end in found.confidence_interval)
    return RewardGain(
        prompts=len(shared),
        before=float(first.mean()),
        after=float(last.mean()),
        gain=float(gains.mean()),
        low=low,
        high=high,
        **unrewarded,
    )
