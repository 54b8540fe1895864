"""How well an adapter knows each row: the loss of its answer, beside the base model's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from training.data import prompt_completion
from workbench.records import Example
from workbench.values import Frozen

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OUTLIER = 3.5
"""Modified z-score above which a loss is far from the others'."""
_MAD_TO_SD = 0.6745


class RowLoss(Frozen):
    """One row's loss, in nats a token of its answer, end of turn included."""

    id: str
    tokens: int
    tuned: float
    """Under the adapter."""
    base: float
    """Of the base model alone."""


class _Encoded(NamedTuple):
    ids: list[int]
    start: int
    """Where the answer begins."""


def row_losses(
    model: Path,
    adapter: Path,
    rows: Sequence[Example],
    *,
    max_length: int | None = None,
    batch_size: int = 8,
) -> list[RowLoss]:
    """Return the loss of every row's answer in the model's chat template, in the order of rows.

    What is beyond ``max_length`` tokens of a row is cut, as in training; a row that keeps nothing
    of its answer is left out.
    """
    from training.device import quiet
    from workbench.inference.adapters import AdaptedModel

    with quiet():  # its libraries speak when they are imported
        adapted = AdaptedModel(model, [adapter])
        encoded = {row.id: _encode(adapted.tokenizer, row, max_length) for row in rows}
        answered = {name: one for name, one in encoded.items() if len(one.ids) > one.start}
        tuned, base = (
            dict(_losses(adapted.use(which), adapted.tokenizer, answered, batch_size))
            for which in (adapter, None)
        )
    return [
        RowLoss(id=name, tokens=len(one.ids) - one.start, tuned=tuned[name], base=base[name])
        for name, one in answered.items()
    ]


def _encode(tokenizer: PreTrainedTokenizerBase, row: Example, max_length: int | None) -> _Encoded:
    parts = prompt_completion(row)
    prompt, whole = (
        tokenizer.apply_chat_template(
            messages, add_generation_prompt=asks, tokenize=True, return_dict=True
        )["input_ids"]
        for messages, asks in (
            (parts["prompt"], True),
            (parts["prompt"] + parts["completion"], False),
        )
    )
    return _Encoded(list(whole)[:max_length], len(prompt))


def _losses(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: dict[str, _Encoded],
    batch_size: int,
) -> Iterator[tuple[str, float]]:
    """Yield (id, mean loss of the answer's tokens), the longest rows first."""
    import torch
    from torch.nn.functional import cross_entropy

    order = sorted(rows, key=lambda name: -len(rows[name].ids))
    for first in range(0, len(order), batch_size):
        names = order[first : first + batch_size]
        batch = tokenizer.pad(
            {"input_ids": [rows[name].ids for name in names]},
            padding=True,
            padding_side="right",
            return_tensors="pt",
        ).to(model.device)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for place, name in enumerate(names):
            labels[place, : rows[name].start] = -100
        with torch.inference_mode():
            logits = model(**batch).logits
        # One row at a time in float32: the vocabulary is large.
        for place, name in enumerate(names):
            loss = cross_entropy(logits[place, :-1].float(), labels[place, 1:])
            yield name, float(loss)


def unlearned(losses: Sequence[RowLoss]) -> list[RowLoss]:
    """Return the rows whose loss stands far above the others', the highest first.

    Far is a modified z-score above 3.5, the distance to the median over the median distance to it
    (Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers", ASQC). Rows that the base model
    already finds easier than the adapter does are far as well: training made them less likely.
    """
    import numpy as np

    if not losses:
        return []
    values = np.array([one.tuned for one in losses])
    median = float(np.median(values))
    spread = float(np.median(np.abs(values - median)))
    far = [
        one
        for one in losses
        if one.tuned > one.base
        or (spread > 0 and _MAD_TO_SD * (one.tuned - median) / spread > OUTLIER)
    ]
    return sorted(far, key=lambda one: -one.tuned)
