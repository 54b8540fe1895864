"""The LLMs of our pipelines: distilabel's own classes, made to account for every request."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilabel.models.llms.base import LLM
from pydantic import PrivateAttr

from generation import events
from generation.jobs import LocalModel, Served
from generation.outcome import Outcome
from workbench.models import load_model, load_tokenizer

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
        texts = [self._rendered(chat) for chat in inputs]
        counts = Counter(texts)
        lengths = {text: len(self._tokenizer(text)["input_ids"]) for text in counts}
        room = getattr(self._model.config, "max_position_embeddings", None) or 10**9
        fitting = [text for text in lengths if lengths[text] + max_new_tokens <= room]
        outcomes = {
            text: Outcome(
                status="failed",
                reason="prompt_too_long",
                detail=f"{lengths[text]} tokens and {max_new_tokens} new ones, of at most {room}",
            )
            for text in lengths.keys() - set(fitting)
        }
        refused = sum(counts[text] for text in outcomes)
        events.tell(done=refused, failed=refused)
        # Longest first: little padding, and too little memory shows early.
        order = sorted(fitting, key=lambda text: (-lengths[text], text))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            outcomes |= dict(zip(batch, self._answer(batch, max_new_tokens), strict=True))
            events.tell(done=sum(counts[text] for text in batch))
        return [as_output([outcomes[text]]) for text in texts]

    def _rendered(self, chat: list[dict[str, str]]) -> str:
        text: str = self._tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=True
        )
        return text

    def _answer(self, texts: list[str], max_new_tokens: int) -> list[Outcome]:
        import torch

        # The template has written the special tokens already.
        inputs = self._tokenizer(
            texts, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(self._model.device)
        own = self._model.generation_config.eos_token_id
        ends = {*(own if isinstance(own, list) else [own]), self._tokenizer.eos_token_id} - {None}
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                # Sampling fields of the model's own generation config mean nothing here.
                temperature=None,
                top_p=None,
                top_k=None,
                eos_token_id=sorted(ends),
                pad_token_id=self._tokenizer.pad_token_id,
            )
        width = inputs["input_ids"].shape[1]
        sizes = inputs["attention_mask"].sum(dim=1).tolist()
        return [
            self._outcome(row, ends, size)
            for row, size in zip(output[:, width:].tolist(), sizes, strict=True)
        ]

    def _outcome(self, row: list[int], ends: set[int], input_tokens: int) -> Outcome:
        stop = next((i + 1 for i, token in enumerate(row) if token in ends), len(row))
        text = self._tokenizer.decode(row[:stop], skip_special_tokens=True).strip()
        empty = not text
        return Outcome(
            status="filtered" if empty else "ok",
            reason="empty_answer" if empty else "",
            text=text,
            attempts=1,
            input_tokens=input_tokens,
            output_tokens=stop,
            tokens=stop,
        )
