"""Rows under way: their prompts are computed, each gets a token a step, and their places go on.

What several prompts begin with is computed once (:class:`Lead`): a long beginning is attended to
where it lies (:mod:`.shared_prefix`), a short one is copied to each row. A row that goes on where
another has ended, as the next turn of a conversation does, takes over what that one has. Called by
:mod:`.batched`, in one thread or in several; torch is imported when rows are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from threading import Event
from typing import TYPE_CHECKING

from workbench.inference.engines.batch_rows import BatchRow, Lead
from workbench.inference.engines.chats import alike
from workbench.inference.engines.drafts import Drafts
from workbench.inference.engines.shared_prefix import (
    SHORTEST_PREFIX,
    attending,
    common_prefix,
    keys_values,
    left_padded,
    stepping,
)
from workbench.inference.engines.step_attention import KeysValues, RowsCache, lay_out
from workbench.inference.engines.streams import Halted
from workbench.meter import trim_heap

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.cache_utils import Cache

NO_BOUND = 10**12
_SHORTEST_LEAD = 8
"""Tokens of a beginning that is worth a call of its own."""
_MOST_LEADS = 4
"""Beginnings that are looked for."""
_MOST_PADDING = 128
"""Padding tokens that one call may compute: about what a call of its own would cost."""
_MOST_FED = 64
"""Tokens of a next turn that a processor puts in beside other rows' next ones; more are worth a
call, as any are on a GPU."""
_FEW_ROWS = 16
"""Rows for which tokens are guessed: a step of more takes a processor as long as their products, so
that a wrong guess costs what a right one spares."""
_MOST_DRAFTED = 128
"""Tokens that are guessed for all rows of a step: their logits take memory."""
_MOST_COPIED = 8192
"""Tokens that are there already and that one call copies, padding included."""
_MOST_PREFILLED, _MOST_PREFILLED_GPU = 256, 8192
"""Tokens of prompts that one call computes, padding included. On a processor, what is beside
products then stays in its cache: 1 494 tokens took 4.5 s in place of 5.3 in calls of 512 and more
(float32, AVX2, one thread)."""


Ended = Callable[[BatchRow], Iterable[BatchRow]]
"""Called with an answered row; returns the rows that follow it."""


@dataclass
class RowBatch:
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
    most_tokens: int = NO_BOUND
    """Tokens of all rows under way, as the longest of them has them; one row always fits. Longer
    next turns that wait hold a copy of what they go on from besides."""
    halt: Event = field(default_factory=Event)
    """Ends the answering."""
    leads: list[Lead] = field(default_factory=list)
    """What prompts begin with, the one that spares most first."""

    def lead(self, rows: Iterable[BatchRow]) -> None:
        """Compute what several of the rows begin with; their prompts are computed by no thread."""
        rest = [row.ids for row in rows]
        while len(self.leads) < _MOST_LEADS and (ids := common_prefix(rest, _SHORTEST_LEAD)):
            lead = Lead(ids, self._encode(ids))
            self.leads.append(lead)
            rest = [prompt for prompt in rest if not lead.begins(prompt)]

    def lead_of(self, row: BatchRow) -> Lead | None:
        """Return what a row's prompt begins with."""
        return next((lead for lead in self.leads if lead.begins(row.ids)), None)

    def answer(self, rows: Sequence[BatchRow], ended: Ended) -> None:
        """Answer all rows, and those that ``ended`` returns for an answered one."""
        attended = self._attended(rows)
        states = [(k[None], v[None]) for k, v in attended.states] if attended else []
        with attending(states):
            self._drain(rows, attended, ended)

    def generate(
        self, rows: Sequence[BatchRow], ended: Ended, tokenizer: PreTrainedTokenizerBase
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

    def _encode(self, ids: Sequence[int]) -> list[KeysValues]:
        import torch
        from transformers.cache_utils import DynamicCache

        states = DynamicCache(config=self.model.config)
        one = torch.tensor([ids], device=self.model.device)
        self.model(input_ids=one, past_key_values=states, use_cache=True, logits_to_keep=1)
        return [(keys[0], values[0]) for keys, values in keys_values(states)]

    def _attended(self, rows: Sequence[BatchRow]) -> Lead | None:
        """Return the lead that spares the rows most by being attended to, not copied."""

        def spared(lead: Lead) -> int:
            led = sum(lead.begins(row.ids) for row in rows)
            return (led - 1) * len(lead.ids) if len(lead.ids) >= SHORTEST_PREFIX else 0

        best = max(self.leads, key=spared, default=None)
        return best if best and spared(best) > 0 else None

    def _drain(self, rows: Iterable[BatchRow], attended: Lead | None, ended: Ended) -> None:
        """Answer rows, some of which begin with what is attended to, and those that follow."""

        def led(row: BatchRow) -> BatchRow:
            lead = self.lead_of(row)
            if lead is not None and lead is attended:
                row.shared = len(lead.ids)
            elif lead is not None:
                row.known = lead.states
            return row

        opening = sorted(rows, key=lambda row: (not row.request.first, -len(row.ids)))
        queue = deque(led(row) for row in opening)
        running = RunningRows(self, len(attended.ids) if attended else 0)
        while queue or running.rows:
            if self.halt.is_set():
                raise Halted
            free = running.room(queue)
            # One call for several new rows; a turn that others hang on does not wait for them.
            if free and (free * 8 >= self.size or free == len(queue) or not running.rows):
                running.admit([queue.popleft() for _ in range(free)])
            else:
                running.step()
            queue.extendleft(running.end(lambda row: [led(new) for new in ended(row)]))

    def choose(
        self, logits: torch.Tensor, rows: Sequence[BatchRow], places: Sequence[int]
    ) -> list[int]:
        """Give each row the token of its place in logits of places × vocabulary.

        Returns:
            The likeliest token of every place.
        """
        import torch

        best: list[int] = logits.argmax(-1).tolist()
        for row, place in zip(rows, places, strict=True):
            row.new.append(best[place])
            if row.generator is not None:
                weights = (logits[place].float() / self.temperature).softmax(-1).cpu()
                row.new[-1] = int(torch.multinomial(weights, 1, generator=row.generator))
        return best

    def is_done(self, row: BatchRow) -> bool:
        """Return whether a row's answer has come to its end, or to where it is cut."""
        return bool(row.new) and (row.new[-1] in self.ends or len(row.new) >= self.max_new_tokens)


class RunningRows:
    """The rows under way, the first ones of the buffers, and the tokens that they have."""

    def __init__(self, batch: RowBatch, prefix: int) -> None:
        self.batch, self.prefix = batch, prefix
        self.rows: list[BatchRow] = []
        self.layers: list[RowsCache] = []
        self.capacity = (0, 0)
        """Rows and columns of the buffers."""
        self._local = batch.model.device.type == "cpu"

    def admit(self, rows: Sequence[BatchRow]) -> None:
        """Compute the prompts of new rows, alike long ones together, and their first tokens."""
        import torch

        self._fit([*self.rows, *rows])
        for group in _alike_long(rows, _MOST_PREFILLED if self._local else _MOST_PREFILLED_GPU):
            fresh = [row.fresh for row in group]
            width = max(map(len, fresh))
            device = self.batch.model.device
            ids = torch.tensor([[0] * (width - len(s)) + s for s in fresh], device=device)
            lengths, copied, shared = (
                torch.tensor(counts, device=device)
                for counts in zip(*((len(r.fresh), r.copied, r.shared) for r in group), strict=True)
            )
            states = self._copied(group)
            mask, positions = left_padded(width, lengths, copied, self.prefix, shared)
            logits = self._call(ids, mask, positions, states)
            for index, (row, length) in enumerate(zip(group, map(len, fresh), strict=True)):
                slot, before = len(self.rows), row.copied
                for number, (keys, values) in enumerate(keys_values(states)):
                    layer = self.layers[number]
                    if before:
                        layer.put(slot, *row.known[number])
                    layer.put(slot, keys[index, :, -length:], values[index, :, -length:], before)
                row.known, row.there = (), before + length
                self.rows.append(row)
            self.batch.choose(logits, group, range(len(group)))
        trim_heap()  # what prompts took would add up, in pieces of the threads' heaps

    def _copied(self, rows: Sequence[BatchRow]) -> Cache:
        """Return a cache with the tokens of rows that are computed already, padded left."""
        from transformers.cache_utils import DynamicCache

        states = DynamicCache(config=self.batch.model.config)
        width = max(row.copied for row in rows)
        layers = self.batch.model.config.get_text_config().num_hidden_layers if width else 0
        for number in range(layers):
            some = next(row.known[number] for row in rows if row.known)
            # Zeros, since what is masked is multiplied by a weight of 0: NaN would stay.
            padded = [one.new_zeros((len(rows), one.shape[0], width, one.shape[2])) for one in some]
            for index, row in enumerate(rows):
                for target, source in zip(
                    padded, row.known[number] if row.known else (), strict=False
                ):
                    target[index, :, width - row.copied :] = source
            states.update(*padded, number)
        return states

    def room(self, queue: Iterable[BatchRow]) -> int:
        """Return how many of the first in the queue can be answered beside those under way."""
        rows, columns = len(self.rows), self._columns(self.rows)
        for row in queue:
            columns = max(columns, self._columns([row]))
            if rows == self.batch.size or (rows and (rows + 1) * columns > self.batch.most_tokens):
                break
            rows += 1
        return rows - len(self.rows)

    def _columns(self, rows: Iterable[BatchRow]) -> int:
        """Return the tokens, without the prefix, that the longest of some rows will have."""
        own = (len(row.ids) - row.shared + self.batch.max_new_tokens for row in rows)
        return max(own, default=0)

    def _fit(self, rows: Sequence[BatchRow]) -> None:
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
        """Give every row under way its next token, and those after it that were guessed right."""
        import torch
        from transformers.cache_utils import Cache

        device = self.batch.model.device
        own, guesses = [row.put_in for row in self.rows], self._guesses()
        put_in = [[*tokens, *guess] for tokens, guess in zip(own, guesses, strict=True)]
        there, shared = ([getattr(row, name) for row in self.rows] for name in ("there", "shared"))
        step = lay_out([len(tokens) for tokens in put_in], there, shared, device)
        for layer in self.layers:
            layer.step = step
        ids = torch.tensor([[token for tokens in put_in for token in tokens]], device=device)
        positions = (step.columns + torch.tensor(shared, device=device)[step.slots])[None]
        # A mask of four dimensions keeps transformers from making one.
        mask = ids.new_ones((1, 1, 1, 1)).bool()
        ends = list(accumulate(map(len, put_in)))
        # Of what a prompt lacks, only the last token is followed by a new one.
        asked = [range(end - len(guess) - 1, end) for end, guess in zip(ends, guesses, strict=True)]
        keep = torch.tensor([at for places in asked for at in places], device=device)
        with stepping(step):
            logits = self._call(ids, mask, positions, Cache(layers=list(self.layers)), keep)
        for row, tokens in zip(self.rows, own, strict=True):
            row.there += len(tokens)
        self._take(logits, guesses)

    def _guesses(self) -> list[Sequence[int]]:
        """Return what is put in for each row besides, since it is likely to follow."""
        guesses: list[Sequence[int]] = []
        free = _MOST_DRAFTED if self._local and len(self.rows) <= _FEW_ROWS else 0
        for row in self.rows:
            guess: Sequence[int] = ()
            if free and row.new and row.generator is None:
                row.drafts = row.drafts or Drafts([*row.ids, *row.new])
                # One token comes without a guess.
                guess = row.drafts.guess(min(free, self.batch.max_new_tokens - len(row.new) - 1))
            guesses.append(guess)
            free -= len(guess)
        return guesses

    def _take(self, logits: torch.Tensor, guesses: Sequence[Sequence[int]]) -> None:
        """Give rows the tokens that follow what they put in, as far as that was right.

        The logits are of each row's last token and of its guesses, one after the other.
        """
        firsts = [0, *accumulate(len(guess) + 1 for guess in guesses)][:-1]
        best = self.batch.choose(logits, self.rows, firsts)
        for row, first, guess in zip(self.rows, firsts, guesses, strict=True):
            right = 0
            while (
                right < len(guess) and row.new[-1] == guess[right] and not self.batch.is_done(row)
            ):
                right += 1
                row.new.append(best[first + right])
            row.there += right
            if row.drafts is not None:
                row.drafts.judge(len(guess), right)
                row.drafts.add(row.new[-right - 1 :])

    def _call(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        states: Cache,
        keep: torch.Tensor | int = 1,
    ) -> torch.Tensor:
        """Return logits of the places to ``keep``, or of so many last ones: rows × vocabulary."""
        output = self.batch.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=states,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: torch.Tensor = output.logits.flatten(0, 1)
        return logits

    def end(self, ended: Ended) -> list[BatchRow]:
        """Take rows away that have ended, and return those that follow them and wait for a place.

        A follower that goes on where a row has ended takes its place; else the last row does.
        """
        following: list[BatchRow] = []
        slot = 0
        while slot < len(self.rows):
            row = self.rows[slot]
            if not self.batch.is_done(row):
                slot += 1
                continue
            waiting = [new for new in ended(row) if not self._goes_on(slot, new)]
            following += waiting
            if self.rows[slot] is not row:
                continue
            last = self.rows.pop()
            if slot < len(self.rows):
                self.rows[slot] = last
                for layer in self.layers:
                    layer.move(len(self.rows), slot)
        return following

    def _goes_on(self, slot: int, new: BatchRow) -> bool:
        """Return whether a row has taken the place of one that has ended, with what it has there.

        A few tokens of its own are put in with the others' next ones. A row with more of them gets
        a copy of what it has in common with the one in the place.
        """
        row = self.rows[slot]
        # The last token of an answer was never put in, and a prompt keeps one of its own.
        common = min(alike([*row.ids, *row.new[:-1]], new.ids), len(new.ids) - 1)
        if not row.new or row.shared != new.shared or common <= new.shared + new.copied:
            return False
        own, columns = common - new.shared, self._columns([*self.rows, new])
        if len(self.rows) * columns > self.batch.most_tokens:
            return False
        if len(new.ids) - common > (_MOST_FED if self._local else 0):
            new.known = [
                (keys.clone(), values.clone())
                for keys, values in (layer.row(slot, own) for layer in self.layers)
            ]
            return False
        new.known, new.there = (), own
        self._fit([*self.rows[:slot], new, *self.rows[slot + 1 :]])
        self.rows[slot] = new
        return True


def _alike_long(rows: Sequence[BatchRow], most: int) -> Iterator[list[BatchRow]]:
    """Yield the rows in groups of at most so many tokens, or of one row.

    In a group little is padded, and all share the prefix or none does.
    """
    group: list[BatchRow] = []
    padding = 0
    for row in sorted(rows, key=lambda row: (row.shared, -len(row.fresh))):
        longest = len(group[0].fresh) if group else 0
        missing = longest - len(row.fresh) if group else 0
        widest = max(row.copied, *(one.copied for one in group)) if group else 0
        full = (len(group) + 1) * longest > most or (len(group) + 1) * widest > _MOST_COPIED
        other = group and row.shared != group[0].shared
        if group and (full or other or padding + missing > _MOST_PADDING):
            yield group
            group, padding, missing = [], 0, 0
        group.append(row)
        padding += missing
    if group:
        yield group
