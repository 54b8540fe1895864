"""Rows answered by several threads of Python, each with a batch and processor threads of its own.

A small model's products are too short to be shared by two processor threads: they wait for one
another at the end of each, and beside another process they nearly stop. Threads that answer rows of
their own wait for nobody. Called by :mod:`.batched`; torch is imported when rows are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST = 500_000_000
"""Weights of a model whose rows are dealt out to threads; a larger one keeps them busy together."""
Row = TypeVar("Row")
Ended = Callable[[Row], Iterable[Row]]
"""Called with an answered row; returns the rows that follow it."""


Events = SimpleQueue[tuple[Row, SimpleQueue[list[Row]]] | None]
"""An answered row, with where its thread waits for those that follow; None where a thread ends."""


class Halted(Exception):
    """Rows need no answer any more: another thread has failed, or was interrupted."""


def threads_for_rows(model: PreTrainedModel) -> int:
    """Return how many threads may each compute rows of their own, 1 where they work together.

    That is on a GPU, with a large model, and with rotary embeddings that keep what the last rows
    needed.
    """
    import torch

    if model.device.type != "cpu" or model.num_parameters() > LARGEST:
        return 1
    if any(
        hasattr(one, "long_inv_freq") or getattr(one, "rope_type", "") == "dynamic"
        for one in model.modules()
    ):
        return 1
    threads: int = torch.get_num_threads()
    return threads


def answer_in_streams(
    parts: Sequence[Sequence[Row]],
    answer: Callable[[Sequence[Row], Ended[Row]], object],
    ended: Ended[Row],
    halt: Event,
) -> None:
    """Answer each part in a thread of its own; ``ended`` is called in this one.

    Processor threads are dealt out evenly, at least one each. Where this thread or another fails,
    ``halt`` is set, and ``answer`` raises :class:`Halted` soon after it is.
    """
    import torch

    threads = torch.get_num_threads()
    events: Events[Row] = SimpleQueue()

    def run(part: Sequence[Row], following: SimpleQueue[list[Row]]) -> None:
        def ask(row: Row) -> list[Row]:
            events.put((row, following))
            return _unless_halted(following.get(), halt)

        torch.set_num_threads(max(1, threads // len(parts)))
        ends_well = False
        try:
            with torch.inference_mode():
                answer(part, ask)
            ends_well = True
        finally:
            if not ends_well:
                halt.set()
            events.put(None)

    running = len(parts)
    replies: list[SimpleQueue[list[Row]]] = [SimpleQueue() for _ in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        results = [pool.submit(run, *one) for one in zip(parts, replies, strict=True)]
        try:
            while running:
                if (event := events.get()) is None:
                    running -= 1
                else:
                    event[1].put(list(ended(event[0])))
        finally:
            halt.set()
            _wait_for_ends(running, events, replies)
            # A thread's count is also that of threads begun later.
            torch.set_num_threads(threads)
    for result in results:
        if (error := result.exception()) and not isinstance(error, Halted):
            raise error


def _unless_halted(rows: list[Row], halt: Event) -> list[Row]:
    if halt.is_set():
        raise Halted
    return rows


def _wait_for_ends(
    running: int, events: Events[Row], replies: Sequence[SimpleQueue[list[Row]]]
) -> None:
    """Let every thread that is still running end."""
    while running:
        for reply in replies:
            reply.put([])  # whoever waits for one sees that it is over
        running -= events.get() is None
