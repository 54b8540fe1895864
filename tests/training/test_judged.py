from __future__ import annotations

import asyncio
import json

import pytest

from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from training.judged import judge_reward
from training.rewards import RewardSettings, make_rewards
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona

PROMPT = [{"role": "user", "content": "My wrist hurts."}]


def script(request: Request) -> Reply:
    if "broken" in request.prompt:
        return fails(400)
    word = "yes" if "rest it" in request.prompt else "no"
    return says(json.dumps({"reason": "So.", "value": word}))


def answers(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_the_reward_is_the_share_of_yes_and_none_where_the_judge_fails(
    small_persona: Persona,
) -> None:
    said = answers("rest it", "walk", "broken")
    with ScriptedServer(script) as server:
        judge = Endpoint(base_url=server.url, model="judge", attempts=1)
        values = asyncio.run(
            judge_reward(small_persona, judge)(prompts=[PROMPT] * 3, completions=said)
        )

    assert values == [1.0, 0.0, None]
    assert "Is the answer kind?" in server.requests[0].prompt
    assert "My wrist hurts." in server.requests[0].prompt


def test_the_judge_gets_its_weight_beside_the_traits(small_persona: Persona) -> None:
    judge = Endpoint(base_url="http://127.0.0.1:9/v1", model="judge")

    rewards = make_rewards(small_persona, RewardSettings(judge=0.5), 0, judge)

    assert rewards.functions[-1].__name__ == "judge"
    assert rewards.weights[-1] == 0.5
    assert asyncio.iscoroutinefunction(rewards.functions[-1])


def test_a_persona_without_a_judge_s_trait_is_told(small_persona: Persona) -> None:
    plain = small_persona.model_copy(update={"traits": small_persona.traits[:2]})

    with pytest.raises(UserError, match="no trait for a judge"):
        judge_reward(plain, Endpoint(base_url="http://127.0.0.1:9/v1", model="judge"))
