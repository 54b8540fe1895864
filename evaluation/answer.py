"""Arms answer the held-out prompts and the probes; what was answered before is not asked again."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.arms import Arm, ModelPool, check_arms
from evaluation.turns import Turn, first_turn
from workbench.console import Advance, console, track
from workbench.dialogue.players import ModelPlayer, Waiting
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache, answer_key
from workbench.inference.completion import Completion
from workbench.inference.engines import chats
from workbench.meter import give_memory_back
from workbench.records import Example, Response, as_messages

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

GREEDY = (0,)
"""Seeds of greedy decoding: one answer, nothing is drawn."""
LEAST_NEW_TOKENS = 128
"""Tokens that an answer may always have."""
_STEP = 64
"""The limit is a multiple of it, so that a few other rows don't make another decoding."""


@dataclass(frozen=True)
class PromptSet:
    """Prompts, the arms that are asked them, and how they answer."""

    arms: Sequence[Arm]
    """Their names differ."""
    examples: Sequence[Example]
    """What is asked; an example's own answer is never shown to the model."""
    max_new_tokens: int = 256
    seeds: Sequence[int] = GREEDY
    """One answer a seed, of which 0 is the greedy one."""
    temperature: float = 1.0
    """Of the others, above 0."""
    player: ModelPlayer | None = None
    """Plays the simulated users among the examples; without one they say their own lines."""

    @property
    def answers(self) -> int:
        """How many answers are wanted at most."""
        turns = (
            max(first_turn(self.arms[0], one, 0).number and len(one.prompt), 1)
            for one in self.examples
        )
        return len(self.arms) * len(self.seeds) * sum(turns)

    def opening(self, arm: Arm) -> list[Turn]:
        """Return what an arm is asked first."""
        return [first_turn(arm, example, seed) for example in self.examples for seed in self.seeds]

    def in_order(self, responses: Sequence[Response]) -> list[Response]:
        """Return responses arm by arm, each in the examples' order, then seeds and turns."""
        place = {arm.name: index for index, arm in enumerate(self.arms)}
        order = {example.id: index for index, example in enumerate(self.examples)}
        seeds = list(self.seeds)
        return sorted(
            responses,
            key=lambda r: (place[r.arm], order[r.prompt_id], seeds.index(r.seed), r.turn),
        )


def answer_sets(
    sets: Sequence[PromptSet],
    model: Path | ModelPool,
    *,
    batch_size: int = 16,
    cache: Path | None = None,
    dtype: torch.dtype | None = None,
) -> list[list[Response]]:
    """Return the answers to each set, in its order; a set without arms or prompts has none.

    Whatever the same weights are asked is answered together, be it of several sets or arms: a small
    model's step takes little longer for many rows than for a few. ``cache`` is the SQLite file
    where every answer is put at once and looked for first; None for memory alone.

    Raises:
        UserError: A name given twice in a set, an adapter that does not fit its base, an arm all of
            whose prompts are too long, or an endpoint that is down or refuses us.
    """
    asked = [one for one in sets if one.arms and one.examples]
    for one in asked:
        check_arms(one.arms)
    every = [arm for one in asked for arm in one.arms]
    pool = model if isinstance(model, ModelPool) else ModelPool(model, every, dtype)
    total = sum(one.answers for one in asked)
    with AnswerCache(cache) as earlier, track("answering prompts", total) as advance:
        collected = {id(one): _SetResponses(one, advance) for one in asked}
        groups: dict[tuple[object, ...], list[tuple[_SetResponses, Arm]]] = defaultdict(list)
        for one in asked:
            for arm in one.arms:
                groups[_weights_and_decoding(pool, arm, one)].append((collected[id(one)], arm))
        # A stable order: one base at a time, since two models are never held at once.
        for _, group in sorted(groups.items(), key=lambda item: str(item[0][0])):
            _Answering(pool, earlier, str(dtype)).ask(group, batch_size)
            # What its threads freed would stay: 2.2 GiB after three groups in place of 1.2.
            give_memory_back()
    return [
        one.in_order(collected[id(one)].responses) if id(one) in collected else [] for one in sets
    ]


def answer_arms(
    arms: Sequence[Arm],
    examples: Sequence[Example],
    model: Path | ModelPool,
    *,
    batch_size: int = 16,
    cache: Path | None = None,
    dtype: torch.dtype | None = None,
    **how: Any,
) -> list[Response]:
    """Return every arm's answers to one set; ``how`` are the fields of :class:`PromptSet`.

    Raises:
        UserError: No prompt or arm, or see :func:`answer_sets`.
    """
    check_arms(arms)
    if not examples:
        raise UserError(
            "there is no held-out prompt to answer", fix="split with a test share above 0"
        )
    asked = PromptSet(arms, examples, **how)
    return answer_sets([asked], model, batch_size=batch_size, cache=cache, dtype=dtype)[0]


def _weights_and_decoding(pool: ModelPool, arm: Arm, asked: PromptSet) -> tuple[object, ...]:
    """Return what arms share that are answered together; the folder comes first."""
    weights = (arm.adapter, arm.name if arm.endpoint else "")
    return (pool.folder(arm), *weights, asked.max_new_tokens, asked.temperature)


