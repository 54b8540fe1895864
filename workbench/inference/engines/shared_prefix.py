"""Attention of many rows over a prefix that they share: its keys and values are stored once.

A persona's system prompt leads every prompt of an arm. Computed once and read once a step for all
rows (the idea of Hydragen, https://arxiv.org/abs/2402.05099), it costs neither time nor memory for
each of them. What is attended to in the prefix and in a row's own tokens is weighed as one softmax
over both would weigh it, so the outcome is that of ordinary attention.

Called by :mod:`workbench.inference.engines.running_rows`. torch and transformers are imported when
the first rows are answered, never when this module is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

from workbench.inference.engines.chats import alike
from workbench.inference.engines.step_attention import KeysValues, Step, attend_in_step

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers.cache_utils import Cache

NAME = "persona_shared_prefix"
"""Under which transformers finds the attention."""
SHORTEST_PREFIX = 64
"""Tokens from which a shared prefix is attended to apart: a shorter one costs less as a copy."""


def keys_values(states: Cache) -> list[KeysValues]:
    """Return what each layer of a cache holds."""
    return [(layer.keys, layer.values) for layer in states.layers]


class _Prefix(threading.local):
    """What the rows of this thread share."""

    layers: Sequence[KeysValues] = ()
    step: Step | None = None
    """Where the tokens of this thread's call belong; None where it computes prompts."""


_prefix = _Prefix()


def common_prefix(prompts: Sequence[list[int]], shortest: int) -> list[int]:
    """Return the prefix that spares most tokens when it is computed once; none for a short one.

    Prompts that have it lie side by side when sorted, and any two neighbours share it.
    """
    ordered = sorted(prompts)
    # A prompt keeps at least one token of its own, whose logits are its answer's first.
    common = [
        min(alike(one, other), len(one) - 1, len(other) - 1) for one, other in pairwise(ordered)
    ]
    most, best = 0, []
    for length in {length for length in common if length >= shortest}:
        at = 0
        for has_it, run in groupby(common, length.__le__):
            neighbours = len(list(run))
            if has_it and neighbours * length > most:
                most, best = neighbours * length, ordered[at][:length]
            at += neighbours
    return best


def left_padded(
    width: int, lengths: torch.Tensor, copied: torch.Tensor, prefix: int, shared: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mask (rows × 1 × width × prefix, copied and width) and positions of padded prompts.

    The rows have ``lengths`` tokens of their own, right in ``width`` columns, and before them
    ``copied`` ones that were computed already, right in as many columns as the longest has;
    ``shared`` is how many each has of the ``prefix`` before these.
    """
    import torch

    rows, before = len(lengths), int(copied.max())
    columns = torch.arange(max(before, width), device=lengths.device)
    missing = (width - lengths)[:, None]
    real = columns[:width] >= missing
    causal = columns[None, :width] <= columns[:width, None]
    # Padding sees itself: a row of the mask without any True would come out as NaN.
    own = (causal & real[:, None, :]) | torch.eye(width, dtype=torch.bool, device=lengths.device)
    earlier = columns[:before] >= (before - copied)[:, None]
    seen = (shared > 0)[:, None].expand(rows, prefix)
    mask = torch.cat([torch.cat([seen, earlier], 1)[:, None].expand(-1, width, -1), own], 2)
    positions = (columns[:width] - missing).clamp(min=0) + (shared + copied)[:, None]
    return mask[:, None], positions


@contextmanager
def prefix_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let ``model`` attend as this module does, in every thread, until the context ends."""
    _register()
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def attending(prefix: Sequence[KeysValues]) -> Iterator[None]:
    """Attend to ``prefix``, one pair a layer, before each row's own tokens, in this thread.

    The model is in :func:`prefix_attention`, and every call brings a four-dimensional mask that
    begins with the prefix. An empty prefix changes nothing.
    """
    if _prefix.layers:
        raise RuntimeError("a prefix is being attended to already")
    _prefix.layers = prefix
    try:
        yield
    finally:
        _prefix.layers = ()


@contextmanager
def stepping(step: Step) -> Iterator[None]:
    """Let this thread's call be a step of rows, whose keys and values are a ``RowsCache``'s."""
    _prefix.step = step
    try:
        yield
    finally:
        _prefix.step = None


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Attend to prefix and own tokens, in transformers' interface of an attention function."""
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer = _prefix.layers[module.layer_idx] if _prefix.layers else None
    if _prefix.step is not None:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return attend_in_step(query, key, value, _prefix.step, layer, scale), None
    if layer is not None:
        key, value = (
            torch.cat([before.expand(own.shape[0], -1, -1, -1), own], 2)
            for before, own in zip(layer, (key, value), strict=True)
        )
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, **kwargs
    )
    return attended
