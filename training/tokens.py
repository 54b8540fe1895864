"""Rows as tokens: which of them are trained, which rows teach nothing, and how people see both.

In: rows in TRL's formats and the model's tokenizer. Out: the rows that training takes
(:func:`fit`, called by ``training/trainer.py``), or a :class:`TokenView` for
``persona train METHOD --show-tokens``. Tokens are those of TRL: the same template, the same cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.data import Row, Rows
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.engines.chats import alike, chat_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWERS = ("completion", "chosen", "rejected")
"""What of a row is an answer, in TRL's formats."""
_NAMED = 5
"""Rows of one kind that are named in a line."""


@dataclass(frozen=True)
class TokenRow:
    """One prompt with one answer, as training sees it."""

    name: str
    """The row's id, or its line; with what the answer is where there are two."""
    ids: tuple[int, ...]
    """Tokens, cut at ``max_length``."""
    start: int
    """The first trained token."""
    whole: int
    """Tokens before the cut."""
    asked: int = 0
    """Tokens of the prompt alone; more than ``start`` where its end melts into the answer."""

    @property
    def trained(self) -> int:
        """Number of trained tokens."""
        return max(len(self.ids) - self.start, 0)


@dataclass(frozen=True)
class TokenView:
    """Rows and their trained tokens, as text."""

    texts: dict[str, tuple[str, str]]
    """Row → the text that is read only, and the text that is trained."""
    trained: int
    """Trained tokens of all rows."""
    tokens: int
    """Tokens of all rows."""
    notes: tuple[str, ...]
    """What is told of rows that teach nothing, or less than they hold."""


def token_view(
    rows: Rows,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    *,
    count: int,
    whole_rows: bool = False,
) -> TokenView:
    """Return some rows of a file with their trained tokens, and the share of all rows.

    ``max_length`` None is no cut; with ``whole_rows`` prompts are trained as well
    (``completion_only_loss: false``).
    """
    fitting, notes = _sorted_out(rows, tokenizer, max_length)
    encoded = [
        one
        for name, row in zip(fitting.names, fitting.rows, strict=True)
        for one in encode(tokenizer, name, row, max_length)
    ]
    if whole_rows:
        encoded = [TokenRow(one.name, one.ids, 0, one.whole) for one in encoded]
    pairs = 2 if "chosen" in rows.rows[0] else 1
    texts = {
        one.name: (_text(tokenizer, one.ids[: one.start]), _text(tokenizer, one.ids[one.start :]))
        for one in encoded[: count * pairs]
    }
    trained, tokens = (sum(values) for values in zip(*_lengths(encoded), strict=True))
    return TokenView(texts, trained, tokens, tuple(notes))


def _lengths(rows: Sequence[TokenRow]) -> Iterator[tuple[int, int]]:
    yield 0, 0
    yield from ((row.trained, len(row.ids)) for row in rows)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def encode(
    tokenizer: PreTrainedTokenizerBase, name: str, row: Row, max_length: int | None = None
) -> list[TokenRow]:
    """Return a row as tokens, one for each of its answers; a row of raw text is trained whole."""
    if "text" in row:
        ids = [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]
        return [TokenRow(name, tuple(ids[:max_length]), 0, len(ids))]
    asked = chat_ids(tokenizer, row["prompt"], ask=True)
    answers = [key for key in ANSWERS if key in row]
    if not answers:
        return [TokenRow(name, tuple(asked[:max_length]), *[len(asked)] * 3)]
    encoded = []
    for key in answers:
        ids = chat_ids(tokenizer, row["prompt"] + row[key], ask=False)
        # Where they part, as TRL has it: the end of the prompt may melt into the answer.
        start = alike(asked, ids)
        label = f"{name} {key}" if len(answers) > 1 else name
        encoded.append(TokenRow(label, tuple(ids[:max_length]), start, len(ids), len(asked)))
    return encoded


def fit(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Rows:
    """Return the rows that teach something in ``max_length`` tokens, and tell of the others.

    Nothing is taught by a prompt that fills ``max_length``, by an empty answer, and by a pair whose
    answers are the same up to the cut. A cut row loses its end-of-turn token, so that it teaches
    the model not to stop: it is told. So is raw text that is cut. With ``max_length`` None none is
    cut, such as by packing that splits rows.

    Raises:
        UserError: No row teaches anything.
    """
    fitting, notes = _sorted_out(rows, tokenizer, max_length)
    if not fitting.rows:
        raise UserError(
            f"no row teaches anything: {'; '.join(notes)}",
            where=str(rows.path),
            fix="raise max_length in the recipe, or bring rows with answers",
        )
    for note in notes:
        console.print(f"  {rows.path.name}: {note}", markup=False)
    return fitting


def _sorted_out(
    rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> tuple[Rows, list[str]]:
    """Return the rows that teach something, and a line for each reason of the others."""
    left_out: dict[str, list[str]] = defaultdict(list)
    fitting, names, cut, melted = [], [], [], []
    for name, row in zip(rows.names, rows.rows, strict=True):
        encoded = encode(tokenizer, name, row)
        if reason := _lesson(row, encoded, max_length):
            left_out[reason].append(name)
            continue
        fitting.append(row)
        names.append(name)
        if max_length is not None and max(one.whole for one in encoded) > max_length:
            cut.append(name)
        if any(one.start < one.asked for one in encoded):
            melted.append(name)
    notes = [
        f"{len(those)} of {len(rows.rows)} rows left out, {reason}: {_named(those)}"
        for reason, those in left_out.items()
    ]
    if cut:
        notes.append(
            f"{len(cut)} of {len(fitting)} rows are longer than max_length ({max_length} tokens)"
            f" and lose their end; raise max_length to keep it: {_named(cut)}"
        )
    if melted:  # what TRL warns of as a prompt that is no prefix
        notes.append(
            f"in {len(melted)} of {len(fitting)} rows the answer melts into the token before it,"
            f" which is learnt with it and not asked for: {_named(melted)}"
        )
    lost = len(rows.rows) - len(names)
    return Rows(rows.path, tuple(fitting), tuple(names), len(cut), lost), notes


def _lesson(row: Row, encoded: Sequence[TokenRow], max_length: int | None) -> str:
    """Return why a row teaches nothing, or an empty string."""
    if max_length is not None and "prompt" in row and encoded[0].asked >= max_length:
        return f"their prompt alone fills max_length ({max_length} tokens)"
    answers = [row[key][-1]["content"] for key in ANSWERS if key in row]
    if any(not str(answer).strip() for answer in answers):
        return "their answer is empty"
    if "chosen" in row and encoded[0].ids[:max_length] == encoded[1].ids[:max_length]:
        return "both answers are the same tokens" + (
            "" if max_length is None else f" up to max_length ({max_length} tokens)"
        )
    return ""


def _named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def splits_rows(arguments: Any) -> bool:
    """Whether TRL's packing puts the end of a long row into another sequence, and drops none."""
    return bool(getattr(arguments, "packing", False)) and arguments.packing_strategy != "bfd"
