"""A judge as a reward: the share of the persona's judge questions that an endpoint says yes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from workbench.checks import Judge
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona

_ASK = "{question}\n\nQuestion of the user:\n{asked}\n\nAnswer:\n{answer}\n\nSay only yes or no."


def judge_reward(persona: Persona, judge: Endpoint) -> Callable[..., Any]:
    """Return an asynchronous reward function named ``judge``.

    A completion that the judge does not answer for is unscored (None), which TRL leaves out of
    the sum: a slow endpoint weakens the signal, it does not stop the run.

    Raises:
        UserError: The persona has no trait that only a judge can check.
    """
    questions = [trait.check.judge for trait in persona.traits if isinstance(trait.check, Judge)]
    if not questions:
        raise UserError(
            f"{persona.id} has no trait for a judge, so that rewards.judge means nothing",
            fix="leave rewards.judge out",
        )

    async def reward(
        prompts: Sequence[Any], completions: Sequence[Any], **_: Any
    ) -> list[float | None]:
        slots = asyncio.Semaphore(judge.concurrency)
        # A client belongs to one event loop; a fresh one each step cannot meet another's.
        async with judge.client() as client:
            asked = (
                _share(client, judge.model, slots, questions, prompt[-1]["content"], answer)
                for prompt, answer in zip(prompts, completions, strict=True)
            )
            return list(await asyncio.gather(*asked))

    reward.__name__ = "judge"
    return reward


async def _share(
    client: Any,
    model: str,
    slots: asyncio.Semaphore,
    questions: Sequence[str],
    asked: str,
    completion: Any,
) -> float | None:
    """Return the share of yes among the questions that were answered, None if none was."""
    from openai import OpenAIError

    answer = completion if isinstance(completion, str) else completion[-1]["content"]
    said: list[bool] = []
    for question in questions:
        text = _ASK.format(question=question, asked=asked, answer=answer)
        try:
            async with slots:
                reply = await client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": text}],
                    temperature=0,
                    max_tokens=4,
                )
        except OpenAIError:
            continue
        word = (reply.choices[0].message.content or "").strip().lower()
        if word.startswith(("yes", "no")):
            said.append(word.startswith("yes"))
    return sum(said) / len(said) if said else None
