"""A model in transformers, as evaluation loads and asks it: the measure of every export."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from workbench.inference.adapters import AdaptedModel
from workbench.inference.engines import chats
from workbench.inference.engines.batched import BatchedEngine
from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenScore:
    """What a model thinks of one token that another one chose."""

    logprob: float
    """Of the chosen token, in nats."""
    best_logprob: float
    """Of the token that it would have chosen."""

    @property
    def gap(self) -> float:
        """How far the chosen token is behind the best one; 0 where they are the same."""
        return self.best_logprob - self.logprob


class ReferenceModel:
    """A model and its tokenizer; a :class:`Backend` as the exported ones are."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.ends = chats.end_tokens(model, tokenizer)

    @classmethod
    def open(cls, folder: Path, dtype: torch.dtype, adapter: Path | None = None) -> Self:
        """Return the model of a folder, with an adapter beside its weights, never merged."""
        adapted = AdaptedModel(folder, [adapter] if adapter else [], dtype=dtype, merge=False)
        return cls(adapted.use(adapter), adapted.tokenizer)

    def render(self, chat: Messages) -> chats.RenderedPrompt:
        """Return a prompt under the tokenizer's template."""
        text = self.tokenizer.apply_chat_template(
            as_messages(chat), add_generation_prompt=True, tokenize=False
        )
        return chats.RenderedPrompt(text, tuple(chats.prompt_ids(self.tokenizer, chat)))

    def answer(
        self, requests: Iterable[chats.ChatRequest], on_answer: chats.OnAnswer, how: chats.Decoding
    ) -> None:
        """Answer by the code path of evaluation, each token of the text with its log-prob."""

        def scored(
            request: chats.ChatRequest, answer: chats.ChatAnswer | None
        ) -> Iterable[chats.ChatRequest]:
            if answer is None:
                return on_answer(request, None)
            ids = self.ids(answer.text)
            logprobs = tuple(token.logprob for token in self.score(request.chat, ids)[:-1])
            ended = answer.tokens < how.max_new_tokens or answer.tokens > len(ids)
            tokens = (answer.text, answer.tokens, answer.prompt_tokens, tuple(ids), logprobs)
            return on_answer(request, chats.ChatAnswer(*tokens, ended))

        BatchedEngine(self.model, self.tokenizer).answer(requests, scored, how)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of an answer's text."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def score(self, chat: Messages, ids: Sequence[int]) -> list[TokenScore]:
        """Return what the model thinks of each token of an answer, and, last, of its end.

        One forward pass over prompt and answer (teacher forcing).
        """
        import torch

        prompt = chats.prompt_ids(self.tokenizer, chat)
        # Any end token stands for the end; it is only scored, never read.
        whole = torch.tensor([[*prompt, *ids]], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1 :]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        best = logprobs.max(dim=-1).values
        end = max(self.ends, key=lambda token: float(logprobs[-1, token]))
        return [
            TokenScore(float(logprobs[at, token]), float(best[at]))
            for at, token in enumerate([*ids, end])
        ]

    def shown(self, token: int) -> str:
        """Return a token's text, quoted."""
        return repr(self.tokenizer.decode([token]))


def gate_dtype(base: Path) -> torch.dtype:
    """Return float32 where two such models fit half of the free memory, else the device's best.

    In float32 what an export lost is not hidden under the rounding of the comparison itself.
    """
    import psutil
    import torch

    from workbench.inference.base_models import compute_dtype

    stored = sum(path.stat().st_size for path in base.glob("*.safetensors"))
    small = 2 * 2 * stored < psutil.virtual_memory().available / 2
    return torch.float32 if small and not torch.cuda.is_available() else compute_dtype()