class _SetResponses:
    """The answers to a set as they come in."""

    def __init__(self, asked: PromptSet, advance: Advance) -> None:
        self.asked, self.advance = asked, advance
        self.responses: list[Response] = []
        self._waiting: list[tuple[Turn, Completion]] = []
        """Answered turns whose user is played by a model, which is asked about all at once."""

    def file(self, turn: Turn, completion: Completion) -> Turn | None:
        """File an answer, or why there is none; return the turn that follows, if it is known."""
        self.advance(1, note=turn.arm.name)
        if self.asked.player is not None and turn.user is not None:
            self._waiting.append((turn, completion))
            return None
        move = turn.scripted(completion.text)
        self.responses.append(turn.response(completion, move))
        return turn.after(completion.text, move)

    def played(self) -> list[Turn]:
        """Return the turns that follow those that waited for the model which plays the users."""
        waiting, self._waiting = self._waiting, []
        if self.asked.player is None or not waiting:
            return []
        users = [
            Waiting(turn.user, turn.answered(completion.text), turn.seed)
            for turn, completion in waiting
            if turn.user is not None
        ]
        following: list[Turn] = []
        for (turn, completion), move in zip(waiting, self.asked.player.moves(users), strict=True):
            self.responses.append(turn.response(completion, move))
            after = turn.after(completion.text, move)
            following += [after] if after else []
        return following

    def tell(self, arm: Arm) -> None:
        """Say what is missing of an arm's answers, and what was taken off.

        Raises:
            UserError: No prompt leaves room for an answer.
        """
        own = [response for response in self.responses if response.arm == arm.name]
        reasons = Counter(response.unanswered for response in own if response.unanswered)
        if reasons[chats.NO_ROOM] == len(own):
            most = self.asked.max_new_tokens
            raise UserError(
                f"no prompt of arm '{arm.name}' leaves room for {most} new tokens",
                fix="shorten the system prompt, or lower evaluate.max_new_tokens",
            )
        if reasons:
            kinds = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            lost = f"{reasons.total()} of {len(own)} prompts without an answer ({kinds})"
            console.print(f"  arm '{arm.name}': {lost}; they are unscored", markup=False)
        if reasoned := sum(response.reasoning > 0 for response in own):
            line = f"reasoning taken off {reasoned} of {len(own)} answers"
            console.print(f"  arm '{arm.name}': {line}", markup=False)


class _Answering(NamedTuple):
    """Has arms of the same weights answer; what was answered before is not asked again."""

    pool: ModelPool
    cache: AnswerCache
    dtype: str

    def ask(self, group: Sequence[tuple[_SetResponses, Arm]], batch_size: int) -> None:
        """Ask what each set asks of an arm; nothing is loaded where all answers are there."""
        first, arm = group[0]
        asked, served = first.asked, arm.endpoint.name if arm.endpoint else ""
        how = chats.Decoding(asked.max_new_tokens, asked.temperature)
        weights = self.pool.fingerprint(arm)
        sets = list({id(collected): collected for collected, _ in group}.values())

        def key(turn: Turn) -> str:
            about = {
                "decoding": {**how._asdict(), "dtype": self.dtype},
                "seed": turn.draw,
                "messages": as_messages(turn.asked),
                "ids": self.pool.rendered(turn.arm, turn.asked),
            }
            return answer_key(weights=weights, **about)

        def unanswered(collected: _SetResponses, turn: Turn | None) -> Iterator[chats.ChatRequest]:
            """File what is known of a conversation, and yield its first turn that is not."""
            while turn is not None:
                known = self.cache.get(at := key(turn))
                if known is None:
                    # A conversation's turns wait for each other; the rest fills the batch.
                    tag = (collected, turn, at)
                    yield chats.ChatRequest(turn.asked, turn.draw, tag, first=turn.number > 0)
                    return
                turn = collected.file(turn, known)

        def on_answer(
            request: chats.ChatRequest, answer: chats.ChatAnswer | None
        ) -> Iterable[chats.ChatRequest]:
            collected, turn, at = request.tag
            completion = chats.completion_of(answer)
            self.cache.put(at, completion, f"arm {turn.arm.name}", served)
            return unanswered(collected, collected.file(turn, completion))

        turns = [
            (collected, turn) for collected, arm in group for turn in collected.asked.opening(arm)
        ]
        while turns:
            requests = [request for one in turns for request in unanswered(*one)]
            if requests:
                self.pool.engine(arm, batch_size).answer(requests, on_answer, how)
            turns = [(collected, turn) for collected in sets for turn in collected.played()]
        for collected, arm in group:
            collected.tell(arm)


def max_new_tokens_for(tokenizer: PreTrainedTokenizerBase, answers: Iterable[str]) -> int:
    """Return the new tokens to allow: the longest of ``answers`` and a tenth more.

    A tokenizer that knows little of a language cuts its words into bytes: 200 Korean characters
    are up to 440 tokens of SmolLM2, so that no fixed number fits every persona and model.
    """
    longest = max((len(tokenizer(answer)["input_ids"]) for answer in answers), default=0)
    return max(LEAST_NEW_TOKENS, _STEP * math.ceil(1.1 * longest / _STEP))


def cut_shares(responses: Iterable[Response], max_new_tokens: int) -> dict[str, float]:
    """Return arm → share of its answers that reached the limit and so may lack their end."""
    cut: dict[str, list[bool]] = defaultdict(list)
    for response in responses:
        cut[response.arm].append(response.tokens >= max_new_tokens)
    return {arm: sum(flags) / len(flags) for arm, flags in cut.items()}
