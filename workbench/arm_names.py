"""What an arm's name says of it: whether it is prompted, and which one a verdict is about.

In: names of arms. Out: the same, chosen. Evaluation, rounds and the statistics ask here.
"""

from __future__ import annotations

from collections.abc import Sequence

PROMPTED = "base+prompt"
FEW_SHOT = "base+few-shot"
"""The same with examples that were searched for on validation rows."""
OPTIMISED = "base+optimised"
"""The base with a system prompt that a teacher wrote anew, held to validation rows."""
PROMPT_ARMS = (PROMPTED, FEW_SHOT, OPTIMISED)
"""The base with prompts of which tuning has to beat the best."""
_PROMPTED = ("+prompt", "+few-shot", "+optimised")
HEADLINE = ("sft+dpo", "dpo", "sft")
"""The arm that the verdict is about: the first of these that answered, else the last arm that is
asked without a system prompt."""


def is_prompted(arm: str) -> bool:
    """Return whether an arm is asked with a system prompt, by its name."""
    return arm.endswith(_PROMPTED)


def headline_arm(base: str, arms: Sequence[str]) -> str | None:
    """Return the arm that a verdict is about, which its name alone decides; None without any."""
    others = [arm for arm in arms if arm != base]
    # A trained model without a system prompt is what the project is about.
    unprompted = [arm for arm in others if not is_prompted(arm)] or others
    last = unprompted[-1] if unprompted else None
    return next((arm for arm in HEADLINE if arm in others), last)
