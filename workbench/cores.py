"""Work on many things on all cores: pieces of it in processes of their own, results in order.

In: a function of a module and things that can be pickled. Out: what the function makes of each, in
order. The filters of rows and the search for near duplicates call it. Processes come from joblib
(loky), which needs no guard in a user's script, hands out a few pieces at a time, and keeps its
processes for the next call.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MANY = 4000
"""Things from which processes are worth their start, a second each."""
_PIECE = 250


def free_cores() -> int:
    """Return how many cores this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def on_all_cores(work: Callable[[Sequence[T]], Sequence[R]], things: Sequence[T]) -> Iterator[R]:
    """Yield what ``work`` returns for each of the things, in their order.

    ``work`` is a function of a module, or a partial of one, that returns a result for each thing of
    a piece, the same alone or among others. ``things`` may be made as they are looked at; a few
    pieces are held at a time.
    """
    pieces = (things[start : start + _PIECE] for start in range(0, len(things), _PIECE))
    cores = free_cores()
    if len(things) < MANY or cores == 1:
        for piece in pieces:
            yield from work(piece)
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=cores, inner_max_num_threads=1):
        calls = (delayed(_watched)(os.getpid(), work, list(piece)) for piece in pieces)
        for results in Parallel(return_as="generator", batch_size=1)(calls):
            yield from results


def _watched(
    parent: int, work: Callable[[Sequence[T]], Sequence[R]], piece: list[T]
) -> Sequence[R]:
    _end_with(parent)
    return work(piece)


@cache
def _end_with(parent: int) -> None:
    """End this process once whoever started it is gone, be it killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
