from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.scripted_server import Reply, Request, ScriptedServer, fails, says
from training.data import REVIEWED
from training.grpo import RewardHooks
from training.rewards import (
    DISTINCT,
    HELD_OUT,
    REWARDED,
    RewardSettings,
    judge_reward,
    make_rewards,
    sense_reward,
    text_of,
)
from training.run import TrainerParts
from workbench.errors import UserError
from workbench.inference.agreement import ReviewedAnswer
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona

from .conftest import GRPO, recipe_of, run_of

HURTS = [{"role": "user", "content": "My wrist hurts."}]
PROMPTS = [[{"role": "user", "content": "a"}]] * 2


def completions(*texts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def test_a_held_out_trait_has_no_weight_and_the_seed_draws_it(small_persona: Persona) -> None:
    drawn = {
        make_rewards(small_persona, RewardSettings(held_out=0.5), seed).held_out
        for seed in range(8)
    }
    rewards = make_rewards(small_persona, RewardSettings(held_out=0.5), 0)

    assert drawn == {("short",), ("walks",)}
    assert rewards.weights == [1.0, 0]
    assert [f.__name__ for f in rewards.functions] == [*rewards.rewarded, *rewards.held_out]


def test_the_whole_is_never_held_out_by_a_share(small_persona: Persona) -> None:
    assert len(make_rewards(small_persona, RewardSettings(held_out=1.0), 0).rewarded) == 1


def test_a_trait_s_reward_is_its_rule_and_totals_are_logged(small_persona: Persona) -> None:
    settings = RewardSettings(traits={"short": 2.0, "walks": 1.0}, held_out=["walks"])
    rewards = make_rewards(small_persona, settings, 0)
    said = completions("walk", "a very long answer of words")
    logged: dict[str, float] = {}

    values = [
        function(prompts=PROMPTS, completions=said, log_metric=logged.__setitem__)
        for function in rewards.functions
    ]

    assert rewards.weights == [2.0, 0]
    assert values == [[1.0, 0.0], [1.0, 0.0]]
    assert logged == {DISTINCT: 1.0, REWARDED: 0.5, HELD_OUT: 0.5}


def test_one_text_for_all_is_logged_as_0(small_persona: Persona) -> None:
    rewards = make_rewards(small_persona, RewardSettings(held_out=[]), 0)
    logged: dict[str, float] = {}

    for function in rewards.functions:
        function(prompts=PROMPTS, completions=completions("x", "x"), log_metric=logged.__setitem__)

    assert logged[DISTINCT] == 0
    assert HELD_OUT not in logged


def test_values_are_kept_by_question_only_while_recording(small_persona: Persona) -> None:
    rewards = make_rewards(small_persona, RewardSettings(held_out=[]), 0)
    with rewards.recording() as seen:
        rewards.functions[0](prompts=PROMPTS, completions=completions("a", "b" * 20))
    rewards.functions[0](prompts=PROMPTS, completions=completions("a", "b"))

    assert list(seen.values()) == [{"short": [1.0, 0.0]}]


def test_a_judge_without_an_endpoint_and_nothing_to_reward_are_refused(
    small_persona: Persona,
) -> None:
    with pytest.raises(UserError, match="no judge is configured"):
        make_rewards(small_persona, RewardSettings(judge=1.0), 0)
    with pytest.raises(UserError, match="every trait is held out"):
        make_rewards(small_persona, RewardSettings(held_out=["short", "walks"]), 0)


def test_the_think_reward_wants_reasoning_before_the_answer(small_persona: Persona) -> None:
    rewards = make_rewards(small_persona, RewardSettings(think=0.5), 0)
    said = completions("<think>\nwhy\n</think>\nwalk", "walk")

    assert rewards.weights[-1] == 0.5
    assert rewards.functions[-1](completions=said) == [1.0, 0.0]


ROWS = [
    ReviewedAnswer("My wrist hurts.", "Turn the thumb up and press lighter, champ."),
    ReviewedAnswer("May I skip breakfast?", "Eat an egg before the early class, champ."),
    ReviewedAnswer("How long do I rest?", "Two minutes between the heavy sets, champ."),
]


def test_sense_is_watched_by_default_and_rewarded_where_the_recipe_says_so(
    small_persona: Persona, tmp_path: Path
) -> None:
    rows = [
        {"prompt": [{"role": "user", "content": question}], REVIEWED: answer}
        for question, answer in ROWS
    ]
    for settings, weight in ((RewardSettings(), 0.0), (RewardSettings(sense=2.0), 2.0)):
        known = settings.model_copy(update={"embedder": "ngrams"})
        recipe = recipe_of(GRPO).model_copy(update={"rewards": known})
        run = run_of(recipe, tmp_path, tmp_path, tmp_path, persona=small_persona)
        hooks = RewardHooks(run)
        arguments: Any = SimpleNamespace(generation_batch_size=8, num_generations=4)
        train: Any = SimpleNamespace(rows=rows, path=tmp_path)
        unread: Any = None  # neither the model nor its tokenizer is looked at
        parts = TrainerParts(run, unread, unread, arguments, train, None)
        functions: Any = hooks.trainer_inputs(parts)["reward_funcs"]
        assert functions[-1].__name__ == "sense" and arguments.reward_weights[-1] == weight


def test_a_policy_that_says_the_marks_alone_gains_no_sense(small_persona: Persona) -> None:
    rewards = make_rewards(small_persona, RewardSettings(sense=1.0), 0)
    settings = RewardSettings(embedder="ngrams", sense=1.0)
    reward = sense_reward(ROWS, small_persona, settings, rewards)
    prompts = [[{"role": "user", "content": row.question}] for row in ROWS]
    answers = [row.answer for row in ROWS]

    def values(texts: list[str]) -> list[float]:
        value: list[float] = reward(
            prompts=prompts, completions=completions(*texts), reviewed=answers
        )
        return value

    assert min(values(answers)) > 0.8
    assert values(["Champ, walk!"] * 3) == pytest.approx([0, 0, 0], abs=0.15)
    assert values([*answers[1:], answers[0]]) == [0, 0, 0]
    assert values([row.question for row in ROWS]) == [0, 0, 0]
    assert values(["walk it now champ " * 6, "", "💪"]) == [0, 0, 0]
    with rewards.recording() as seen:
        values(answers)
    assert {name for own in seen.values() for name in own} == {"sense"}


def test_sense_alone_may_be_rewarded(small_persona: Persona) -> None:
    alone = RewardSettings(held_out=["short", "walks"], sense=1.0)
    assert make_rewards(small_persona, alone, 0).rewarded == ()


def test_where_the_judge_alone_is_rewarded_no_gain_is_told(
    small_persona: Persona, tmp_path: Path
) -> None:
    judge = Endpoint(base_url="http://127.0.0.1:9/v1", model="judge")
    watched = RewardSettings(held_out=["short", "walks"], judge=1.0)
    recipe = recipe_of(GRPO).model_copy(update={"rewards": watched})
    run = run_of(recipe, tmp_path, tmp_path, tmp_path, persona=small_persona, judge=judge)
    parts: Any = SimpleNamespace(validation=("rows",))
    trained: list[bool] = []

    trainer: Any = None

    gain = RewardHooks(run).train(trainer, parts, lambda: trained.append(True))

    assert gain is None
    assert trained == [True]


def test_the_text_of_a_completion_is_its_last_message() -> None:
    assert text_of("plain") == text_of([{"role": "assistant", "content": "plain"}]) == "plain"


def script(request: Request) -> Reply:
    if "broken" in request.prompt:
        return fails(400)
    word = "yes" if "rest it" in request.prompt else "no"
    return says(json.dumps({"reason": "So.", "value": word}))


def test_the_reward_is_the_share_of_yes_and_none_where_the_judge_fails(
    small_persona: Persona,
) -> None:
    answers = completions("rest it", "walk", "broken")
    with ScriptedServer(script) as server:
        judge = Endpoint(base_url=server.url, model="judge", attempts=1)
        values = asyncio.run(
            judge_reward(small_persona, judge)(prompts=[HURTS] * 3, completions=answers)
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
