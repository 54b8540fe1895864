"""Rows with different numbers of tokens attend as each would by itself."""

from __future__ import annotations

import pytest
import torch

from workbench.inference.engines import step_attention
from workbench.inference.engines.step_attention import RowsCache, attend_in_step, lay_out

HEADS, SHARED, SIZE, CAPACITY, PREFIX = 6, 2, 8, 400, 5
CPU = torch.device("cpu")
STEPS = {
    "one token each": ([1] * 7, [3, 9, 0, 4, 4, 8, 2]),
    "some with more": ([1, 4, 1, 1, 2, 1, 5, 2], [3, 90, 0, 4, 4, 8, 300, 2]),
    "all with more": ([3, 3, 2, 9], [0, 5, 6, 200]),
    "one long row": ([1] * 9, [3, 4, 390, 5, 6, 7, 8, 9, 10]),
    "one row": ([6], [0]),
}


@pytest.mark.parametrize("call", [0.0, 512.0, 10.0**9])
@pytest.mark.parametrize("counts, own", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("shared", ["none", "some", "all"])
def test_each_token_attends_to_its_row_and_the_prefix(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], own: list[int], shared: str, call: float
) -> None:
    monkeypatch.setattr(step_attention, "_CALL", call)
    torch.manual_seed(0)
    rows = len(counts)
    led = [PREFIX * (shared == "all" or (shared == "some" and row % 2 == 0)) for row in range(rows)]
    prefix = (torch.randn(1, SHARED, PREFIX, SIZE), torch.randn(1, SHARED, PREFIX, SIZE))
    step = lay_out(counts, own, led, CPU)
    cache = RowsCache(rows, CAPACITY)
    for row, length in enumerate(own):
        cache.put(row, *torch.randn(2, SHARED, length, SIZE))
    new = torch.randn(3, 1, HEADS, sum(counts), SIZE)
    query, keys, values = new[0], new[1, :, :SHARED], new[2, :, :SHARED]
    cache.step = step
    key, value = cache.update(keys, values)

    attended = attend_in_step(
        query, key, value, step, None if shared == "none" else prefix, scale=0.3
    )

    place = 0
    for row, count in enumerate(counts):
        for token in range(count):
            width = own[row] + token + 1
            seen = [one[row, :, :width] for one in (key, value)]
            # What was put in lies where it belongs.
            torch.testing.assert_close(seen[0][:, -1], keys[0, :, place])
            if led[row]:
                seen = [torch.cat([p[0], s], 1) for p, s in zip(prefix, seen, strict=True)]
            every_key, every_value = (one.repeat_interleave(HEADS // SHARED, 0) for one in seen)
            scores = (query[0, :, place, None] * 0.3 @ every_key.transpose(1, 2)).softmax(-1)
            torch.testing.assert_close(attended[0, place], (scores @ every_value)[:, 0])
            place += 1
    assert step.width == max(own[row] + counts[row] for row in range(rows))


def test_a_long_row_makes_no_other_wide_and_few_with_more_tokens_none_dear() -> None:
    counts, own = [1] * 64, [150] * 64
    assert len(lay_out(counts, own, [0] * 64, CPU).parts) == 1
    own[5] = 4000
    parts = lay_out(counts, own, [0] * 64, CPU).parts
    assert [part.width for part in parts] == [151, 4001, 151]
    own[5], counts[20], counts[50] = 150, 3, 3
    ones, threes = lay_out(counts, own, [0] * 64, CPU).parts
    assert (len(ones.seen), ones.seen.shape[2]) == (64, 1)
    assert isinstance(threes.rows, torch.Tensor)
    assert (threes.rows.tolist(), threes.seen.shape[2]) == ([20, 50], 3)


def test_a_gpu_attends_in_one_call() -> None:
    step = lay_out([1] * 9, [3, 4, 390, 5, 6, 7, 8, 9, 10], [0] * 9, torch.device("meta"))
    assert len(step.parts) == 1
