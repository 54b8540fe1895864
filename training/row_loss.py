"""How well an adapter knows each row: the loss of its answer, beside the base model's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.data import prompt_completion
from training.tokens import encode
from workbench.inference.likelihood import log_likelihoods
from workbench.records import Example
from workbench.values import Frozen

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
        encoded = {
            row.id: encode(adapted.tokenizer, row.id, prompt_completion(row), max_length)[0]
            for row in rows
        }
        answered = [one for one in encoded.values() if one.trained]
        texts = [(one.ids, one.start) for one in answered]
        tuned, base = (
            log_likelihoods(adapted.use(which), texts, batch_size=batch_size)
            for which in (adapter, None)
        )
    return [
        RowLoss(id=one.name, tokens=count, tuned=-own / count, base=-plain / count)
        for one, (own, count), (plain, _) in zip(answered, tuned, base, strict=True)
    ]


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
