"""GRPO's rewards: each of the persona's traits is one, and some are watched but not rewarded.

A trait that is held out has weight 0: TRL logs it beside the others, and the policy gains nothing
by it. If the rewarded traits rise while those fall, the reward was hacked. A judge may reward too.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from workbench.errors import UserError, nearest
from workbench.inference.agreement import ReviewedAnswer, SenseAgreement
from workbench.inference.client import EndpointClient
from workbench.inference.embedder import AUTO, NGRAMS, make_embedder
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import judged_traits, trait_share
from workbench.inference.reasoning import separate
from workbench.inference.reward_model import Answered, RewardModel
from workbench.persona import Persona, Trait
from workbench.records import Message
from workbench.values import Frozen, Settings

if TYPE_CHECKING:
    from workbench.inference.reward_model import States

Turns = Sequence[Mapping[str, str]]
"""A conversation as TRL hands it over."""
Completion = str | Turns
RewardFunction = Callable[..., Any]
ReadStates = Callable[[Sequence[Answered]], "States"]
"""Conversations with their answers → (n, d), as :func:`answer_states` gives them."""
DISTINCT = "completions/distinct"
"""Logged: 0 where all completions of a step are one text, 1 where no two are the same."""
REWARDED = "traits/rewarded"
HELD_OUT = "traits/held_out"
SENSE = "sense"
"""Name of the reward that holds a completion against the reviewed answer of its question; TRL logs
its mean as ``rewards/sense/mean``, at weight 0 too."""


class RewardSettings(Settings):
    """The ``rewards`` section of a recipe."""

    traits: dict[str, float] | None = None
    """Trait → weight; every trait that a rule checks, at weight 1, by default."""
    held_out: list[str] | Annotated[float, Field(ge=0, le=1)] = 0.25
    """Traits to watch and not reward: their ids, or a share that the seed draws."""
    judge: float = Field(default=0.0, ge=0, le=100)
    """Weight of the judge's share of yes over the judge's traits; needs a judge's endpoint."""
    sense: float = Field(default=0.0, ge=0, le=100)
    """Weight of sense (:class:`workbench.inference.agreement.SenseAgreement`), which is watched in
    any case: a policy that learns marks alone gains the traits and not this."""
    embedder: str | None = None
    """What sense is told by, as ``evaluate.embedder``; by default n-grams where it is watched, and
    ``auto`` where it is rewarded."""
    reward_model: float = Field(default=0.0, ge=0, le=100)
    """Weight of the reviewers' reward model: the mean chance of the traits that passed the gate of
    the last evaluation with ``reward_model: true``."""
    think: float = Field(default=0.0, ge=0, le=100)
    """Weight of TRL's ``think_format_reward``: reasoning between think tags, then an answer."""


@dataclass
class Rewards:
    """What GRPO's trainer is given, and what was seen of it."""

    functions: list[RewardFunction] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    rewarded: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    seen: dict[str, dict[str, list[float]]] | None = None
    """While recording: question → trait → the values of its completions."""

    def add(self, function: RewardFunction, weight: float) -> None:
        """Add a reward function."""
        self.functions.append(function)
        self.weights.append(weight)

    @contextmanager
    def recording(self) -> Iterator[dict[str, dict[str, list[float]]]]:
        """Within the block, keep every completion's values by question and trait."""
        self.seen = defaultdict(lambda: defaultdict(list))
        try:
            yield self.seen
        finally:
            self.seen = None

    def note(self, trait: str, prompts: Sequence[object], values: Sequence[float]) -> None:
        """Keep the values of a trait, while recording."""
        if self.seen is not None:
            for prompt, value in zip(prompts, values, strict=True):
                self.seen[str(prompt)][trait].append(value)


def make_rewards(
    persona: Persona, settings: RewardSettings, seed: int, judge: Endpoint | None = None
) -> Rewards:
    """Return the reward functions of a persona.

    Raises:
        UserError: A trait that is not there or that no rule checks, nothing left to reward, or a
            judge's weight without a judge.
    """
    traits = {trait.id: trait for trait in persona.rule_traits}
    weights = settings.traits or dict.fromkeys(traits, 1.0)
    named = [*weights, *(settings.held_out if isinstance(settings.held_out, list) else [])]
    for name in named:
        if name not in traits:
            fix = nearest(name, traits) or f"one of {', '.join(traits)}"
            raise UserError(f"{persona.id} has no trait '{name}' that a rule checks", fix=fix)
    held_out = _held_out(settings, weights, seed)
    rewards = Rewards(
        rewarded=tuple(name for name in weights if name not in held_out), held_out=held_out
    )
    for name in (*rewards.rewarded, *held_out):
        rewards.add(_trait_reward(traits[name], rewards), 0 if name in held_out else weights[name])
    rewards.functions[-1] = _with_totals(rewards.functions[-1], persona, rewards)
    if settings.think:
        from trl.rewards import think_format_reward

        rewards.add(think_format_reward, settings.think)
    if settings.judge:
        if judge is None:
            raise UserError(
                "the rewards give a judge a weight, but no judge is configured",
                where="rewards.judge",
                fix="name its endpoint under 'judge' in the configuration, or drop it",
            )
        rewards.add(judge_reward(persona, judge), settings.judge)
    if not any(rewards.weights) and not (settings.sense or settings.reward_model):
        raise UserError(
            "every trait is held out, so that nothing is rewarded",
            where="rewards.held_out",
            fix="hold fewer out",
        )
    return rewards


