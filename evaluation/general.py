"""General ability of a loaded model: cross-entropy on plain text, and small questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workbench.errors import UserError
from workbench.store import existing, read_json_lines

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS = "texts.jsonl"
QUESTIONS = "questions.jsonl"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlainText(_Record):
    """A short paragraph of plain text."""

    id: str = Field(min_length=1)
    language: str
    text: str = Field(min_length=1)


class Choice(_Record):
    """A question with its possible answers."""

    id: str = Field(min_length=1)
    language: str
    question: str = Field(min_length=1)
    choices: tuple[str, ...] = Field(min_length=2)
    answer: int = Field(ge=0)
    """Index of the right one."""

    @model_validator(mode="after")
    def _among(self) -> Choice:
        if self.answer >= len(self.choices):
            raise ValueError("answer: there is no such choice")
        return self


R = TypeVar("R", PlainText, Choice)


class GeneralSet(_Record):
    """What general ability is measured on."""

    texts: tuple[PlainText, ...]
    questions: tuple[Choice, ...]


class General(_Record):
    """What was measured of one arm."""

    cross_entropy: float
    """Mean over all tokens of all texts, in nats."""
    perplexity: float
    tokens: int
    by_text: dict[str, float]
    """Text → its own mean, in nats a token."""
    accuracy: float
    """Share of the questions whose right answer is the likeliest one."""
    by_question: dict[str, bool]


def load_general(folder: Path, language: str) -> GeneralSet:
    """Return the general texts and questions of a persona's language.

    Args:
        folder: Holds ``texts.jsonl`` and ``questions.jsonl``; a relative one that is not in the
            working folder is looked for beside the package.
        language: ``en`` or ``ko``; rows of other languages are left out.

    Raises:
        UserError: A file is missing or has a broken line, or has no row of the language.
    """
    folder = general_folder(folder)
    data = GeneralSet(
        texts=tuple(t for t in _rows(folder / TEXTS, PlainText) if t.language == language),
        questions=tuple(q for q in _rows(folder / QUESTIONS, Choice) if q.language == language),
    )
    if not data.texts or not data.questions:
        raise UserError(
            f"no general texts or questions in '{language}'",
            where=str(folder),
            fix="add some, or set evaluate.general to a folder that has them",
        )
    return data


def general_folder(folder: Path) -> Path:
    """Return where the general texts lie: a relative folder may lie beside the package."""
    if folder.is_absolute() or folder.is_dir():
        return folder
    return Path(__file__).resolve().parents[1] / folder


def _rows(file: Path, model: type[R]) -> list[R]:
    rows = []
    for number, data in read_json_lines(existing(file)):
        try:
            rows.append(model.model_validate(data))
        except ValidationError as error:
            raise UserError(
                error.errors()[0]["msg"], where=f"{file}:{number}", fix="mend the row"
            ) from None
    return rows


def measure_general(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: GeneralSet,
    *,
    batch_size: int = 16,
) -> General:
    """Return the general ability of a model as it is loaded, adapters on or off.

    Questions are put as plain text, "Question: … Answer: …", and the answer taken is the choice
    of the highest mean log-likelihood a token (``acc_norm`` of the usual harnesses divides by
    bytes; both keep long choices from losing by their length).

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        data: Of :func:`load_general`.
        batch_size: Sequences scored at once.
    """
    texts = [("", text.text) for text in data.texts]
    asked = [
        (ASKED[q.language].format(q.question), f" {c}") for q in data.questions for c in q.choices
    ]
    likely = log_likelihoods(model, tokenizer, [*texts, *asked], batch_size=batch_size)
    of_texts, of_choices = likely[: len(texts)], iter(likely[len(texts) :])
    right = {}
    for question in data.questions:
        means = [total / count for total, count in (next(of_choices) for _ in question.choices)]
        right[question.id] = max(range(len(means)), key=means.__getitem__) == question.answer
    tokens = sum(count for _, count in of_texts)
    entropy = -sum(total for total, _ in of_texts) / tokens
    return General(
        cross_entropy=entropy,
        perplexity=math.exp(entropy),
        tokens=tokens,
        by_text={t.id: -s / n for t, (s, n) in zip(data.texts, of_texts, strict=True)},
        accuracy=sum(right.values()) / len(right),
        by_question=right,
    )


ASKED = {"en": "Question: {}\nAnswer:", "ko": "질문: {}\n답:"}
"""How a question is put, by language."""


def log_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    *,
    batch_size: int = 16,
) -> list[tuple[float, int]]:
    """Return for each (context, continuation) the log-likelihood of the continuation's tokens.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        pairs: Where there is no context, the text's first token is the context.
        batch_size: Sequences at once, the longest first; padded on the right.

    Returns:
        (sum in nats, tokens counted), in the order of ``pairs``.
    """
    import torch

    ids, starts = [], []
    for context, continuation in pairs:
        before = tokenizer(context, add_special_tokens=False)["input_ids"]
        after = tokenizer(continuation, add_special_tokens=False)["input_ids"]
        ids.append([*before, *after])
        starts.append(max(1, len(before)))
    sums: dict[int, tuple[float, int]] = {}
    order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        width = len(ids[batch[0]])
        tokens = torch.full((len(batch), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(tokens)
        for row, index in enumerate(batch):
            tokens[row, : len(ids[index])] = torch.tensor(ids[index])
            mask[row, : len(ids[index])] = 1
        with torch.inference_mode():
            output = model(input_ids=tokens.to(model.device), attention_mask=mask.to(model.device))
        for row, index in enumerate(batch):
            start, end = starts[index], len(ids[index])
            # Token t is foretold at t - 1; one row at a time in float32, the vocabulary is large.
            logits = output.logits[row, start - 1 : end - 1].float().cpu()
            own = logits.log_softmax(-1).gather(-1, tokens[row, start:end, None])
            sums[index] = (float(own.sum()), end - start)
    return [sums[index] for index in range(len(ids))]
