"""A step of many rows, each with as many tokens as it puts in, laid in one sequence.

In: what each row puts in. Out: where its tokens belong, and attention in which each row sees itself
alone. Most rows put in one token, some a few: the next turn of a conversation, or a guess
(:mod:`.drafts`). No product is spent on padding so, and a long row makes only its neighbours wide.

Called by :mod:`.running_rows` for the layout and by :mod:`.shared_prefix` within the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

KeysValues: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
"""Of one layer: (1 ×) key-value heads × tokens × head size, each."""
_CALL = 512
"""Columns of rows with one token that a processor attends to in the time that one call costs."""


@dataclass
class StepPart:
    """Rows that are attended to by one call, each with as many tokens as the most."""

    rows: torch.Tensor | slice
    """A slice where they lie side by side: others' keys and values are copied."""
    places: torch.Tensor
    """Of each token of each row its place in the step; for a missing one the row's last."""
    width: int
    """Columns that the longest row has after the step."""
    seen: torch.Tensor
    """Rows × 1 × tokens × columns: what each token attends to."""
    _bias: torch.Tensor | None = None

    def bias(self, like: torch.Tensor, groups: int) -> torch.Tensor:
        """Return what is added to scores, 0 or −∞, the same for all layers and so made once.

        Rows × 1 × (``groups`` of heads that share keys × tokens) × columns.
        """
        if self._bias is None:
            zeros = like.new_zeros(self.seen.shape)
            self._bias = zeros.masked_fill_(~self.seen, float("-inf")).repeat(1, 1, groups, 1)
        return self._bias


@dataclass(frozen=True)
class Step:
    """The tokens of a step, row by row."""

    slots: torch.Tensor
    """Row of each token."""
    columns: torch.Tensor
    """Column of each token, in its row."""
    width: int
    """Columns that the longest row has after the step."""
    parts: Sequence[StepPart]
    with_prefix: torch.Tensor
    """Tokens that attend to the shared prefix, too."""


def lay_out(
    counts: Sequence[int], own: Sequence[int], shared: Sequence[int], device: torch.device
) -> Step:
    """Return a step's layout.

    Args:
        counts: Tokens that each row puts in.
        own: Tokens that each row has in its place already.
        shared: Tokens of the shared prefix that each row has before them.
        device: Where the model is; on a GPU a call costs more than what it reads.
    """
    import torch

    number = torch.tensor(counts)
    slots = torch.arange(len(counts)).repeat_interleave(number)
    starts = number.cumsum(0) - number
    columns = torch.tensor(own)[slots] + torch.arange(len(slots)) - starts[slots]
    parts = []
    for rows, each in _parts(counts, own, _CALL if device.type == "cpu" else math.inf):
        token = torch.arange(each).minimum(number[rows, None] - 1)
        places = (starts[rows, None] + token).flatten()
        width = int(columns[places].max()) + 1
        seen = torch.arange(width) <= columns[places].view(-1, 1, each, 1)
        side_by_side = rows == list(range(rows[0], rows[0] + len(rows)))
        at = slice(rows[0], rows[-1] + 1) if side_by_side else torch.tensor(rows, device=device)
        parts.append(StepPart(at, places.to(device), width, seen.to(device)))
    led = (torch.tensor(shared)[slots] > 0).nonzero()[:, 0]
    width = max(part.width for part in parts)
    return Step(slots.to(device), columns.to(device), width, parts, led.to(device))


def _parts(
    counts: Sequence[int], own: Sequence[int], call: float
) -> Iterator[tuple[list[int], int]]:
    """Yield rows that are attended to together, with how many tokens of each.

    Rows with one token come first, side by side as they lie: any other row among them is attended
    to with its first token, for nothing, and once more among its like.
    """
    single = [row for row, count in enumerate(counts) if count == 1]
    if single:
        span = range(single[0], single[-1] + 1)
        for part in _together([1] * len(span), [own[row] for row in span], call):
            if any(counts[row] == 1 for row in span[part]):
                yield list(span[part]), 1
    more = sorted(set(range(len(counts))) - set(single), key=lambda row: (counts[row], own[row]))
    tokens = [counts[row] for row in more]
    for part in _together(tokens, [own[row] for row in more], call):
        yield sorted(more[part]), max(tokens[part])


def _together(counts: Sequence[int], own: Sequence[int], call: float) -> list[slice]:
    """Return neighbours in the parts that cost least.

    A call costs the same for all its rows: as the longest, with the most tokens. torch's kernel
    takes 42 µs for a row of 150 columns with one token, 49, 58 and 91 for two, four and nine
    (three heads of keys with three queries each, float32, AVX2).
    """
    least, begin = [0.0], [0]
    for end in range(1, len(counts) + 1):
        best, first, each, columns = math.inf, 0, 0, 0
        for start in range(end - 1, -1, -1):
            each, columns = max(each, counts[start]), max(columns, own[start])
            cost = call + (end - start) * columns * (0.85 + 0.15 * each)
            if least[start] + cost < best:
                best, first = least[start] + cost, start
            elif cost > best:
                break  # longer ones cost more still
        least.append(best)
        begin.append(first)
    parts, end = [], len(counts)
    while end:
        parts.append(slice(begin[end], end))
        end = begin[end]
    return parts[::-1]


