"""Where answers are cut: room for the persona's own answers, and the share that was cut there."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from workbench.records import Response

LEAST = 128
"""Tokens that an answer may always have."""
STEP = 64
"""The limit is a multiple of it, so that a few other rows don't make another decoding."""


def room(tokenizer: Any, answers: Iterable[str]) -> int:
    """Return the new tokens to allow: the longest of ``answers`` and a tenth more.

    A tokenizer that knows little of a language cuts its words into bytes: 200 Korean characters
    are up to 440 tokens of SmolLM2, so that no fixed number fits every persona and model.
    """
    longest = max((len(tokenizer(answer)["input_ids"]) for answer in answers), default=0)
    return max(LEAST, STEP * math.ceil(1.1 * longest / STEP))


def cut_shares(responses: Iterable[Response], most: int) -> dict[str, float]:
    """Return arm → share of its answers that reached ``most`` tokens and so may lack their end."""
    found: dict[str, list[bool]] = defaultdict(list)
    for response in responses:
        found[response.arm].append(response.tokens >= most)
    return {arm: sum(cut) / len(cut) for arm, cut in found.items()}
