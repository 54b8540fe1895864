"""Arms answer the held-out prompts and the probes; what was answered before is not asked again."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.arms import Arm, ModelPool, check_arms
from evaluation.turns import Turn, first_turn
from workbench.console import Advance, console, track
from workbench.dialogue.players import ModelPlayer, Waiting
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache, answer_key
from workbench.inference.completion import Completion
from workbench.inference.engines import chats
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


def answer_arms(
    arms: Sequence[Arm],
    examples: Sequence[Example],
    model: Path | ModelPool,
    *,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    seeds: Sequence[int] = GREEDY,
    temperature: float = 1.0,
    cache: Path | None = None,
    dtype: torch.dtype | None = None,
    player: ModelPlayer | None = None,
) -> list[Response]:
    """Return every arm's answers, arm by arm, each in the examples' order, then seeds and turns.

    Names of arms must differ; an example's answer is never shown to the model. There is one answer
    a seed, of which 0 is the greedy one; ``temperature`` is of the others, above 0. ``cache`` is
    the SQLite file where every answer is put at once and looked for first; None for memory alone.
    ``player`` plays the simulated users among the examples; without one they say their own lines.

    Raises:
        UserError: No prompt or arm, a name given twice, an adapter that does not fit its base, an
            arm all of whose prompts are too long, or an endpoint that is down or refuses us.
    """
    check_arms(arms)
    if not examples:
        raise UserError(
            "there is no held-out prompt to answer", fix="split with a test share above 0"
        )
    pool = model if isinstance(model, ModelPool) else ModelPool(model, arms, dtype)
    turns = sum(max(first_turn(arms[0], e, 0).number and len(e.prompt), 1) for e in examples)
    count = len(arms) * len(seeds) * turns
    with AnswerCache(cache) as earlier, track("answering prompts", count) as advance:
        answers = _AnswerStore(pool, earlier, advance, max_new_tokens, temperature, str(dtype))
        answers.player = player
        for arm in sorted(arms, key=lambda arm: str(pool.folder(arm))):
            opening = (first_turn(arm, example, seed) for example in examples for seed in seeds)
            answers.ask(arm, opening, batch_size)
    return _in_order(answers.responses, arms, examples, seeds)


def _in_order(
    responses: Sequence[Response],
    arms: Sequence[Arm],
    examples: Sequence[Example],
    seeds: Sequence[int],
) -> list[Response]:
    place = {arm.name: index for index, arm in enumerate(arms)}
    order = {example.id: index for index, example in enumerate(examples)}
    return sorted(
        responses, key=lambda r: (place[r.arm], order[r.prompt_id], seeds.index(r.seed), r.turn)
    )


def answer(arm: Arm, examples: Sequence[Example], model: Path, **how: object) -> list[Response]:
    """Return one arm's answers; see :func:`answer_arms`."""
    return answer_arms([arm], examples, model, **how)  # type: ignore[arg-type]


class _AnswerStore:
    """The answers of an evaluation as they come in."""

    def __init__(
        self,
        pool: ModelPool,
        cache: AnswerCache,
        advance: Advance,
        max_new_tokens: int,
        temperature: float,
        dtype: str,
    ) -> None:
        self.pool, self.cache, self.advance = pool, cache, advance
        self.max_new_tokens, self.temperature, self.dtype = max_new_tokens, temperature, dtype
        self.responses: list[Response] = []
        self.player: ModelPlayer | None = None
        self._waiting: list[tuple[Turn, Completion]] = []
        """Answered turns whose user is played by a model, which is asked about all at once."""

    def ask(self, arm: Arm, turns: Iterable[Turn], batch_size: int) -> None:
        """Have an arm answer, wherever it is; nothing is loaded where all answers are there."""
        weights, served = self.pool.fingerprint(arm), arm.endpoint.name if arm.endpoint else ""
        decoding = {"max_new_tokens": self.max_new_tokens, "temperature": self.temperature}

        def key(turn: Turn) -> str:
            chat, how = as_messages(turn.asked), {**decoding, "dtype": self.dtype}
            ids = self.pool.rendered(arm, turn.asked)
            about = {"decoding": how, "seed": turn.draw, "messages": chat, "ids": ids}
            return answer_key(weights=weights, **about)

        def unanswered(turn: Turn | None) -> Iterator[chats.ChatRequest]:
            """File what is known of a conversation, and yield its first turn that is not."""
            while turn is not None:
                known = self.cache.get(key(turn))
                if known is None:
                    # A conversation's turns wait for each other; the rest fills the batch.
                    yield chats.ChatRequest(turn.asked, turn.draw, turn, first=turn.number > 0)
                    return
                turn = self._file(turn, known)

        def on_answer(
            request: chats.ChatRequest, answer: chats.ChatAnswer | None
        ) -> Iterable[chats.ChatRequest]:
            turn: Turn = request.tag
            completion = chats.completion_of(answer)
            self.cache.put(key(turn), completion, f"arm {arm.name}", served)
            return unanswered(self._file(turn, completion))

        while turns:
            requests = [request for turn in turns for request in unanswered(turn)]
            if requests:
                how = chats.Decoding(self.max_new_tokens, self.temperature)
                self.pool.engine(arm, batch_size).answer(requests, on_answer, how)
            turns = self._played()
        self._tell(arm)

    def _file(self, turn: Turn, completion: Completion) -> Turn | None:
        """File an answer, or why there is none; return the turn that follows, if it is known."""
        self.advance(1, note=turn.arm.name)
        if self.player is not None and turn.user is not None:
            self._waiting.append((turn, completion))
            return None
        move = turn.scripted(completion.text)
        self.responses.append(turn.response(completion, move))
        return turn.after(completion.text, move)

    def _played(self) -> list[Turn]:
        """Return the turns that follow those that waited for the model which plays the users."""
        waiting, self._waiting = self._waiting, []
        if self.player is None or not waiting:
            return []
        asked = [
            Waiting(turn.user, turn.answered(completion.text), turn.seed)
            for turn, completion in waiting
            if turn.user is not None
        ]
        following: list[Turn] = []
        for (turn, completion), move in zip(waiting, self.player.moves(asked), strict=True):
            self.responses.append(turn.response(completion, move))
            after = turn.after(completion.text, move)
            following += [after] if after else []
        return following

    def _tell(self, arm: Arm) -> None:
        """Say what is missing of an arm's answers, and what was taken off.

        Raises:
            UserError: No prompt leaves room for an answer.
        """
        own = [response for response in self.responses if response.arm == arm.name]
        reasons = Counter(response.unanswered for response in own if response.unanswered)
        if reasons[chats.NO_ROOM] == len(own):
            raise UserError(
                f"no prompt of arm '{arm.name}' leaves room for {self.max_new_tokens} new tokens",
                fix="shorten the system prompt, or lower evaluate.max_new_tokens",
            )
        if reasons:
            kinds = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            lost = f"{reasons.total()} of {len(own)} prompts without an answer ({kinds})"
            console.print(f"  arm '{arm.name}': {lost}; they are unscored", markup=False)
        if reasoned := sum(response.reasoning > 0 for response in own):
            line = f"reasoning taken off {reasoned} of {len(own)} answers"
            console.print(f"  arm '{arm.name}': {line}", markup=False)


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
