"""A conversation with arms of a round: answers as they are written, from one base in memory."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from workbench.errors import UserError
from workbench.inference.adapters import AdaptedModel
from workbench.inference.engines import chats
from workbench.inference.reasoning import without_reasoning
from workbench.records import Messages

if TYPE_CHECKING:
    import torch


class ChatSession:
    """The base and any number of adapters on it.

    ``adapters`` is arm → folder of its adapter; every other name stands for the base.

    Raises:
        UserError: An adapter that was made for another base.
    """

    def __init__(
        self, base: Path, adapters: Mapping[str, Path], dtype: torch.dtype | None = None
    ) -> None:
        self._adapters = dict(adapters)
        self.adapted = AdaptedModel(base, self._adapters.values(), dtype=dtype)
        self._busy = Lock()

    def stream(self, arm: str, chat: Messages, max_new_tokens: int) -> Generator[str, None, None]:
        """Yield the greedy answer of an arm piece by piece, a word or so each, without reasoning.

        One stream at a time, as the arms share the base: the next may begin when this one has
        ended or was closed.

        Raises:
            UserError: The conversation leaves no room for an answer.
        """
        tokenizer, model = self.adapted.tokenizer, self.adapted.model
        ids = chats.prompt_ids(tokenizer, chat)
        if len(ids) + max_new_tokens > chats.longest_context(model):
            raise UserError(
                f"the conversation leaves no room for {max_new_tokens} new tokens",
                fix="start a new one",
            )
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another answer is under way")
        try:
            self.adapted.use(self._adapters.get(arm))
            pieces = self._generate(ids, max_new_tokens)
            inside = chats.prompt_opens_reasoning(tokenizer, ids)
            yield from without_reasoning(pieces, inside=inside)
        finally:
            self._busy.release()

    def _generate(self, ids: list[int], max_new_tokens: int) -> Generator[str, None, None]:
        import torch
        from transformers import StoppingCriteriaList, TextIteratorStreamer

        tokenizer, model = self.adapted.tokenizer, self.adapted.model
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        inputs = torch.tensor([ids], device=model.device)
        closed = Event()
        errors: list[BaseException] = []

        def generate() -> None:
            try:
                model.generate(
                    input_ids=inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                    eos_token_id=chats.end_tokens(model, tokenizer),
                    pad_token_id=tokenizer.pad_token_id,
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([lambda *_, **__: closed.is_set()]),
                )
            except BaseException as error:  # noqa: BLE001 — raised again by who reads the stream
                errors.append(error)
                streamer.end()

        writer = Thread(target=generate, daemon=True)
        writer.start()
        try:
            yield from streamer
        finally:
            closed.set()
            writer.join()
        if errors:
            raise errors[0]
