"""Rows answered in one batch that is refilled as rows end, so that no step is spent on ended ones.

Only imported with torch at hand: by :mod:`workbench.inference.decoding`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from workbench.inference.shared_prefix import Kept, KeysValues, attending, keys_values

SHORTEST_PREFIX = 64
"""Tokens from which a shared prefix is computed apart; below it the gain is less than the cost."""
_MOST_PADDING = 128
"""Padding tokens that one call may compute: about what a call of its own would cost."""


@dataclass
class Row:
    """A prompt and what has been answered to it."""

    ask: Any
    ids: list[int]
    said: list[int] = field(default_factory=list)
    generator: torch.Generator | None = None
    """Draws its tokens, so that they don't depend on who else is in the batch; None is greedy."""
    first: bool = False
    """Goes before others, because more is asked after it."""


class Batch:
    """A model answering rows, some at a time.

    Args:
        model: A causal language model whose layers all attend to everything before.
        ends: Tokens that end an answer.
        max_new_tokens: Where an answer without an end is cut.
        rows: Rows answered at once, at most.
        temperature: Divides the logits of rows that are drawn.
    """

    def __init__(
        self, model: Any, ends: Iterable[int], max_new_tokens: int, rows: int, temperature: float
    ) -> None:
        self.model, self.ends = model, frozenset(ends)
        self.most, self.rows, self.temperature = max_new_tokens, rows, temperature

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def answer(self, rows: Sequence[Row], done: Callable[[Row], Iterable[Row]]) -> None:
        """Answer all rows, and those that ``done`` returns for an answered one."""
        waiting = list(rows)
        while waiting:
            length = _shared(waiting)
            prefix = waiting[0].ids[:length]
            kept = self._encode(prefix) if prefix else []
            attention: AbstractContextManager[None] = (
                attending(self.model, kept) if prefix else nullcontext()
            )
            with attention:
                waiting = self._drain(waiting, prefix, done)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def generate(
        self, rows: Sequence[Row], done: Callable[[Row], Iterable[Row]], tokenizer: Any
    ) -> None:
        """Answer as :meth:`answer` does, for any model, through its own ``generate``."""
        waiting = list(rows)
        while waiting:
            waiting.sort(key=lambda row: (row.generator is None, len(row.ids)))
            drawn = waiting[0].generator is not None
            kind = [row for row in waiting if (row.generator is not None) == drawn]
            taken = kind[-self.rows :]
            waiting = [row for row in waiting if all(row is not one for one in taken)]
            inputs = tokenizer.pad({"input_ids": [row.ids for row in taken]}, return_tensors="pt")
            # One draw serves the whole batch here.
            torch.manual_seed(taken[0].ask.seed if drawn else 0)
            output = self.model.generate(
                **inputs.to(self.model.device),
                max_new_tokens=self.most,
                do_sample=drawn,
                # Other sampling fields of the model's own generation config are not asked for.
                temperature=self.temperature if drawn else None,
                top_p=None,
                top_k=0 if drawn else None,
                eos_token_id=sorted(self.ends),
                pad_token_id=tokenizer.pad_token_id,
            )
            for row, tokens in zip(taken, output[:, inputs["input_ids"].shape[1] :], strict=True):
                said = tokens.tolist()
                end = next((i + 1 for i, token in enumerate(said) if token in self.ends), len(said))
                row.said = said[:end]
                waiting.extend(done(row))

    def _encode(self, prefix: Sequence[int]) -> list[KeysValues]:
        cache = DynamicCache(config=self.model.config)
        ids = torch.tensor([prefix], device=self.model.device)
        self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return keys_values(cache)

    def _drain(
        self, rows: Iterable[Row], prefix: list[int], done: Callable[[Row], Iterable[Row]]
    ) -> list[Row]:
        """Answer the rows that begin with ``prefix``; return those come later that don't."""
        queue = deque(sorted(rows, key=lambda row: (not row.first, -len(row.ids))))
        others: list[Row] = []
        table = _Table(self, len(prefix))
        while queue or table.active:
            free = min(self.rows - len(table.active), len(queue))
            # One call for several new rows; a turn that others hang on does not wait for them.
            if free and (free * 8 >= self.rows or free == len(queue)):
                table.admit([queue.popleft() for _ in range(free)])
            else:
                table.step()
            for row in table.take_ended():
                for new in done(row):
                    if new.ids[: len(prefix)] == prefix and len(new.ids) > len(prefix):
                        queue.appendleft(new)
                    else:
                        others.append(new)
        return others

    def choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> None:
        """Give each row its next token, from logits of rows × vocabulary."""
        for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            row.said.append(token)
        for index, row in enumerate(rows):
            if row.generator is not None:
                weights = (logits[index].float() / self.temperature).softmax(-1).cpu()
                row.said[-1] = int(torch.multinomial(weights, 1, generator=row.generator))


