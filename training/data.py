"""From records to what TRL's trainers take, with what a row loses on the way said aloud.

In: a file of rows. Out: :class:`Rows` in TRL's formats. ``training/methods.py`` says which reader
is for what; ``rounds/stages/train.py`` draws the rows of a run that goes on from an earlier round.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from workbench.errors import UserError
from workbench.records import (
    Example,
    Preference,
    Record,
    UnpairedPreference,
    as_messages,
    user_prompt,
)
from workbench.store import read_json_lines, read_records
from workbench.yamlfile import read_text

if TYPE_CHECKING:
    from datasets import Dataset

Row = dict[str, Any]


NAME = "name"
"""Key of what a reader calls a row: its id where the file has one, else its line."""
REVIEWED = "reviewed"
"""Column of GRPO's rows: the reviewed answer, which TRL hands to the rewards."""


@dataclass(frozen=True)
class Rows:
    """Rows of one split in TRL's conversational format."""

    path: Path
    rows: tuple[Row, ...]
    names: tuple[str, ...]
    """What each row is called: its id where the file has one, else its line."""
    cut: int = 0
    """Rows that are longer than ``max_length`` and lose their end."""
    left_out: int = 0
    """Rows of the file that teach nothing."""

    def dataset(self) -> Dataset:
        """Return the rows as a dataset of the ``datasets`` library."""
        from datasets import Dataset, Image, List

        rows = Dataset.from_list(list(self.rows))
        # Files are opened and decoded when a batch is made, not all at once.
        return rows.cast_column("images", List(Image())) if "images" in self.rows[0] else rows


def prompt_completion(example: Example) -> Row:
    """Return TRL's prompt-completion row: the loss is on the completion alone."""
    return {"prompt": as_messages(example.prompt), "completion": [_assistant(example.answer)]}


