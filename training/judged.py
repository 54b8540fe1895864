"""A judge as a reward: the share of the persona's judge questions that an endpoint says yes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.errors import UserError
from workbench.inference.client import EndpointClient
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import judged_traits, trait_share
from workbench.persona import Persona
from workbench.records import Message

Turns = Sequence[Mapping[str, str]]
"""A conversation as TRL hands it over."""


def judge_reward(persona: Persona, judge: Endpoint) -> Callable[..., Any]:
    """Return an asynchronous reward function named ``judge``.

    A completion that the judge does not answer for is unscored (None), which TRL leaves out of
    the sum: a slow endpoint weakens the signal, it does not stop the run.

    Raises:
        UserError: The persona has no trait that only a judge can check.
    """
    if not judged_traits(persona):
        raise UserError(
            f"{persona.id} has no trait for a judge, so that rewards.judge means nothing",
            fix="leave rewards.judge out",
        )

    async def reward(
        prompts: Sequence[Turns], completions: Sequence[str | Turns], **_: Any
    ) -> list[float | None]:
        # A client belongs to one event loop; a fresh one each step cannot meet another's.
        async with EndpointClient(judge) as client:
            shares = (
                trait_share(
                    client,
                    persona,
                    tuple(Message.model_validate(turn) for turn in prompt),
                    answer if isinstance(answer, str) else answer[-1]["content"],
                )
                for prompt, answer in zip(prompts, completions, strict=True)
            )
            return list(await asyncio.gather(*shares))

    reward.__name__ = "judge"
    return reward