class _Table:
    """The rows under way, the first ones of the buffers, and the tokens that they have."""

    def __init__(self, batch: Batch, prefix: int) -> None:
        self.batch, self.prefix = batch, prefix
        self.active: list[Row] = []
        self.layers: list[Kept] = []
        self.room = (0, 0)
        """Rows and columns of the buffers."""

    def admit(self, rows: Sequence[Row]) -> None:
        """Compute the prompts of new rows, alike long ones together, and their first tokens."""
        self._make_room([*self.active, *rows])
        for group in _alike_long(rows):
            suffixes = [row.ids[self.prefix :] for row in group]
            width = max(map(len, suffixes))
            device = self.batch.model.device
            ids = torch.tensor([[0] * (width - len(s)) + s for s in suffixes], device=device)
            lengths = torch.tensor([len(s) for s in suffixes], device=device)
            cache = DynamicCache(config=self.batch.model.config)
            logits = self._call(ids, *_left_padded(width, lengths, self.prefix), cache)
            for index, (row, length) in enumerate(zip(group, map(len, suffixes), strict=True)):
                slot = len(self.active)
                for layer, (keys, values) in zip(self.layers, keys_values(cache), strict=True):
                    layer.put(slot, keys[index, :, -length:], values[index, :, -length:])
                self.active.append(row)
            self.batch.choose(logits, group)

    def _make_room(self, rows: Sequence[Row]) -> None:
        """Have buffers that hold ``rows``, without losing what those under way have in them."""
        columns = max(len(row.ids) for row in rows) - self.prefix + self.batch.most
        if len(rows) <= self.room[0] and columns <= self.room[1]:
            return
        self.room = (len(rows), columns)
        for number in range(_layers(self.batch.model)):
            wider = Kept(*self.room)
            # Layer by layer, so that the old buffers and the new are never there all at once.
            if number < len(self.layers):
                for slot in range(len(self.active)):
                    wider.put(slot, *self.layers[number].row(slot, columns))
                self.layers[number] = wider
            else:
                self.layers.append(wider)

    def step(self) -> None:
        """Give every row under way its next token."""
        device = self.batch.model.device
        # The last token of each row is the one that is put in now.
        own = [len(row.ids) - self.prefix + len(row.said) - 1 for row in self.active]
        at = torch.tensor(own, device=device)
        width = max(own) + 1
        for layer in self.layers:
            layer.at, layer.width = at, width
        mask = torch.arange(width, device=device) <= at[:, None]
        if self.prefix:
            mask = torch.cat([mask.new_ones((len(own), self.prefix)), mask], 1)
        ids = torch.tensor([[row.said[-1]] for row in self.active], device=device)
        positions = (at + self.prefix)[:, None]
        cache = Cache(layers=list(self.layers))
        self.batch.choose(self._call(ids, mask[:, None, None], positions, cache), self.active)

    def _call(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        output = self.batch.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def take_ended(self) -> Iterator[Row]:
        """Yield the rows that have ended; the last row moves into the slot of each."""
        slot = 0
        while slot < len(self.active):
            row = self.active[slot]
            if row.said[-1] not in self.batch.ends and len(row.said) < self.batch.most:
                slot += 1
                continue
            last = self.active.pop()
            if slot < len(self.active):
                self.active[slot] = last
                for layer in self.layers:
                    layer.move(len(self.active), slot)
            yield row


def _shared(rows: Sequence[Row]) -> int:
    """Return the length of the prefix that is computed once for all rows; 0 for a short one."""
    first, last = min(row.ids for row in rows), max(row.ids for row in rows)
    # A prompt keeps at least one token of its own, whose logits are its answer's first.
    most = min(len(row.ids) for row in rows) - 1
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), most)
    length = min(alike, most)
    return length if len(rows) > 1 and length >= SHORTEST_PREFIX else 0


def _alike_long(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield the rows in groups in which little is padded, longest first."""
    group: list[Row] = []
    padding = 0
    for row in sorted(rows, key=lambda row: -len(row.ids)):
        missing = len(group[0].ids) - len(row.ids) if group else 0
        if group and padding + missing > _MOST_PADDING:
            yield group
            group, padding, missing = [], 0, 0
        group.append(row)
        padding += missing
    if group:
        yield group


def _left_padded(
    width: int, lengths: torch.Tensor, prefix: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mask (rows × 1 × width × prefix and width) and the positions of padded prompts."""
    columns = torch.arange(width, device=lengths.device)
    real = columns >= (width - lengths)[:, None]
    causal = columns[None, :] <= columns[:, None]
    # Padding sees itself: a row of the mask without any True would come out as NaN.
    own = (causal & real[:, None, :]) | torch.eye(width, dtype=torch.bool, device=lengths.device)
    seen = own.new_ones((len(lengths), width, prefix))
    positions = (columns - (width - lengths)[:, None]).clamp(min=0) + prefix
    return torch.cat([seen, own], 2)[:, None], positions


def _layers(model: Any) -> int:
    count: int = model.config.get_text_config().num_hidden_layers
    return count
