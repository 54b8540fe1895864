"""Rows answered in one batch that is refilled as rows end, so that no step is spent on ended ones.

Rows are prefilled in groups of like length, a prefix that all prompts share is computed once
(:mod:`.shared_prefix`), and the place of an ended row goes to the next one. Models whose layers
don't all attend to the whole context, or whose own settings change the logits, are answered by
transformers' ``generate`` instead.

It is our own for processors, where a plain loop of ``generate`` waits for each batch's longest
answer and computes the system prompt for every row. ``benchmarks/bench_inference.py``, the embedded
model in bfloat16 on one thread, batch 16, tokens of a processor's second, ours, plain ``generate``
and transformers' continuous batching (``generate_batch``, with pages for its batch): 64, 74 and 55
for prompts alone that all run to 48 tokens; 54, 19 and 8 led by a system prompt. So it stays for
evaluations, half of whose arms are led by one; alone it is 1.15 times ``generate_batch``, no more.

On a GPU it is not ahead where nothing is shared: on an H200 with random weights of 135M and 1.7B
0.6 to 0.9 of the plain loop, 1.2 to 1.7 with a system prompt; ``generate_batch`` gave 3 to 4 and
0.7 to 1.6 times as much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

from workbench.inference.engines import chats
from workbench.inference.engines.shared_prefix import (
    KeysValues,
    RowsCache,
    attending,
    common_prefix,
    keys_values,
    left_padded,
    prefix_attention,
)
from workbench.inference.engines.streams import Halted, answer_in_streams
from workbench.inference.packed_weights import packed_weights
from workbench.inference.processor import processor
from workbench.meter import trim_heap

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

_MOST_STREAMED = 500_000_000
"""Weights of a model that is answered by several threads; a larger one keeps them busy together."""
_LEAST_ROWS = 16
"""Rows from which a thread answers a part of them by itself."""
_TURNS = 5
"""Answers that a conversation is taken to have when work is dealt out."""
_PREFILL = 4
"""Tokens of a prompt that cost about as much as one of an answer."""
_MOST_PADDING = 128
"""Padding tokens that one call may compute: about what a call of its own would cost."""
_MOST_PREFILLED = 8192
"""Tokens of prompts that one call computes, padding included."""
_CACHE_BYTES = 2**30
"""Keys and values of all rows under way on a processor; fewer rows run at once beyond it."""
_NO_BOUND = 10**12


class BatchedEngine:
    """A loaded chat model that answers many chats at once.

    The tokenizer pads left; at most ``batch_size`` prompts are answered at once.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 16
    ) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size

    def answer(
        self, requests: Iterable[chats.ChatRequest], on_answer: chats.OnAnswer, how: chats.Decoding
    ) -> None:
        """Answer ``requests`` and what follows; see :meth:`.chats.Engine.answer`."""
        import torch

        limit = chats.longest_context(self.model) - how.max_new_tokens

        def rows(asked: Iterable[chats.ChatRequest]) -> Iterator[_BatchRow]:
            waiting = deque(asked)
            while waiting:
                request = waiting.popleft()
                ids = chats.prompt_ids(self.tokenizer, request.chat)
                if len(ids) > limit:
                    waiting.extend(on_answer(request, None))
                    continue
                draws = torch.Generator().manual_seed(request.seed) if request.seed else None
                yield _BatchRow(request, ids, generator=draws)

        def ended(row: _BatchRow) -> list[_BatchRow]:
            has_end = row.new[-1] in ends
            # An added token that ends an answer is no text, be it among the special ones or not.
            text_ids = row.new[:-1] if has_end and row.new[-1] in marks else row.new
            apart = chats.without_reasoning(self.tokenizer, row.ids, text_ids)
            answer = chats.ChatAnswer(
                text=apart.text,
                reasoning=len(apart.reasoning),
                tokens=len(row.new),
                prompt_tokens=len(row.ids),
                ids=tuple(row.new),
                ended=has_end,
            )
            return list(rows(on_answer(row.request, answer)))

        ends = frozenset(chats.end_tokens(self.model, self.tokenizer))
        marks = self.tokenizer.added_tokens_decoder
        batch = _Batch(self.model, ends, how.max_new_tokens, self.batch_size, how.temperature)
        opening = list(rows(requests))
        if not attends_to_all(self.model):
            with torch.inference_mode():
                batch.generate(opening, ended, self.tokenizer)
            return
        streams = self._streams(len(opening))
        batch.most_tokens = _most_tokens(self.model, streams)
        with prefix_attention(self.model), torch.inference_mode(), self._packed(opening, streams):
            if streams == 1:
                batch.answer(opening, ended)
            else:
                parts = _partition(opening, streams, how.max_new_tokens)
                answer_in_streams(parts, batch.answer, ended, batch.halt)

    def _packed(self, rows: Sequence[_BatchRow], streams: int) -> AbstractContextManager[int]:
        """Return the context in which weights lie as products of so many rows are fastest."""
        at_once = min(self.batch_size, -(-len(rows) // streams))
        # Beside a GPU the processor is not worth a measurement.
        packs = self.model.device.type == "cpu" and processor().packed
        return packed_weights(self.model, at_once if packs else 0)

    def _streams(self, rows: int) -> int:
        """Return how many threads answer so many rows, each with enough to be busy."""
        import torch

        if self.model.device.type != "cpu" or self.model.num_parameters() > _MOST_STREAMED:
            return 1
        # Such rotary embeddings keep what the last prompt needed.
        if any(
            hasattr(one, "long_inv_freq") or getattr(one, "rope_type", "") == "dynamic"
            for one in self.model.modules()
        ):
            return 1
        threads: int = torch.get_num_threads()
        return max(1, min(threads, rows // min(self.batch_size, _LEAST_ROWS)))


def _most_tokens(model: PreTrainedModel, streams: int) -> int:
    """Return how many tokens the rows of one of several threads may have; a GPU has no bound."""
    if model.device.type != "cpu":
        return _NO_BOUND
    return _CACHE_BYTES // streams // _token_bytes(model)


def _token_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of a token's keys and values over all layers."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width: int = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    return width


def attends_to_all(model: PreTrainedModel) -> bool:
    """Return whether each layer is ordinary attention over the whole context, and greedy is argmax.

    Sliding windows, capped logits, linear layers and penalties are left to ``generate``.
    """
    config, own = model.config.get_text_config(), model.generation_config
    kinds = getattr(config, "layer_types", None)
    whole = set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", 0)
    capped = getattr(config, "attn_logit_softcapping", None)
    penalties = (own.repetition_penalty or 1.0) != 1.0 or bool(own.no_repeat_ngram_size)
    plain = model.config._attn_implementation == "sdpa"
    return whole and not capped and not penalties and plain


@dataclass
class _BatchRow:
    """A prompt's tokens and those of its answer."""

    request: chats.ChatRequest
    ids: list[int]
    new: list[int] = field(default_factory=list)
    shared: int = 0
    """Tokens at its beginning that are computed once for all rows that have them."""
    generator: torch.Generator | None = None
    """Draws its tokens, so that they don't depend on who else is in the batch; None is greedy."""


_Ended = Callable[[_BatchRow], Iterable[_BatchRow]]


def _partition(rows: Sequence[_BatchRow], streams: int, most: int) -> list[list[_BatchRow]]:
    """Return the rows in parts of about equal work, like with like.

    Every row of a batch is as wide as its longest, so one conversation among short questions makes
    all of them dear: conversations come together, then long questions, then short ones.
    """
    work = {
        id(row): most * (_TURNS if row.request.first else 1) + len(row.ids) / _PREFILL
        for row in rows
    }
    share = sum(work.values()) / streams
    parts: list[list[_BatchRow]] = [[] for _ in range(streams)]
    done = 0.0
    for row in sorted(rows, key=lambda row: (not row.request.first, -len(row.ids))):
        parts[min(int(done / share), streams - 1)].append(row)
        done += work[id(row)]
    return [part for part in parts if part]


@dataclass
class _Batch:
    """How rows are answered."""

    model: PreTrainedModel
    """A causal language model."""
    ends: frozenset[int]
    """Tokens that end an answer."""
    max_new_tokens: int
    """Where an answer without an end is cut."""
    size: int
    """Rows answered at once, at most."""
    temperature: float
    """Divides the logits of rows that are drawn."""
    most_tokens: int = _NO_BOUND
    """Tokens of all rows under way, as the longest of them has them; one row always fits."""
    halt: Event = field(default_factory=Event)
    """Ends the answering."""

    def answer(self, rows: Sequence[_BatchRow], ended: _Ended) -> None:
        """Answer all rows, and those that ``ended`` returns for an answered one."""
        prefix = common_prefix([row.ids for row in rows])
        with attending(self._encode(prefix) if prefix else []):
            self._drain(rows, prefix, ended)

    def generate(
        self, rows: Sequence[_BatchRow], ended: _Ended, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        """Answer as :meth:`answer` does, for any model, through its own ``generate``."""
        import torch

        waiting = list(rows)
        while waiting:
            waiting.sort(key=lambda row: (row.generator is None, len(row.ids)))
            drawn = waiting[0].generator is not None
            kind = [row for row in waiting if (row.generator is not None) == drawn]
            taken = kind[-self.size :]
            waiting = [row for row in waiting if all(row is not one for one in taken)]
            inputs = tokenizer.pad({"input_ids": [row.ids for row in taken]}, return_tensors="pt")
            # One draw serves the whole batch here.
            torch.manual_seed(taken[0].request.seed if drawn else 0)
            output = self.model.generate(
                **inputs.to(self.model.device),
                max_new_tokens=self.max_new_tokens,
                do_sample=drawn,
                # Other sampling fields of the model's own generation config are not asked for.
                temperature=self.temperature if drawn else None,
                top_p=None,
                top_k=0 if drawn else None,
                eos_token_id=sorted(self.ends),
                pad_token_id=tokenizer.pad_token_id,
            )
            for row, tokens in zip(taken, output[:, inputs["input_ids"].shape[1] :], strict=True):
                new = tokens.tolist()
                end = next((i + 1 for i, token in enumerate(new) if token in self.ends), len(new))
                row.new = new[:end]
                waiting.extend(ended(row))

    def _encode(self, prefix: Sequence[int]) -> list[KeysValues]:
        import torch
        from transformers.cache_utils import DynamicCache

        states = DynamicCache(config=self.model.config)
        ids = torch.tensor([prefix], device=self.model.device)
        self.model(input_ids=ids, past_key_values=states, use_cache=True, logits_to_keep=1)
        return keys_values(states)

    def _drain(self, rows: Iterable[_BatchRow], prefix: list[int], ended: _Ended) -> None:
        """Answer rows, some of which begin with ``prefix``, and those that follow them."""

        def with_prefix(row: _BatchRow) -> _BatchRow:
            # A prompt keeps at least one token of its own, whose logits are its answer's first.
            long = len(row.ids) > len(prefix)
            row.shared = len(prefix) if long and row.ids[: len(prefix)] == prefix else 0
            return row

        opening = sorted(rows, key=lambda row: (not row.request.first, -len(row.ids)))
        queue = deque(with_prefix(row) for row in opening)
        running = _RunningRows(self, len(prefix))
        while queue or running.rows:
            if self.halt.is_set():
                raise Halted
            free = running.room(queue)
            # One call for several new rows; a turn that others hang on does not wait for them.
            if free and (free * 8 >= self.size or free == len(queue) or not running.rows):
                running.admit([queue.popleft() for _ in range(free)])
            else:
                running.step()
            for row in running.take_ended():
                queue.extendleft(with_prefix(new) for new in ended(row))

    def choose(self, logits: torch.Tensor, rows: Sequence[_BatchRow]) -> None:
        """Give each row its next token, from logits of rows × vocabulary."""
        import torch

        for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            row.new.append(token)
        for index, row in enumerate(rows):
            if row.generator is not None:
                weights = (logits[index].float() / self.temperature).softmax(-1).cpu()
                row.new[-1] = int(torch.multinomial(weights, 1, generator=row.generator))


class _RunningRows:
    """The rows under way, the first ones of the buffers, and the tokens that they have."""

    def __init__(self, batch: _Batch, prefix: int) -> None:
        self.batch, self.prefix = batch, prefix
        self.rows: list[_BatchRow] = []
        self.layers: list[RowsCache] = []
        self.capacity = (0, 0)
        """Rows and columns of the buffers."""

    def admit(self, rows: Sequence[_BatchRow]) -> None:
        """Compute the prompts of new rows, alike long ones together, and their first tokens."""
        import torch
        from transformers.cache_utils import DynamicCache

        self._fit([*self.rows, *rows])
        for group in _alike_long(rows):
            suffixes = [row.ids[row.shared :] for row in group]
            width = max(map(len, suffixes))
            device = self.batch.model.device
            ids = torch.tensor([[0] * (width - len(s)) + s for s in suffixes], device=device)
            lengths = torch.tensor([len(s) for s in suffixes], device=device)
            shared = torch.tensor([row.shared for row in group], device=device)
            states = DynamicCache(config=self.batch.model.config)
            logits = self._call(ids, *left_padded(width, lengths, self.prefix, shared), states)
            for index, (row, length) in enumerate(zip(group, map(len, suffixes), strict=True)):
                slot = len(self.rows)
                for layer, (keys, values) in zip(self.layers, keys_values(states), strict=True):
                    layer.put(slot, keys[index, :, -length:], values[index, :, -length:])
                self.rows.append(row)
            self.batch.choose(logits, group)
        trim_heap()  # what prompts took would add up, in pieces of the threads' heaps

    def room(self, queue: Iterable[_BatchRow]) -> int:
        """Return how many of the first in the queue can be answered beside those under way."""
        rows, columns = len(self.rows), self._columns(self.rows)
        for row in queue:
            columns = max(columns, self._columns([row]))
            if rows == self.batch.size or (rows and (rows + 1) * columns > self.batch.most_tokens):
                break
            rows += 1
        return rows - len(self.rows)

    def _columns(self, rows: Iterable[_BatchRow]) -> int:
        """Return the tokens, without the prefix, that the longest of some rows will have."""
        own = (len(row.ids) - row.shared + self.batch.max_new_tokens for row in rows)
        return max(own, default=0)

    def _fit(self, rows: Sequence[_BatchRow]) -> None:
        """Have buffers that hold ``rows``, without losing what those under way have in them."""
        columns = self._columns(rows)
        if len(rows) <= self.capacity[0] and columns <= self.capacity[1]:
            return
        self.capacity = (len(rows), columns)
        for number in range(self.batch.model.config.get_text_config().num_hidden_layers):
            wider = RowsCache(*self.capacity)
            # Layer by layer, so that the old buffers and the new are never there all at once.
            if number < len(self.layers):
                for slot in range(len(self.rows)):
                    wider.put(slot, *self.layers[number].row(slot, columns))
                self.layers[number] = wider
            else:
                self.layers.append(wider)

    def step(self) -> None:
        """Give every row under way its next token."""
        import torch
        from transformers.cache_utils import Cache

        device = self.batch.model.device
        # The last token of each row is the one that is put in now.
        own = [len(row.ids) - row.shared + len(row.new) - 1 for row in self.rows]
        at = torch.tensor(own, device=device)
        width = max(own) + 1
        for layer in self.layers:
            layer.at, layer.width = at, width
        mask = torch.arange(width, device=device) <= at[:, None]
        shared = torch.tensor([row.shared for row in self.rows], device=device)
        if self.prefix:
            mask = torch.cat([(shared > 0)[:, None].expand(-1, self.prefix), mask], 1)
        ids = torch.tensor([[row.new[-1]] for row in self.rows], device=device)
        positions = (at + shared)[:, None]
        states = Cache(layers=list(self.layers))
        self.batch.choose(self._call(ids, mask[:, None, None], positions, states), self.rows)

    def _call(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, states: Cache
    ) -> torch.Tensor:
        output = self.batch.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=states,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def take_ended(self) -> Iterator[_BatchRow]:
        """Yield the rows that have ended; the last row moves into the slot of each."""
        slot = 0
        while slot < len(self.rows):
            row = self.rows[slot]
            if row.new[-1] not in self.batch.ends and len(row.new) < self.batch.max_new_tokens:
                slot += 1
                continue
            last = self.rows.pop()
            if slot < len(self.rows):
                self.rows[slot] = last
                for layer in self.layers:
                    layer.move(len(self.rows), slot)
            yield row


def _alike_long(rows: Sequence[_BatchRow]) -> Iterator[list[_BatchRow]]:
    """Yield the rows in groups in which little is padded and which share the prefix or don't."""
    group: list[_BatchRow] = []
    padding = 0
    for row in sorted(rows, key=lambda row: (row.shared, -len(row.ids))):
        missing = len(group[0].ids) - len(row.ids) if group else 0
        full = group and (len(group) + 1) * len(group[0].ids) > _MOST_PREFILLED
        other = group and row.shared != group[0].shared
        if group and (full or other or padding + missing > _MOST_PADDING):
            yield group
            group, padding, missing = [], 0, 0
        group.append(row)
        padding += missing
    if group:
        yield group
