"""From records to what TRL's trainers take, with what a row loses on the way said aloud."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import UserError
from workbench.progress import console
from workbench.records import Example, Preference, as_messages
from workbench.store import read_records

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of one split in TRL's conversational format."""

    path: Path
    rows: tuple[Row, ...]
    cut: int = 0
    """Rows that are longer than ``max_length`` and lose their end."""

    def dataset(self) -> Dataset:
        """Return the rows as a dataset of the ``datasets`` library."""
        from datasets import Dataset

        return Dataset.from_list(list(self.rows))


def prompt_completion(example: Example) -> Row:
    """Return TRL's prompt-completion row: the loss is on the completion alone."""
    return {"prompt": as_messages(example.prompt), "completion": [_assistant(example.answer)]}


def prompt_pair(pair: Preference) -> Row:
    """Return TRL's preference row with an explicit prompt."""
    return {
        "prompt": as_messages(pair.prompt),
        "chosen": [_assistant(pair.chosen)],
        "rejected": [_assistant(pair.rejected)],
    }


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read_examples(path: Path) -> Rows:
    """Return the rows of a file of examples.

    Raises:
        UserError: Unreadable file, a line that is no example, or no rows at all.
    """
    return _some(path, tuple(prompt_completion(row) for row in read_records(path, Example)))


def read_preferences(path: Path) -> Rows:
    """Return the rows of a file of preference pairs.

    Raises:
        UserError: Unreadable file, a line that is no pair, or no rows at all.
    """
    return _some(path, tuple(prompt_pair(row) for row in read_records(path, Preference)))


def _some(path: Path, rows: tuple[Row, ...]) -> Rows:
    if not rows:
        raise UserError(
            "has no rows to train on",
            where=str(path),
            fix="look at what the review and the split left over",
        )
    return Rows(path, rows)


def fit(rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> Rows:
    """Return the rows that keep a part of their answer in ``max_length`` tokens, and count the cut.

    A cut row loses its end-of-turn token, so that it teaches the model not to stop: it is told.

    Raises:
        UserError: No row keeps any of its answer.
    """
    if max_length is None:
        return rows
    kept = tuple(r for r in rows.rows if _tokens(tokenizer, r["prompt"], True) < max_length)
    if not kept:
        raise UserError(
            f"every prompt fills max_length ({max_length} tokens), so no answer is left to learn",
            where=str(rows.path),
            fix="raise max_length in the recipe",
        )
    cut = sum(_longest(tokenizer, row) > max_length for row in kept)
    if lost := len(rows.rows) - len(kept):
        console.print(
            f"  {rows.path.name}: {lost} of {len(rows.rows)} rows left out, their prompt alone"
            f" fills max_length ({max_length} tokens)"
        )
    if cut:
        console.print(
            f"  {rows.path.name}: {cut} of {len(kept)} rows are longer than max_length"
            f" ({max_length} tokens) and lose their end; raise max_length to keep it"
        )
    return Rows(rows.path, kept, cut)


def _longest(tokenizer: PreTrainedTokenizerBase, row: Row) -> int:
    answers = [row[key] for key in ("completion", "chosen", "rejected") if key in row]
    return max(_tokens(tokenizer, row["prompt"] + answer, False) for answer in answers)


def _tokens(tokenizer: PreTrainedTokenizerBase, messages: list[Row], ask: bool) -> int:
    encoded = tokenizer.apply_chat_template(
        messages, add_generation_prompt=ask, tokenize=True, return_dict=True
    )
    return len(encoded["input_ids"])
