"""Rows of a training pass laid end to end in one sequence, so that no padding is computed.

In: rows as TRL pads them. Out: one row of their tokens, what all of them begin with once, and where
each of its outcomes belongs. Products are over single tokens, so that only attention has to know
where a row begins. Called by :mod:`training.row_threads` for each thread's rows.

Libraries call it packing or padding-free batches; theirs need kernels that a processor does not
have, and compute what all prompts begin with once a row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class EndToEnd:
    """Some rows of a batch as one sequence; its first ``prefix`` tokens are of all of them."""

    ids: Tensor
    """1 × tokens."""
    positions: Tensor
    """1 × tokens: the place of each in its own row."""
    next_labels: Tensor
    """1 × tokens: the label of the token that follows each in its row; -100 at a row's end."""
    prefix: int
    lengths: tuple[int, ...]
    """Tokens of each row after the prefix."""
    source: Tensor
    """Places in the sequence of all tokens after the prefix that another one follows."""
    rows: Tensor
    """The row in the batch of each of them."""
    columns: Tensor
    """The column of each of them in the batch's log-probabilities."""

    _masks: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def mask(self, length: int, before: int) -> Tensor:
        """Return what tokens attend to of ``before`` earlier ones and themselves, made once.

        1 × 1 × length × (before + length).
        """
        import torch

        at = length, before
        if at not in self._masks:
            mask = torch.ones((1, 1, length, before + length), dtype=torch.bool)
            self._masks[at] = mask.tril(before)
        return self._masks[at]

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model with TRL's fused head is called with."""
        return {
            "input_ids": self.ids,
            "position_ids": self.positions,
            "shift_labels": self.next_labels,
            # Four dimensions keep transformers from making a mask: every row has its own.
            "attention_mask": self.ids.new_ones((1, 1, 1, 1)).bool(),
            "fused_lm_head": True,
        }


def lay_end_to_end(inputs: dict[str, Tensor], rows: Tensor) -> EndToEnd:
    """Return some rows of a batch as one sequence.

    A beginning that all of them have is laid once, as far as nothing in it or right after it is
    learnt: that would be several labels for one token.
    """
    import torch

    ids, labels = inputs["input_ids"][rows], inputs["labels"][rows]
    real = inputs["attention_mask"][rows].bool()
    prefix = _common(ids, labels, real)
    laid = real.clone()
    laid[1:, :prefix] = False
    at_row, at_column = laid.nonzero(as_tuple=True)
    following = torch.full_like(labels, -100)
    following[:, :-1] = labels[:, 1:].masked_fill(~real[:, 1:], -100)
    has_next = torch.zeros_like(real)
    has_next[:, :-1] = real[:, 1:]
    own = has_next[at_row, at_column]
    own[:prefix] = False
    first = real.int().argmax(1)
    return EndToEnd(
        ids=ids[laid][None],
        positions=(at_column - first[at_row])[None],
        next_labels=following[laid][None],
        prefix=prefix,
        lengths=tuple((real.sum(1) - prefix).tolist()),
        source=own.nonzero()[:, 0],
        rows=rows[at_row[own]],
        columns=at_column[own],
    )


def _common(ids: Tensor, labels: Tensor, real: Tensor) -> int:
    """Return how many columns all rows have alike, with nothing learnt in them or after them."""
    if len(ids) == 1:
        return 0
    alike, unlearnt = (
        int(columns.all(0).int().cumprod(0).sum())
        for columns in ((ids == ids[0]) & real, labels == -100)
    )
    # The token after the prefix is foretold by its last one, and every row keeps one of its own.
    return max(min(alike, unlearnt - 1, int(real.sum(1).min()) - 1), 0)


class _Laid(threading.local):
    """What this thread's pass is laid out as."""

    sequence: EndToEnd | None = None


_laid = _Laid()


@contextmanager
def attention_by_rows() -> Iterator[None]:
    """Within the block, a pass in :func:`attending_to` has each row attend to itself alone."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as functions

    plain = functions["sdpa"]
    functions["sdpa"] = partial(_attend, plain)
    try:
        yield
    finally:
        functions["sdpa"] = plain


@contextmanager
def attending_to(sequence: EndToEnd) -> Iterator[None]:
    """Let this thread's pass be that of ``sequence``."""
    _laid.sequence = sequence
    try:
        yield
    finally:
        _laid.sequence = None


def laid_end_to_end() -> bool:
    """Return whether this thread's pass is one of :func:`attending_to`."""
    return _laid.sequence is not None


def _attend(
    plain: Callable[..., tuple[Tensor, None]],
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend row by row, each to the prefix and to itself, in transformers' interface."""
    import torch

    sequence = _laid.sequence
    if sequence is None:
        return plain(module, query, key, value, attention_mask, **options)
    prefix = sequence.prefix
    lengths = [*([prefix] if prefix else []), *sequence.lengths]
    queries, keys, values = (states.split(lengths, 2) for states in (query, key, value))
    attended = []
    for at, length in enumerate(lengths):
        own_keys, own_values, before = keys[at], values[at], 0
        if at and prefix:
            own_keys = torch.cat([keys[0], own_keys], 2)
            own_values = torch.cat([values[0], own_values], 2)
            before = prefix
        mask = sequence.mask(length, before)
        attended.append(plain(module, queries[at], own_keys, own_values, mask, **options)[0])
    return torch.cat(attended, 1), None
