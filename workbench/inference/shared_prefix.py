"""Attention of many rows over a prefix that they share: its keys and values are kept once.

A persona's system prompt leads every prompt of an arm. Computed once and read once a step for all
rows (the idea of Hydragen, https://arxiv.org/abs/2402.05099), it costs neither time nor memory for
each of them. The scores over prefix and own tokens go through one softmax, so the outcome is that
of ordinary attention.

Only imported with torch and transformers at hand: by :mod:`workbench.inference.batching`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache, DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "persona_shared_prefix"
KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Of one layer: 1 × key-value heads × tokens × head size, each."""


class Kept(DynamicLayer):  # type: ignore[misc]
    """A layer's own tokens of every row, in buffers that are written in place.

    ``torch.cat`` at every token, as in a growing cache, would copy all keys and values each time.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.room = (rows, columns)
        self.keys: torch.Tensor | None
        self.values: torch.Tensor | None
        self.at: torch.Tensor | None = None
        """Column that each row's next token is written to."""
        self.width = 0
        """Columns in use, by the longest row."""

    def put(self, slot: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Make heads × tokens × head size the first tokens of a row."""
        if self.keys is None or self.values is None:
            rows, columns = self.room
            shape = (rows, keys.shape[0], columns, keys.shape[2])
            # Zeros, since what was never written is multiplied by a weight of 0: NaN would stay.
            self.keys = keys.new_zeros(shape)
            self.values = values.new_zeros((*shape[:3], values.shape[2]))
            self.is_initialized = True
        self.keys[slot, :, : keys.shape[1]] = keys
        self.values[slot, :, : keys.shape[1]] = values

    def row(self, slot: int, columns: int) -> KeysValues:
        """Return up to so many columns of a row: heads × tokens × head size, each."""
        assert self.keys is not None and self.values is not None
        return self.keys[slot, :, :columns], self.values[slot, :, :columns]

    def move(self, source: int, target: int) -> None:
        """Copy the row in one slot to another slot."""
        for kept in (self.keys, self.values):
            if kept is not None:
                kept[target] = kept[source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> KeysValues:
        """Write every row's new token and return all that the rows attend to."""
        count = key_states.shape[0]
        rows = torch.arange(count, device=key_states.device)
        assert self.keys is not None and self.values is not None
        self.keys[rows, :, self.at] = key_states[:, :, 0]
        self.values[rows, :, self.at] = value_states[:, :, 0]
        return self.keys[:count, :, : self.width], self.values[:count, :, : self.width]


def keys_values(cache: Cache) -> list[KeysValues]:
    """Return what each layer of a cache holds."""
    return [(layer.keys, layer.values) for layer in cache.layers]


_prefix: Sequence[KeysValues] = ()


@contextmanager
def attending(model: Any, prefix: Sequence[KeysValues]) -> Iterator[None]:
    """Let ``model`` attend to ``prefix``, one pair a layer, before each row's own tokens.

    Within the context every call brings a four-dimensional mask that begins with the prefix.
    """
    global _prefix
    if _prefix:
        raise RuntimeError("a prefix is being attended to already")
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    _prefix = prefix
    try:
        yield
    finally:
        _prefix = ()
        model.set_attn_implementation(before)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    keys, values = _prefix[module.layer_idx]
    if query.shape[2] > 1:
        rows = key.shape[0]
        key = torch.cat([keys.expand(rows, -1, -1, -1), key], 2)
        value = torch.cat([values.expand(rows, -1, -1, -1), value], 2)
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    assert attention_mask is not None
    rows, heads, _, size = query.shape
    shared = key.shape[1]
    groups = heads // shared
    length = keys.shape[2]
    scaled = query * (size**-0.5 if scaling is None else scaling)
    own_query = scaled.reshape(rows, shared, groups, size)
    # Every row's queries of one head in one product with the prefix.
    all_queries = own_query.transpose(0, 1).reshape(shared, rows * groups, size)
    over_prefix = (all_queries @ keys[0].transpose(1, 2)).view(shared, rows, groups, length)
    over_own = own_query @ key.transpose(2, 3)
    over_own = over_own.masked_fill_(~attention_mask[..., length:], float("-inf"))
    scores = torch.cat([over_prefix.transpose(0, 1), over_own], 3)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    of_prefix = weights[..., :length].transpose(0, 1).reshape(shared, rows * groups, length)
    said = (of_prefix @ values[0]).view(shared, rows, groups, size).transpose(0, 1)
    said = said + weights[..., length:] @ value
    return said.reshape(rows, 1, heads, -1), None


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