class RowsCache:
    """One layer's own tokens of every row, in buffers that are written in place.

    ``torch.cat`` at every token, as in a growing cache, would copy all keys and values each time.
    It has what ``transformers.Cache`` asks of a layer; its base class there would need torch at
    import time.
    """

    is_compileable = is_sliding = is_croppable = False

    def __init__(self, rows: int, columns: int) -> None:
        self.capacity = (rows, columns)
        self.keys: torch.Tensor | None = None
        self.values: torch.Tensor | None = None
        self.is_initialized = False
        self.step: Step | None = None
        """Where the next tokens are written to."""

    def put(self, slot: int, keys: torch.Tensor, values: torch.Tensor, at: int = 0) -> None:
        """Make heads × tokens × head size the tokens of a row from ``at`` on."""
        if self.keys is None or self.values is None:
            rows, columns = self.capacity
            shape = (rows, keys.shape[0], columns, keys.shape[2])
            # Zeros, since what was never written is multiplied by a weight of 0: NaN would stay.
            self.keys = keys.new_zeros(shape)
            self.values = values.new_zeros((*shape[:3], values.shape[2]))
            self.is_initialized = True
        end = at + keys.shape[1]
        self.keys[slot, :, at:end] = keys
        self.values[slot, :, at:end] = values

    def row(self, slot: int, columns: int) -> KeysValues:
        """Return up to so many columns of a row: heads × tokens × head size, each."""
        assert self.keys is not None and self.values is not None
        return self.keys[slot, :, :columns], self.values[slot, :, :columns]

    def move(self, source: int, target: int) -> None:
        """Copy the row in one slot to another slot."""
        for buffer in (self.keys, self.values):
            if buffer is not None:
                buffer[target] = buffer[source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: object, **__: object
    ) -> KeysValues:
        """Write the step's tokens, 1 × heads × tokens × head size, and return all rows' buffers."""
        assert self.keys is not None and self.values is not None and self.step is not None
        at = self.step.slots, slice(None), self.step.columns
        self.keys[at] = key_states[0].transpose(0, 1)
        self.values[at] = value_states[0].transpose(0, 1)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the columns that were written before this step."""
        return max(self.step.width - 1, 0) if self.step else 0

    def get_max_length(self) -> int:
        """Return the columns of the buffers."""
        return self.capacity[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return length and offset of the keys; every call brings a mask of its own."""
        return self.get_seq_length() + query_length, 0


def attend_in_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    step: Step,
    prefix: KeysValues | None,
    scale: float,
) -> torch.Tensor:
    """Attend to own tokens and to the prefix, each by itself, and weigh the two by their sums.

    Two outcomes of attention make one when each is weighted by the sum of its exponentials, whose
    logarithm every kernel of this kind gives (FlashDecoding,
    https://crfm.stanford.edu/2023/10/12/flashdecoding.html).

    Args:
        query: 1 × heads × the step's tokens × head size.
        key: Rows × key-value heads × columns × head size.
        value: As the keys.
        step: The layout of the tokens.
        prefix: Of the layer, what rows share before their own tokens.
        scale: Multiplies the scores.

    Returns:
        1 × tokens × heads × head size.
    """
    import torch

    (_, heads, _, size), shared = query.shape, key.shape[1]
    groups, fused = heads // shared, query.device.type == "cpu"
    tokens = query[0].transpose(0, 1)
    attended = torch.empty_like(tokens)
    totals = tokens.new_empty(tokens.shape[:2], dtype=torch.float32)
    for part in step.parts:
        rows, each = len(part.seen), part.seen.shape[2]
        own = tokens[part.places].view(rows, each, shared, groups, size)
        queries = own.permute(0, 2, 3, 1, 4).reshape(rows, shared, groups * each, size)
        keys, values = (one[part.rows, :, : part.width] for one in (key, value))
        bias = part.bias(query, groups)
        output, total = attention(queries, keys, values, bias, scale, fused=fused)
        # A missing token is its row's last one, and so has the same outcome.
        output = output.reshape(rows, heads, each, size).transpose(1, 2)
        attended[part.places] = output.reshape(rows * each, heads, size)
        if prefix is not None:
            totals[part.places] = total.reshape(rows, heads, each).transpose(1, 2).flatten(0, 1)
    if prefix is not None and len(step.with_prefix):
        led = step.with_prefix
        of_prefix, over_prefix = _attend_to_prefix(tokens[led], prefix, scale, fused=fused)
        weight = torch.sigmoid(over_prefix - totals[led])[..., None].to(attended.dtype)
        attended[led] = torch.lerp(attended[led], of_prefix, weight)
    return attended[None]


def _attend_to_prefix(
    tokens: torch.Tensor, prefix: KeysValues, scale: float, *, fused: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what tokens × heads × head size attend to in the prefix, and the sums' logarithms."""
    (count, heads, size), (keys, values) = tokens.shape, prefix
    shared = keys.shape[1]
    every = tokens.view(count, shared, -1, size).transpose(0, 1).reshape(1, shared, -1, size)
    output, total = attention(every, keys, values, None, scale, fused=fused)
    output = output.reshape(shared, count, -1, size).transpose(0, 1)
    total = total.reshape(shared, count, -1).transpose(0, 1)
    return output.reshape(count, heads, size), total.reshape(count, heads)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    scale: float,
    *,
    fused: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what queries attend to, and the logarithm of the sum of their exponentials.

    Both are batch × heads × queries, the first × head size, too; ``bias`` is added to the scores.
    ``fused`` is for a processor: one kernel of torch gives both without writing the scores down. 64
    rows over 420 shared and 180 own tokens took it 4.7 ms, products and a softmax 7.2 (bfloat16,
    one thread).
    """
    import torch

    if fused:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, total = kernel(query, key, value, attn_mask=bias, scale=scale)
        return output, total
    scores = (query * scale @ key.transpose(2, 3)).float()
    if bias is not None:
        scores = scores + bias
    return scores.softmax(-1).to(value.dtype) @ value, scores.logsumexp(-1)
