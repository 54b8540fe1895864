"""A model in transformers, as evaluation loads and asks it: the measure of every export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.export.heard import Heard, Rendered
from training.export.source import Source
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.adapters import AdaptedModel
from workbench.inference.engines.batched import BatchedEngine
from workbench.inference.engines.chats import end_tokens, greedy_answers, prompt_ids
from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    import torch

_BATCH = 16


@dataclass(frozen=True)
class Judged:
    """What a model thinks of one token that another one chose.

    Attributes:
        logprob: Of the chosen token.
        best: Id of the token that it would have chosen.
        best_logprob: Of that one.
    """

    logprob: float
    best: int
    best_logprob: float

    @property
    def gap(self) -> float:
        """How far the chosen token is behind the best one; 0 where they are the same."""
        return self.best_logprob - self.logprob


class Loaded:
    """A model and its tokenizer.

    Args:
        model: Of transformers, with or without an adapter.
        tokenizer: Its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.ends = end_tokens(model, tokenizer)

    def render(self, chat: Messages) -> Rendered:
        """Return a prompt under the tokenizer's template."""
        text = self.tokenizer.apply_chat_template(
            as_messages(chat), add_generation_prompt=True, tokenize=False
        )
        return Rendered(text, tuple(prompt_ids(self.tokenizer, chat)))

    def answer(self, chats: Sequence[Messages], max_new_tokens: int) -> list[Heard]:
        """Return greedy answers by the code path of evaluation, each token with its log-prob."""
        with track("answering", len(chats)) as advance:
            answers = greedy_answers(
                BatchedEngine(self.model, self.tokenizer, _BATCH),
                chats,
                max_new_tokens=max_new_tokens,
                advance=advance,
            )
        heard = []
        for chat, answer in zip(chats, answers, strict=True):
            if answer is None:
                raise UserError(f"a prompt leaves no room for {max_new_tokens} new tokens")
            ids = self.ids(answer.text)
            logprobs = [token.logprob for token in self.judge(chat, ids)[:-1]]
            ended = answer.tokens < max_new_tokens or answer.tokens > len(ids)
            heard.append(Heard(tuple(ids), tuple(logprobs), answer.text, ended))
        return heard

    def ids(self, text: str) -> list[int]:
        """Return the tokens of an answer's text."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def judge(self, chat: Messages, ids: Sequence[int]) -> list[Judged]:
        """Return what the model thinks of each token of an answer, and, last, of its end.

        One forward pass over prompt and answer (teacher forcing).
        """
        import torch

        prompt = prompt_ids(self.tokenizer, chat)
        # Any end token stands for the end; it is only judged, never read.
        whole = torch.tensor([[*prompt, *ids]], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=whole, use_cache=False).logits[0, len(prompt) - 1 :]
        scores = torch.log_softmax(logits.float(), dim=-1)
        best = scores.max(dim=-1)
        end = max(self.ends, key=lambda token: float(scores[-1, token]))
        return [
            Judged(float(scores[at, token]), int(best.indices[at]), float(best.values[at]))
            for at, token in enumerate([*ids, end])
        ]

    def shown(self, token: int) -> str:
        """Return a token's text, quoted."""
        return repr(self.tokenizer.decode([token]))


def evaluated(source: Source, dtype: torch.dtype) -> Loaded:
    """Return the evaluated model: the base and the adapter on it, never merged."""
    return with_peft(source.base, source.adapter, dtype)


def with_peft(base: Path, adapter: Path, dtype: torch.dtype) -> Loaded:
    """Return an exported adapter on its base, as plain PEFT opens it."""
    adapted = AdaptedModel(base, [adapter], dtype=dtype, merge=False)
    return Loaded(adapted.use(adapter), adapted.tokenizer)


def folder(path: Path, dtype: torch.dtype) -> Loaded:
    """Return an exported folder as plain transformers opens it."""
    adapted = AdaptedModel(path, dtype=dtype)
    return Loaded(adapted.model, adapted.tokenizer)


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
