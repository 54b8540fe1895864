"""What an arm's answers cost: tokens of its prompt, and seconds or money for a thousand answers.

In: the arms that answered, with their answers. Out: :class:`Prices`, which ``prices.json`` holds.
Called where the models answer; the report puts it beside fidelity, since a prompt is paid for with
every answer and a training once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from pydantic import Field

from evaluation.arms import Arm, ModelPool
from evaluation.turns import first_turn
from workbench.inference.answer_cache import paid_by
from workbench.inference.engines import chats
from workbench.records import Example, Response
from workbench.values import Frozen

TIMED = 8
"""Questions that an arm is timed on, answered together."""
_THOUSAND = 1000


class ArmPrice(Frozen):
    """What one arm's answers to held-out questions take."""

    arm: str
    prompt_tokens: float | None
    """Of a question as the model reads it, the mean; None where an endpoint renders it."""
    answer_tokens: float
    """Of an answer, the mean."""
    seconds: float | None = None
    """A thousand answers on this machine, so many at once as were timed; None where none was."""
    money: float | None = None
    """A thousand answers, of an endpoint whose price is known."""
    currency: str = ""


class SearchedPrompt(Frozen):
    """A prompt that was searched for, and what it was chosen by."""

    arm: str
    text: str
    """The system prompt."""
    rows: tuple[str, ...] = ()
    """Ids of the training rows that it shows."""
    loss: float | None = None
    """Of the validation rows' answers under it, nats a token."""
    plain_loss: float | None = None
    """The same under the persona's system prompt alone."""
    score: float | None = None
    """Of the base's answers to the validation rows under it: the mean of voice and sense, 0 to 1,
    of a prompt that a teacher wrote."""
    plain_score: float | None = None
    """The same under the persona's system prompt alone."""
    trials: int = 0
    """Sets of rows, or prompts, that were held to the validation rows."""
    answers: int = 0
    """Of the base, that the search took."""
    reflections: int = 0
    """Questions to the teacher."""
    seconds: float = 0.0


class Prices(Frozen):
    """What every arm costs, and the prompts that were searched for: the content of the file."""

    arms: tuple[ArmPrice, ...]
    timed: int = 0
    """Questions that were timed, answered together; 0 where nothing was."""
    prompts: tuple[SearchedPrompt, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    """Prompt arm that was asked for → why there is none: ``no_teacher`` or ``no_package``."""

    def arm(self, name: str) -> ArmPrice | None:
        """Return an arm's price; None where it did not answer."""
        return next((one for one in self.arms if one.arm == name), None)


def with_money(prices: Iterable[ArmPrice], arms: Sequence[Arm], cache: Path) -> list[ArmPrice]:
    """Return prices with what a thousand answers of a served arm cost.

    ``cache`` is the file of its answers; what all of them took is shared out evenly.
    """
    served = {arm.name: arm.endpoint for arm in arms if arm.endpoint and arm.endpoint.rate}
    paid = paid_by(cache, {f"arm {name}": endpoint for name, endpoint in served.items()})
    priced = []
    for one in prices:
        endpoint = served.get(one.arm)
        took = paid[f"arm {one.arm}"] if endpoint else None
        if endpoint and endpoint.rate and took and took.attempts:
            money = took.cost(endpoint.rate) / took.attempts * _THOUSAND
            update = {"money": money, "currency": endpoint.rate.currency}
            one = one.model_copy(update=update)
        priced.append(one)
    return priced


def price_arms(
    arms: Sequence[Arm],
    questions: Sequence[Example],
    responses: Iterable[Response],
    pool: ModelPool,
    max_new_tokens: int,
    *,
    timed: bool,
) -> list[ArmPrice]:
    """Return what each arm takes, endpoints' money aside.

    ``questions`` are held-out ones and ``responses`` all arms' answers to them; ``timed`` has each
    local arm answer the first :data:`TIMED` again, so that the clock sees it alone.
    """
    answers = [one for one in responses if not one.probe and not one.unanswered]
    prices = []
    for arm in arms:
        own = [one.tokens for one in answers if one.arm == arm.name]
        turns = [first_turn(arm, one, 0).asked for one in questions]
        rendered = [] if arm.endpoint else [len(pool.rendered(arm, chat)) for chat in turns]
        seconds = None
        if timed and not arm.endpoint and turns:
            engine = pool.engine(arm, TIMED)
            begun = time.perf_counter()
            chats.greedy_answers(engine, turns[:TIMED], max_new_tokens=max_new_tokens)
            seconds = (time.perf_counter() - begun) / len(turns[:TIMED]) * _THOUSAND
        prices.append(
            ArmPrice(
                arm=arm.name,
                prompt_tokens=fmean(rendered) if rendered else None,
                answer_tokens=fmean(own) if own else 0.0,
                seconds=seconds,
            )
        )
    return prices
