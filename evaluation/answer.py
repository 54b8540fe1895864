"""Arms answer the held-out prompts and the probes; what was answered before is not asked again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.answer_cache import AnswerCache
from evaluation.arms import Arm, check_arms
from evaluation.endpoint_arm import ask_endpoint
from evaluation.speaker import Speakers
from evaluation.turns import Turn, first_turn
from workbench.console import Advance, track
from workbench.errors import UserError
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import ChatAnswer, ChatRequest
from workbench.records import Example, Response

if TYPE_CHECKING:
    import torch

GREEDY = (0,)
"""Seeds of greedy decoding: one answer, nothing is drawn."""


def answer_arms(
    arms: Sequence[Arm],
    examples: Sequence[Example],
    model: Path | Speakers,
    *,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    seeds: Sequence[int] = GREEDY,
    temperature: float = 1.0,
    cache: Path | None = None,
    dtype: torch.dtype | None = None,
) -> list[Response]:
    """Return every arm's answers, arm by arm, each in the examples' order, then seeds and turns.

    Args:
        arms: Who answers; names must differ.
        examples: Whose prompts are asked; their answers are never shown to the model.
        model: Folder of the base model, as ``resolve_model`` returns it.
        max_new_tokens: Where an answer without an end is cut.
        batch_size: Prompts answered at once.
        seeds: One answer a seed; 0 is the greedy one.
        temperature: Of the drawn answers, above 0.
        cache: File that every answer is kept in at once and looked for first; None keeps none.
        dtype: Type of weights and computation; the device's best by default.

    Raises:
        UserError: No prompt or arm, a name given twice, an adapter that does not fit its base, a
            prompt that is too long for the model, or an endpoint that fails.
    """
    check_arms(arms)
    if not examples:
        raise UserError(
            "there is no held-out prompt to answer", fix="split with a test share above 0"
        )
    speakers = model if isinstance(model, Speakers) else Speakers(model, arms, dtype)
    how = {"max_new_tokens": max_new_tokens, "temperature": temperature, "dtype": str(dtype)}
    turns = sum(max(first_turn(arms[0], e, 0).number and len(e.prompt), 1) for e in examples)
    with track("answering prompts", len(arms) * len(seeds) * turns) as advance:
        table = _Table(speakers, AnswerCache(cache, how), advance, max_new_tokens)
        for arm in sorted(arms, key=lambda arm: str(speakers.folder(arm))):
            asked = [first_turn(arm, example, seed) for example in examples for seed in seeds]
            # Nothing is loaded for an arm whose answers are all there.
            if waiting := [turn for one in asked if (turn := table.unanswered(one))]:
                table.ask(arm, waiting, batch_size, temperature)
    place = {arm.name: index for index, arm in enumerate(arms)}
    order = {example.id: index for index, example in enumerate(examples)}
    found = sorted(
        table.answered,
        key=lambda r: (place[r.arm], order[r.prompt_id], seeds.index(r.seed), r.turn),
    )
    return found


def answer(arm: Arm, examples: Sequence[Example], model: Path, **how: object) -> list[Response]:
    """Return one arm's answers; see :func:`answer_arms`."""
    return answer_arms([arm], examples, model, **how)  # type: ignore[arg-type]


class _Table:
    """The answers of an evaluation as they come in."""

    def __init__(
        self, speakers: Speakers, cache: AnswerCache, advance: Advance, max_new_tokens: int
    ) -> None:
        self.speakers, self.cache, self.advance = speakers, cache, advance
        self.most = max_new_tokens
        self.answered: list[Response] = []

    def unanswered(self, turn: Turn | None) -> Turn | None:
        """File what is known of a conversation, and return its first turn that is not."""
        while turn is not None:
            known = self.cache.get(turn, self.speakers.folder(turn.arm))
            if known is None:
                return turn
            turn = self._file(turn, *known)
        return None

    def told(self, turn: Turn, text: str, tokens: int) -> Turn | None:
        """Keep and file an answer; return what is asked next."""
        self.cache.put(turn, self.speakers.folder(turn.arm), text, tokens)
        return self.unanswered(self._file(turn, text, tokens))

    def _file(self, turn: Turn, text: str, tokens: int) -> Turn | None:
        self.answered.append(turn.response(text, tokens))
        self.advance(1, note=turn.arm.name)
        return turn.after(text)

    def ask(self, arm: Arm, turns: Sequence[Turn], batch_size: int, temperature: float) -> None:
        """Ask an arm, wherever it is."""
        if arm.endpoint is not None:
            ask_endpoint(
                arm.endpoint,
                turns,
                self.told,
                max_new_tokens=self.most,
                temperature=temperature,
            )
            return
        with self.speakers.speaking(arm) as (model, tokenizer):
            BatchedEngine(model, tokenizer, batch_size).answer(
                [_ask(turn) for turn in turns],
                self._done,
                max_new_tokens=self.most,
                temperature=temperature,
            )

    def _done(self, ask: ChatRequest, decoded: ChatAnswer | None) -> Iterable[ChatRequest]:
        turn: Turn = ask.tag
        if decoded is None:
            raise UserError(
                f"a prompt of arm '{turn.arm.name}' leaves no room for {self.most} new tokens",
                where=turn.example.source or turn.example.id,
                fix="shorten it or the system prompt, or lower evaluate.max_new_tokens",
            )
        following = self.told(turn, decoded.text, decoded.tokens)
        return [_ask(following)] if following else []


def _ask(turn: Turn) -> ChatRequest:
    # The turns of a conversation wait for each other; everything else fills the batch beside them.
    return ChatRequest(turn.asked, turn.draw, turn, first=turn.number > 0)
