"""Threads that answer rows of their own: what follows is answered, and one failure ends all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from threading import Event, get_ident

import pytest
import torch

from workbench.inference.engines.streams import Ended, Halted, answer_in_streams


def test_each_part_is_answered_with_what_follows_and_told_in_the_callers_thread() -> None:
    """A row below 10 is followed by one ten higher; the processor's threads are put back."""
    answered: list[int] = []
    threads: set[int] = set()
    tellers: set[int] = set()
    before = torch.get_num_threads()

    def answer(part: Sequence[int], ended: Ended[int]) -> None:
        waiting = list(part)
        while waiting:
            threads.add(get_ident())
            waiting.extend(ended(waiting.pop()))

    def ended(row: int) -> Iterable[int]:
        tellers.add(get_ident())
        answered.append(row)
        return [row + 10] if row < 10 else []

    answer_in_streams([[1, 2], [3]], answer, ended, Event())
    assert sorted(answered) == [1, 2, 3, 11, 12, 13]
    assert len(threads) == 2 and tellers == {get_ident()}, "rows are told in the thread that asks"
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("where", ["answering", "telling"])
def test_a_failure_ends_every_thread_and_is_raised_once(where: str) -> None:
    """The other thread would go on for ever; it is halted."""
    halt = Event()

    def answer(part: Sequence[int], ended: Ended[int]) -> None:
        if part == [1] and where == "answering":
            raise ValueError("no memory")
        while True:
            if halt.is_set():
                raise Halted
            if part == [1]:
                ended(1)

    def ended(row: int) -> Iterable[int]:
        raise ValueError("no memory")

    with pytest.raises(ValueError, match="no memory"):
        answer_in_streams([[1], [2]], answer, ended, halt)
