"""How likely a loaded model finds tokens that follow others, many texts at once.

In: a model, and token ids with where the foretold part begins. Out: sums in nats. Called by what
measures general text and the sense of answers, and by the losses of single rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Foretold = tuple[Sequence[int], int]
"""Token ids, and the place of the first one that is to be foretold, from 1."""


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
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place][0]))
    every: dict[int, tuple[float, int]] = {}
    for first in range(0, len(order), batch_size):
        places = order[first : first + batch_size]
        sums = _batch([texts[place] for place in places], model)
        every |= dict(zip(places, sums, strict=True))
    return [every[place] for place in range(len(texts))]


def _batch(texts: Sequence[Foretold], model: PreTrainedModel) -> Iterator[tuple[float, int]]:
    import torch
    from torch.nn.functional import cross_entropy

    batch = right_padded([ids for ids, _ in texts], model)
    with torch.inference_mode():
        logits = model(**batch).logits
    for row, (ids, start) in enumerate(texts):
        # Token t is foretold at t - 1; one row at a time in float32, the vocabulary is large.
        own = logits[row, start - 1 : len(ids) - 1].float()
        loss = cross_entropy(own, batch["input_ids"][row, start : len(ids)], reduction="sum")
        yield -float(loss), len(ids) - start
