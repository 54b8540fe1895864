"""Rows answered in one batch that is refilled as rows end, so that no step is spent on ended ones.

Rows are prefilled in groups of like length, what prompts begin with and what a conversation has
said is computed once, and the place of an ended row goes to the next one (:mod:`.running_rows`).
Models whose layers don't all attend to the whole context, or whose own settings change the logits,
are answered by transformers' ``generate`` instead.

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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from workbench.inference.engines import chats
from workbench.inference.engines.batch_rows import BatchRow
from workbench.inference.engines.running_rows import NO_BOUND, RowBatch
from workbench.inference.engines.shared_prefix import prefix_attention
from workbench.inference.engines.streams import answer_in_streams, threads_for_rows
from workbench.inference.packed_weights import packed_weights
from workbench.inference.processor import processor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LEAST_ROWS = 16
"""Rows from which a thread answers a part of them by itself."""
_TURNS = 10
"""Answers that a conversation costs as much as: it has some five, and all it has said is read."""
_PREFILL = 2
"""Tokens of a prompt that cost about as much as one of an answer."""
_LONE_STEPS = 65
"""Answers that the steps of conversations cost beside all rows: five, each step 13 rows' worth."""
_CACHE_BYTES = 2**30
"""Keys and values of all rows under way on a processor; fewer rows run at once beyond it."""


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

        def rows(asked: Iterable[chats.ChatRequest]) -> Iterator[BatchRow]:
            waiting = deque(asked)
            while waiting:
                request = waiting.popleft()
                ids = chats.prompt_ids(self.tokenizer, request.chat)
                if len(ids) + how.max_new_tokens > chats.longest_context(self.model):
                    waiting.extend(on_answer(request, None))
                    continue
                draws = torch.Generator().manual_seed(request.seed) if request.seed else None
                yield BatchRow(request, ids, generator=draws)

        def ended(row: BatchRow) -> list[BatchRow]:
            has_end = row.new[-1] in ends
            # An added token that ends an answer is no text, be it among the special ones or not.
            text_ids = row.new[:-1] if has_end and row.new[-1] in marks else row.new
            apart = chats.without_reasoning(self.tokenizer, row.ids, text_ids)
            answer = chats.ChatAnswer(
                apart.text,
                tokens=len(row.new),
                prompt_tokens=len(row.ids),
                ids=tuple(row.new),
                ended=has_end,
                reasoning=len(apart.reasoning),
            )
            return list(rows(on_answer(row.request, answer)))

        ends = frozenset(chats.end_tokens(self.model, self.tokenizer))
        marks = self.tokenizer.added_tokens_decoder
        batch = RowBatch(self.model, ends, how.max_new_tokens, self.batch_size, how.temperature)
        opening = list(rows(requests))
        if not attends_to_all(self.model):
            with torch.inference_mode():
                batch.generate(opening, ended, self.tokenizer)
            return
        streams = self._streams(len(opening))
        batch.most_tokens = _most_tokens(self.model, streams)
        with prefix_attention(self.model), torch.inference_mode(), self._packed(opening, streams):
            batch.lead(opening)
            parts = _partition(batch, opening, streams)
            if streams == 1:
                batch.answer(opening, ended)
            else:
                answer_in_streams(parts, batch.answer, ended, batch.halt)

    def _packed(self, rows: Sequence[BatchRow], streams: int) -> AbstractContextManager[int]:
        """Return the context in which weights lie as products of so many rows are fastest."""
        at_once = min(self.batch_size, -(-len(rows) // streams))
        # Beside a GPU the processor is not worth a measurement.
        packs = self.model.device.type == "cpu" and processor().packed
        return packed_weights(self.model, at_once if packs else 0)

    def _streams(self, rows: int) -> int:
        """Return how many threads answer so many rows, each with enough to be busy."""
        parts = rows // min(self.batch_size, _LEAST_ROWS)
        return max(1, min(threads_for_rows(self.model), parts))


def _most_tokens(model: PreTrainedModel, streams: int) -> int:
    """Return how many tokens the rows of one of several threads may have; a GPU has no bound."""
    if model.device.type != "cpu":
        return NO_BOUND
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


def _partition(batch: RowBatch, rows: Sequence[BatchRow], streams: int) -> list[list[BatchRow]]:
    """Return the rows in parts of about equal work, like with like.

    Every row of a batch is as wide as its longest, so one conversation among short questions makes
    all of them dear: conversations come together, then long questions, then short ones. Whoever has
    conversations takes a step for each token of their turns, whatever else it answers.
    """
    most = batch.max_new_tokens
    work = {}
    for row in rows:
        lead = batch.lead_of(row)
        fresh = len(row.ids) - (len(lead.ids) if lead else 0)
        work[id(row)] = most * (_TURNS if row.request.first else 1) + fresh / _PREFILL
    mixed = len({row.request.first for row in rows}) > 1
    steps = most * _LONE_STEPS if mixed else 0
    share = (sum(work.values()) + steps) / streams
    parts: list[list[BatchRow]] = [[] for _ in range(streams)]
    done = 0.0
    for row in sorted(rows, key=lambda row: (not row.request.first, -len(row.ids))):
        if not row.request.first:
            done, steps = done + steps, 0
        parts[min(int(done / share), streams - 1)].append(row)
        done += work[id(row)]
    return [part for part in parts if part]
