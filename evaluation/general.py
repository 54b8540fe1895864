"""How surprised a loaded model is by plain text that has nothing to do with the persona.

In: a model and the texts of ``datasets/general``. Out: its cross-entropy, text by text. The stage
of evaluation measures, the forgetting gate holds arms against the base, and sense takes the
likelihoods of answers from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from workbench.errors import UserError
from workbench.inference.likelihood import log_likelihoods
from workbench.language.packs import DATA, TEXTS, pack_file
from workbench.store import existing, packaged, read_models
from workbench.values import Frozen

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PlainText(Frozen):
    """A short paragraph of plain text."""

    id: str = Field(min_length=1)
    language: str
    text: str = Field(min_length=1)


class General(Frozen):
    """What was measured of one arm."""

    cross_entropy: float
    """Mean over all tokens of all texts, in nats."""
    perplexity: float
    tokens: int
    by_text: dict[str, float]
    """Text → its own mean, in nats a token."""


def texts_file(folder: Path, language: str) -> Path:
    """Return the file of a language's general texts: the folder's, or else the pack's own.

    A relative folder may lie beside the package.

    Raises:
        UserError: There is no such file.
        UserErrors: Every broken line of the folder's.
    """
    file = existing(packaged(folder) / TEXTS)
    packed = pack_file(language, f"{DATA}/{TEXTS}")
    return packed if packed.is_file() and not _texts(file, language) else file


def load_general(folder: Path, language: str) -> list[PlainText]:
    """Return the general texts of a persona's language.

    A relative folder that is not in the working folder is looked for beside the package.

    Raises:
        UserErrors: Every broken line.
        UserError: The file is missing, or has no row of the language.
    """
    texts = _texts(texts_file(folder, language), language)
    if not texts:
        raise UserError(
            f"no general text in '{language}'",
            where=str(packaged(folder)),
            fix="add some, or set evaluate.general to a folder that has them",
        )
    return texts


def _texts(file: Path, language: str) -> list[PlainText]:
    return [row for _, row in read_models(file, PlainText) if row.language == language]


def measure_general(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[PlainText],
    *,
    batch_size: int = 16,
) -> General:
    """Return the cross-entropy of a model as it is loaded, adapters on or off."""
    likely = text_likelihoods(model, tokenizer, [text.text for text in texts], batch_size)
    tokens = sum(count for _, count in likely)
    entropy = -sum(total for total, _ in likely) / tokens
    return General(
        cross_entropy=entropy,
        perplexity=math.exp(entropy),
        tokens=tokens,
        by_text={t.id: -s / n for t, (s, n) in zip(texts, likely, strict=True)},
    )


def text_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 16,
) -> list[tuple[float, int]]:
    """Return each text's log-likelihood in nats, and its tokens but the first, which is given."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return log_likelihoods(model, [(one, 1) for one in ids], batch_size=batch_size)