def sense_reward(
    rows: Sequence[ReviewedAnswer], persona: Persona, settings: RewardSettings, rewards: Rewards
) -> RewardFunction:
    """Return a reward function named :data:`SENSE`, over rows with :data:`REVIEWED` in them.

    ``rows`` are the questions with their reviewed answers, two different ones or more; ``rewards``
    keeps the values while recording.
    """
    setting = settings.embedder or (AUTO if settings.sense else NGRAMS)
    embedder = make_embedder(setting, persona.language, [row.answer for row in rows])
    agreement = SenseAgreement(rows, embedder, persona.language)
    places = {row: place for place, row in enumerate(rows)}

    def reward(
        prompts: Sequence[Turns],
        completions: Sequence[Completion],
        reviewed: Sequence[str],
        **_: object,
    ) -> list[float]:
        own = [
            places[ReviewedAnswer(prompt[-1]["content"], answer)]
            for prompt, answer in zip(prompts, reviewed, strict=True)
        ]
        values = agreement.sense([text_of(one) for one in completions], own)
        rewards.note(SENSE, prompts, values)
        return values

    reward.__name__ = SENSE
    return reward


def model_reward(model: RewardModel, read: ReadStates) -> RewardFunction:
    """Return a reward function named ``reward_model``.

    ``read`` gives what the base, adapters off, makes of answers to their conversations.
    """

    def reward(
        prompts: Sequence[Turns], completions: Sequence[Completion], **_: object
    ) -> list[float]:
        answered = [
            (tuple(Message.model_validate(turn) for turn in prompt), text_of(completion))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        return model.rewards(read(answered))

    reward.__name__ = "reward_model"
    return reward


def _held_out(settings: RewardSettings, weights: dict[str, float], seed: int) -> tuple[str, ...]:
    if isinstance(settings.held_out, list):
        return tuple(settings.held_out)
    count = min(round(len(weights) * settings.held_out), len(weights) - 1)
    return tuple(sorted(random.Random(seed).sample(sorted(weights), count)))


def _trait_reward(trait: Trait, rewards: Rewards) -> RewardFunction:
    def reward(
        prompts: Sequence[object], completions: Sequence[Completion], **_: object
    ) -> list[float]:
        values = [float(bool(trait.passes(text_of(one)))) for one in completions]
        rewards.note(trait.id, prompts, values)
        return values

    reward.__name__ = trait.id
    return reward


def _with_totals(function: RewardFunction, persona: Persona, rewards: Rewards) -> RewardFunction:
    """Return the function, which logs also what is of all traits and texts of a step."""
    passes = {trait.id: trait.passes for trait in persona.rule_traits}

    def reward(completions: Sequence[Completion], log_metric: Any = None, **more: Any) -> Any:
        texts = [text_of(one) for one in completions]
        if log_metric is not None:
            log_metric(DISTINCT, (len(set(texts)) - 1) / max(len(texts) - 1, 1))
            for name, group in ((REWARDED, rewards.rewarded), (HELD_OUT, rewards.held_out)):
                if group:
                    passed = [bool(passes[trait](text)) for trait in group for text in texts]
                    log_metric(name, sum(passed) / len(passed))
        return function(completions=completions, **more)

    reward.__name__ = function.__name__
    return reward


def text_of(completion: Completion) -> str:
    """Return the answer in a completion, which TRL gives as a list of one message.

    Reasoning earns nothing: nobody is shown it.
    """
    text = completion if isinstance(completion, str) else str(completion[-1]["content"])
    return separate(text).text


RESAMPLES = 2000


class RewardGain(Frozen):
    """Mean rewards before and after training, on the same prompts that were not trained on."""

    prompts: int
    before: float
    after: float
    gain: float
    low: float
    """Lower end of the 95 % bootstrap interval of the gain, prompts resampled."""
    high: float
    sense_before: float | None = None
    """Mean sense of the completions; None where it was not measured."""
    sense_after: float | None = None
    unrewarded_before: float | None = None
    """Mean share of the traits that the reward leaves out; None where it leaves none out."""
    unrewarded_after: float | None = None


def reward_gain(
    before: Mapping[str, float], after: Mapping[str, float], seed: int, **others: float | None
) -> RewardGain:
    """Return the paired gain over the prompts, each prompt's mean reward being one number.

    The interval is the percentile bootstrap; with one prompt, or the same gain everywhere, it has
    no width.
    """
    import numpy as np

    from workbench.stats.bootstrap import percentile_interval

    shared = sorted(set(before) & set(after))
    first, last = (np.array([side[key] for key in shared]) for side in (before, after))
    gains = last - first
    gain = float(gains.mean())
    ends = None
    if np.ptp(gains) > 0:
        ends = percentile_interval(
            len(gains),
            lambda counts: counts @ gains / len(gains),
            seed=seed,
            resamples=RESAMPLES,
        )
    low, high = ends or (gain, gain)
    return RewardGain(
        prompts=len(shared),
        before=float(first.mean()),
        after=float(last.mean()),
        gain=gain,
        low=low,
        high=high,
        **others,
    )


def judge_reward(persona: Persona, judge: Endpoint) -> RewardFunction:
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
        prompts: Sequence[Turns], completions: Sequence[Completion], **_: object
    ) -> list[float | None]:
        # A client belongs to one event loop; a fresh one each step cannot meet another's.
        # A step does not wait for a batch.
        async with EndpointClient(judge.model_copy(update={"batch": False})) as client:
            shares = (
                trait_share(
                    client,
                    persona,
                    tuple(Message.model_validate(turn) for turn in prompt),
                    text_of(answer),
                )
                for prompt, answer in zip(prompts, completions, strict=True)
            )
            return list(await asyncio.gather(*shares))

    reward.__name__ = "judge"
    return reward
