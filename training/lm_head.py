"""The language-model head's log-probabilities and their gradient in one pass over the vocabulary.

In: TRL's fused head. Out: the same numbers, with two products for each tile of the vocabulary in
place of three. Called by :mod:`training.row_threads`, within whose threads it holds.

TRL computes logits once for the probabilities and once more for the way back. But the gradient of a
log-probability, ``∂ log p(y) / ∂h = W[y] − Σ p(v)·W[v]``, needs nothing of the way back, and its
sum can be gathered with the probabilities' own, in the manner of FlashAttention's running softmax
(https://arxiv.org/abs/2205.14135, algorithm 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

OUTPUTS = {"log_probs", "entropy", "mean_logits", "is_top1"}
"""Fields of TRL's output that are computed here; no gradient goes through any but the first."""


@contextmanager
def head_in_one_pass(holds: Callable[[], bool]) -> Iterator[None]:
    """Within the block, compute TRL's fused head here where ``holds()`` and it can be the same.

    That is with gradients of hidden states alone, and without a bias or capped logits.
    """
    from trl.trainer import utils as head

    plain = head._ChunkedLogProbFunction

    class Head:
        @staticmethod
        def apply(
            hidden: Tensor,
            weight: Tensor,
            bias: Tensor | None,
            targets: Tensor,
            temperature: float,
            chunk: int,
            softcap: float | None,
            scale: float,
            outputs: tuple[str, ...],
        ) -> tuple[Tensor | None, ...]:
            more = weight.requires_grad or bias is not None or softcap is not None
            if more or not hidden.requires_grad or not set(outputs) <= OUTPUTS or not holds():
                all_outputs: tuple[Tensor | None, ...] = plain.apply(
                    hidden, weight, bias, targets, temperature, chunk, softcap, scale, outputs
                )
                return all_outputs
            log_probs, entropy, mean_logits, is_top1 = _function().apply(
                hidden, weight, targets, scale / temperature, chunk, outputs
            )
            return log_probs, entropy, None, mean_logits, is_top1

    head._ChunkedLogProbFunction = Head
    try:
        yield
    finally:
        head._ChunkedLogProbFunction = plain


@cache
def _function() -> Any:
    """Return the function, made once torch is there."""
    import torch

    class LogProbs(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(
            ctx: Any,
            hidden: Tensor,
            weight: Tensor,
            targets: Tensor,
            scale: float,
            chunk: int,
            outputs: tuple[str, ...],
        ) -> tuple[Tensor | None, ...]:
            half = torch.is_autocast_enabled("cpu")
            dtype = torch.get_autocast_dtype("cpu") if half else hidden.dtype
            with torch.autocast("cpu", enabled=False):
                fields, gradient = _scored(
                    hidden.to(dtype), weight, targets, scale, chunk, mean="mean_logits" in outputs
                )
            ctx.save_for_backward(gradient)
            ctx.dtype = hidden.dtype
            log_probs = fields.pop("log_probs")
            others = [value if name in outputs else None for name, value in fields.items()]
            ctx.mark_non_differentiable(*(one for one in others if one is not None))
            return log_probs, *others

        @staticmethod
        def backward(ctx: Any, back: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
            (gradient,) = ctx.saved_tensors
            return (gradient * back.float()[:, None]).to(ctx.dtype), *[None] * 5

    return LogProbs


def _scored(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, chunk: int, *, mean: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the output's fields, each of one number a token, and the log-probabilities' gradient.

    Args:
        hidden: Tokens × width, in the type that products are computed in.
        weight: Vocabulary × width.
        targets: The token that follows each.
        scale: What logits are multiplied by.
        chunk: Words of the vocabulary in a tile.
        mean: Whether the mean logit is asked for; else it is 0.
    """
    import torch

    count, width = hidden.shape
    highest = torch.full((count,), -math.inf)
    total, logits, chosen = torch.zeros(3, count)
    best = torch.zeros(count, dtype=torch.long)
    weighted = torch.zeros(count, width)
    """Of each token the sum of all words' weights, by their unnormalized probabilities."""
    for start in range(0, len(weight), chunk):
        words = weight[start : start + chunk].to(hidden.dtype)
        tile = torch.mm(hidden, words.t()).float().mul_(scale)
        here = (targets >= start) & (targets < start + len(words))
        chosen[here] = tile[here, targets[here] - start]
        if mean:
            logits += tile.sum(-1)
        top, place = tile.max(-1)
        best = torch.where(top > highest, place + start, best)
        before, highest = highest, torch.maximum(highest, top)
        shrunk = (before - highest).exp_()
        shares = tile.sub_(highest[:, None]).exp_()
        total.mul_(shrunk).add_(shares.sum(-1))
        weighted.mul_(shrunk[:, None]).addmm_(shares, words.float())
    expected = weighted.div_(total[:, None])
    log_total = highest + total.log()
    fields = {
        "log_probs": chosen - log_total,
        "entropy": log_total - scale * (hidden.float() * expected).sum(-1),
        "mean_logits": logits / len(weight),
        "is_top1": best == targets,
    }
    return fields, (weight[targets].float() - expected).mul_(scale)