def every_answer(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield a row for each answer of prompt-completion rows, with all that went before as prompt.

    What the loss is then on is what TRL's ``assistant_only_loss`` masks where a chat template marks
    answers with ``{% generation %}``, which few published ones do; here it holds for any template,
    and an answer is learnt behind the history as it is asked, such as without earlier thinking.
    Conversations that begin alike give their common answers once.
    """
    seen: set[str] = set()
    for row in rows:
        turns = [*row["prompt"], *row["completion"]]
        answers = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
        for number, at in enumerate(answers, 1):
            key = json.dumps(turns[: at + 1], ensure_ascii=False)
            if key not in seen:
                seen.add(key)
                name = row[NAME] if number == len(answers) else f"{row[NAME]} answer {number}"
                yield {**row, "prompt": turns[:at], "completion": [turns[at]], NAME: name}


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def read_examples(path: Path) -> Iterator[Row]:
    """Yield the rows of a file of examples."""
    return ({**prompt_completion(row), NAME: row.id} for row in read_records(path, Example))


def read_preferences(path: Path) -> Iterator[Row]:
    """Yield TRL's preference rows, with an explicit prompt, of a file of preference pairs."""
    for pair in read_records(path, Preference):
        yield {
            "prompt": as_messages(pair.prompt),
            "chosen": [_assistant(pair.chosen)],
            "rejected": [_assistant(pair.rejected)],
            NAME: pair.id,
        }


def read_prompts(path: Path) -> Iterator[Row]:
    """Yield the prompts of a file of examples; their answers go to the rewards alone."""
    return (
        {"prompt": as_messages(row.prompt), REVIEWED: row.answer, NAME: row.id}
        for row in read_records(path, Example)
    )


def read_demonstrations(path: Path) -> Iterator[Row]:
    """Yield the prompts of a file of examples; their answers are for the teacher alone."""
    return (
        {"prompt": as_messages(row.prompt), "privileged_context": row.answer, NAME: row.id}
        for row in read_records(path, Example)
    )


def read_unpaired(path: Path) -> Iterator[Row]:
    """Yield TRL's unpaired rows of a file of unpaired preferences.

    Raises:
        UserError: Answers of one kind alone.
    """
    labels = set()
    for row in read_records(path, UnpairedPreference):
        labels.add(row.label)
        yield {
            "prompt": as_messages(row.prompt),
            "completion": [_assistant(row.answer)],
            "label": row.label,
            NAME: row.id,
        }
    if len(labels) == 1:
        kind, more = (
            ("desirable", "that were turned down") if labels.pop() else ("undesirable", "to learn")
        )
        raise UserError(
            f"holds {kind} answers alone, and KTO learns from the difference",
            where=str(path),
            fix=f"add answers {more}",
        )


def read_instructions(path: Path) -> Iterator[Row]:
    """Yield prompt-completion rows of Alpaca's ``{instruction, input, output}``.

    Raises:
        UserError: A row without instruction or output.
    """
    for where, row in _rows_with(path, "instruction", "output"):
        more = row.get("input")  # often null, where others have an empty text
        prompt = user_prompt(
            row["instruction"], "" if more is None else _text_of(more, where, "input")
        )
        completion = [_assistant(row["output"])]
        yield {"prompt": as_messages(prompt), "completion": completion, NAME: _name(where, row)}


def read_texts(path: Path) -> Iterator[Row]:
    """Yield rows of raw text: ``{"text": ...}`` a line, or the paragraphs of a ``.txt`` file.

    Raises:
        UserError: A row without text.
    """
    if path.suffix == ".txt":
        # Lines may end as on Windows, and an empty one may hold spaces.
        text = read_text(path).replace("\r\n", "\n")
        parts = (part.strip() for part in re.split(r"\n\s*\n", text))
        yield from ({"text": part} for part in parts if part)
    else:
        for where, row in _rows_with(path, "text"):
            yield {"text": row["text"], NAME: _name(where, row)}


def read_images(path: Path) -> Iterator[Row]:
    """Yield prompt-completion rows with an ``images`` list; TRL puts them into the first turn.

    Raises:
        UserError: A row without images, or with one that is not there.
    """
    for number, example in enumerate(read_records(path, Example), 1):
        where = f"{path}:{number}"
        if not example.images:
            raise UserError(
                "has no images, and the recipe's data are images",
                where=where,
                fix="name files under 'images', or train with data: chat",
            )
        files = [path.parent / name for name in example.images]
        if missing := next((file for file in files if not file.is_file()), None):
            raise UserError(
                f"names {missing.name}, which is not there",
                where=where,
                fix="put the image beside the file of rows",
            )
        images = [str(file) for file in files]
        yield {**prompt_completion(example), "images": images, NAME: example.id}


def _name(where: str, row: Row) -> str:
    return str(row.get("id") or f"line {where.rpartition(':')[2]}")


def _rows_with(path: Path, *needed: str) -> Iterator[tuple[str, Row]]:
    """Yield the objects of a JSONL file with their places; each holds text under every name."""
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        for name in needed:
            if not _text_of(row.get(name), where, name).strip():
                raise UserError(f"'{name}' is empty", where=where, fix="drop the row")
        yield where, row


def _text_of(value: object, where: str, name: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"has no text under '{name}'", where=where, fix="see the recipe's 'data'")
    return value


def load_processor(folder: Path) -> Any:
    """Return the model's processor of text and images.

    Raises:
        UserError: The model reads no images, or has no chat template.
    """
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    if getattr(processor, "image_processor", None) is None:
        raise UserError(
            "the base model reads no images",
            where=str(folder),
            fix="use a vision model, or a recipe without data: images",
        )
    if processor.chat_template is None:
        raise UserError(
            "the base model has no chat template",
            where=str(folder),
            fix="use an instruct model, or add chat_template.jinja to the folder",
        )
    return processor


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class ReplayedRows(Generic[R]):
    """The rows of a run that goes on from an earlier round."""

    rows: list[R]
    """New and replayed ones, in the order in which they came."""
    new: int
    replayed: int
    earlier: int
    """Rows that the adapter was trained on already; the replayed ones are among them."""


def draw_replay(
    rows: Sequence[R], known: Collection[str], share: float, seed: int
) -> ReplayedRows[R]:
    """Return the rows to train on: all new ones, and a share of those known already.

    Which are replayed depends on the seed and their ids alone, not on the order of the file.
    ``known`` are ids of rows that the adapter was trained on; those that ``rows`` does not have any
    more nobody replays. A ``share`` above 0 replays at least one.
    """
    earlier = [row.id for row in rows if row.id in known]
    order = sorted(earlier, key=lambda one: hashlib.sha256(f"{seed}:{one}".encode()).hexdigest())
    # 0.07 of 100 rows is 7.000000000000001 in floating point: not eight.
    again = set(order[: math.ceil(round(share * len(earlier), 9))])
    taken = [row for row in rows if row.id not in known or row.id in again]
    return ReplayedRows(taken, len(taken) - len(again), len(again), len(earlier))
