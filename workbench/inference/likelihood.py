"""How likely a loaded model finds tokens that follow others, many texts at once.

In: a model, and token ids with where the foretold part begins. Out: sums in nats. Called by what
measures general text and the sense of answers, and by the losses of single rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from workbench.inference.engines.streams import threads_for_rows
from workbench.inference.packed_weights import packed_weights
from workbench.inference.processor import processor

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Foretold = tuple[Sequence[int], int]
"""Token ids, and the place of the first one that is to be foretold, from 1."""
_MOST_TOKENS = 512
"""Tokens of a batch on a processor; each has logits of the whole vocabulary."""
_WORTH_PACKING = 10_000
"""Tokens whose products spare more time than it takes to lay the weights out."""


def right_padded(texts: Sequence[Sequence[int]], model: PreTrainedModel) -> dict[str, Tensor]:
    """Return (n, longest) token ids, filled up on the right, and their attention mask."""
    import torch

    sequence = [torch.tensor(text, dtype=torch.long) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(sequence, batch_first=True)
    lengths = torch.tensor([[len(text)] for text in texts])
    mask = (torch.arange(ids.shape[1]) < lengths).long()
    return {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}


def log_likelihoods(
    model: PreTrainedModel, texts: Sequence[Foretold], *, batch_size: int = 16
) -> list[tuple[float, int]]:
    """Return each text's (sum in nats, tokens counted); the longest go through the model first."""
    import torch

    local = model.device.type == "cpu"
    batches = list(_batches(texts, batch_size, _MOST_TOKENS if local else None))
    threads = threads_for_rows(model)
    packs = local and processor().packed and sum(len(ids) for ids, _ in texts) > _WORTH_PACKING
    every: dict[int, tuple[float, int]] = {}
    before = torch.get_num_threads()
    one = partial(torch.set_num_threads, before // threads)
    try:
        with (
            packed_weights(model, _MOST_TOKENS if packs else 0),
            ThreadPoolExecutor(threads, initializer=one) as pool,
        ):
            asked = ([texts[place] for place in places] for places in batches)
            for places, sums in zip(batches, pool.map(partial(_batch, model), asked), strict=True):
                every |= dict(zip(places, sums, strict=True))
    finally:
        torch.set_num_threads(before)  # a thread's count is also that of threads begun later
    return [every[place] for place in range(len(texts))]


def _batches(texts: Sequence[Foretold], most: int, most_tokens: int | None) -> Iterator[list[int]]:
    """Yield the places of texts in batches of like length, the longest first."""
    batch: list[int] = []
    for place in sorted(range(len(texts)), key=lambda place: -len(texts[place][0])):
        longest = len(texts[batch[0]][0]) if batch else 0
        if len(batch) == most or (
            most_tokens and batch and (len(batch) + 1) * longest > most_tokens
        ):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _batch(model: PreTrainedModel, texts: Sequence[Foretold]) -> list[tuple[float, int]]:
    import torch
    from torch.nn.functional import cross_entropy

    batch = right_padded([ids for ids, _ in texts], model)
    with torch.inference_mode():
        logits = model(**batch).logits
    sums = []
    for row, (ids, start) in enumerate(texts):
        # Token t is foretold at t - 1; one row at a time in float32, the vocabulary is large.
        own = logits[row, start - 1 : len(ids) - 1].float()
        loss = cross_entropy(own, batch["input_ids"][row, start : len(ids)], reduction="sum")
        sums.append((-float(loss), len(ids) - start))
    return sums
