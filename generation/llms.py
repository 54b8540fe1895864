"""The LLMs of our pipelines: distilabel's own classes, made to account for every request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilabel.models.llms.base import LLM
from pydantic import PrivateAttr

from generation import events
from generation.jobs import LocalModel, Served
from generation.outcome import Outcome
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import ChatAnswer, greedy_answers, prompt_ids
from workbench.records import Message, Messages

if TYPE_CHECKING:
    from distilabel.typing import GenerateOutput

OUTCOME = "outcome"
"""Key of the outcome in what an LLM returns; a task names its column ``llm_<task>_outcome``."""


def make_llm(settings: LocalModel | Served) -> Any:
    """Return the LLM that a job asks for."""
    if isinstance(settings, LocalModel):
        return BatchedLLM(
            model=str(settings.folder),
            generation_kwargs={
                "max_new_tokens": settings.max_new_tokens,
                "batch_size": settings.batch_size,
                "seed": settings.seed,
            },
        )
    from generation.served import ServedLLM

    return ServedLLM.of(settings)


def as_output(outcomes: Sequence[Outcome]) -> GenerateOutput:
    """Return the outcomes of one input's generations in distilabel's form."""
    return {
        "generations": [outcome.text if outcome.status == "ok" else None for outcome in outcomes],
        "statistics": {
            "input_tokens": [outcome.input_tokens for outcome in outcomes],
            "output_tokens": [outcome.output_tokens for outcome in outcomes],
        },
        OUTCOME: [outcome.model_dump_json() for outcome in outcomes],
    }


class BatchedLLM(LLM):  # type: ignore[misc]
    """Greedy answers of a local chat model, in batches sorted by length.

    Distilabel's ``TransformersLLM`` answers one prompt after another; in batches, in the device's
    best type, a small model on a CPU is some ten times faster.

    Attributes:
        model: Folder of the model.
    """

    model: str

    _tokenizer: Any = PrivateAttr(default=None)
    _model: Any = PrivateAttr(default=None)

    @property
    def model_name(self) -> str:
        """Name of the model's folder."""
        return Path(self.model).name

    def load(self) -> None:
        """Load tokenizer and model."""
        super().load()
        events.tell(worker=os.getpid())
        self._tokenizer = load_tokenizer(Path(self.model))
        self._model = load_model(Path(self.model)).eval()

    def unload(self) -> None:
        """Forget the model."""
        self._model = self._tokenizer = None
        events.tell(worker=0)
        super().unload()

    def generate(
        self,
        inputs: list[Any],
        num_generations: int = 1,
        max_new_tokens: int = 128,
        batch_size: int = 16,
        seed: int = 0,
    ) -> list[GenerateOutput]:
        """Answer each conversation; equal ones are answered once, so that they answer alike.

        Args:
            inputs: Conversations in chat format.
            num_generations: Must be 1: greedy decoding gives one answer.
            max_new_tokens: Where an answer without an end is cut.
            batch_size: Conversations answered at once.
            seed: Seeds the libraries; greedy decoding itself draws nothing.

        Returns:
            One output for each input, with its :class:`Outcome`.
        """
        if num_generations != 1:
            raise ValueError("greedy decoding gives one answer")
        import torch

        torch.manual_seed(seed)
        chats = [tuple(Message.model_validate(turn) for turn in chat) for chat in inputs]
        answers = greedy_answers(
            BatchedEngine(self._model, self._tokenizer, batch_size),
            chats,
            max_new_tokens=max_new_tokens,
            advance=lambda count: events.tell(done=count),
        )
        return [
            as_output([_outcome(answer) if answer else self._too_long(chat, max_new_tokens)])
            for chat, answer in zip(chats, answers, strict=True)
        ]

    def _too_long(self, chat: Messages, max_new_tokens: int) -> Outcome:
        asked = len(prompt_ids(self._tokenizer, chat))
        room = self._model.config.max_position_embeddings
        detail = f"{asked} tokens and {max_new_tokens} new ones, of at most {room}"
        return Outcome(status="failed", reason="prompt_too_long", detail=detail)


def _outcome(answer: ChatAnswer) -> Outcome:
    return Outcome(
        status="ok" if answer.text else "filtered",
        reason="" if answer.text else "empty_answer",
        text=answer.text,
        attempts=1,
        input_tokens=answer.prompt_tokens,
        output_tokens=answer.tokens,
        tokens=answer.tokens,
    )
