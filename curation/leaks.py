"""Related rows in two splits: in any JSONL files, also ones not made here.

Files and the split of each come in from ``persona split --check`` and, as the persona's probes,
from the split stage; every pair of rows that leaks comes out with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeGuard

from curation.related_rows import SIMILARITY, questions, record_ids
from workbench.console import console
from workbench.errors import UserError, UserErrors, nearest
from workbench.near_duplicates import paraphrase_pairs
from workbench.paraphrases import Meaning
from workbench.records import SplitName
from workbench.row_files import row_files

NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "eval", "evaluation", "heldout", "holdout", "probe"), "test"),
}
"""Words of a file's name → its split."""
ASKS_THE_SAME = "asks the same in other words"
"""Why two rows leak whose questions the embedder finds alike."""
MOST_ERRORS = 20
"""Mistakes of one file that are listed."""
_USERS = ("user", "human")
_CONVERSATIONS = ("prompt", "messages", "conversations", "conversation", "chosen")
_TEXTS = ("question", "query", "problem", "text")


@dataclass(frozen=True)
class Item:
    """One row of a file, as far as it may be related to others."""

    where: str
    """File and 1-based line."""
    split: SplitName
    questions: tuple[str, ...]
    """The texts by which it is compared, the whole first."""
    ids: tuple[str, ...] = ()
    """Ids of examples and pairs that it is or comes from; its own first."""
    topic: str = ""


@dataclass(frozen=True)
class Leak:
    """Two related rows in two splits."""

    one: Item
    other: Item
    why: str
    similarity: float
    """Of the two questions; 1.0 where something else relates them."""


def split_of(path: Path) -> SplitName:
    """Return the split that a file's name, else its folder's, speaks of.

    Raises:
        UserError: It speaks of none, or of two at once.
    """
    for name in (path.stem, path.absolute().parent.name):
        words = "".join(c if c.isalnum() else " " for c in name.casefold()).split()
        splits = {NAMES[word] for word in words if word in NAMES}
        if len(splits) == 1:
            return splits.pop()
        if splits:
            break
    raise UserError(
        "its name does not say which split it is",
        where=str(path),
        fix=f"say it with --split train={path} (or validation=, test=)",
    )


def named_split(name: str) -> SplitName:
    """Return the split that a word means.

    Raises:
        UserError: It means none.
    """
    if name.casefold() not in NAMES:
        fix = nearest(name, NAMES) or "one of train, validation, test"
        raise UserError(f"there is no split '{name}'", where="--split", fix=fix)
    return NAMES[name.casefold()]


def read_items(path: Path, split: SplitName) -> Iterator[Item]:
    """Yield the rows of a file of any format that can be imported, and of any common shape.

    Alpaca (``instruction``, ``input``), chats (``messages`` or ``conversations``, with ``role`` or
    ``from``), preferences and GRPO prompts (``prompt`` as text or turns; ``chosen`` and
    ``rejected`` with the prompt inside), ``question``, or ``text``; and the records of a round.

    Raises:
        UserErrors: Lines in which no question can be found, up to :data:`MOST_ERRORS`.
    """
    for reading, rows in row_files(path):
        for place, data in rows:
            where = f"{reading.path}:{place}"
            texts = questions(_user_turns(data))
            if not texts:
                keys = ", ".join(f"'{key}'" for key in list(data)[:5]) or "no keys"
                fix = "give instruction, prompt, messages or question"
                reading.mistake(place, f"no question is found in it, only {keys}", fix)
            if len(reading.mistakes) >= MOST_ERRORS:
                break
            parents = data.get("parents")
            named = (data.get("id"), data.get("prompt_id"), *(parents if _is_list(parents) else ()))
            yield Item(where, split, texts, tuple(record_ids(named)), str(data.get("topic") or ""))
        if reading.mistakes:
            raise UserErrors(mistake.error(reading.path) for mistake in reading.mistakes)
        for note in reading.notes():
            console.print(f"  {reading.path.name}: {note}", markup=False)


def _user_turns(data: Mapping[str, Any]) -> list[str]:
    """Return what the user says in a row, turn by turn; nothing where no shape fits."""
    for key in _CONVERSATIONS:
        value = data.get(key)
        if key == "prompt" and isinstance(value, str):
            return [value]
        if _is_list(value) and (turns := [t for turn in value if (t := _user_text(turn))]):
            return turns
    if isinstance(data.get("instruction"), str):
        context = data.get("input") or data.get("context") or ""
        return ["\n\n".join(part for part in (data["instruction"], str(context)) if part.strip())]
    return next(([data[key]] for key in _TEXTS if isinstance(data.get(key), str)), [])


def _user_text(turn: object) -> str:
    if not isinstance(turn, dict) or turn.get("role", turn.get("from")) not in _USERS:
        return ""
    content = turn.get("content", turn.get("value"))
    if _is_list(content):  # parts of a turn with images
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def find_leaks(
    items: Sequence[Item],
    *,
    similarity: float = SIMILARITY,
    topics: bool = False,
    meaning: Meaning | None = None,
) -> list[Leak]:
    """Return the related rows in two splits, each pair once, in the order of files.

    Related are rows that are the same record, of which one was made from the other or both from a
    third, and rows whose questions are the same, ``similarity`` alike by their shingles or by the
    beginnings of their words, or ask the same in other words. Where many rows share one thing, each
    row of the smaller split stands beside one row of the larger.

    Args:
        items: The rows of all splits.
        similarity: Jaccard similarity from which two questions are alike, above 0 to 1.
        topics: Rows of one topic are related as well.
        meaning: How questions are compared by meaning; by wording alone without it.
    """
    leaks: dict[tuple[int, int], Leak] = {}

    def add(left: Iterable[int], right: Iterable[int], why: str, alike: float) -> None:
        for one, other in _beside(list(left), list(right)):
            pair = (min(one, other), max(one, other))
            first, second = (items[index] for index in pair)
            leaks.setdefault(pair, Leak(first, second, why or _by_id(first, second), alike))

    for why, shared in _shared(items, topics):
        for splits in shared.values():
            for left, right in combinations(splits.values(), 2):
                add(left, right, why, 1.0)
        if why == "same question":
            for how, one, other, alike in _reworded(shared, similarity, meaning):
                for split, left in shared[one].items():
                    for its, right in shared[other].items():
                        if split != its:
                            add(left, right, how, alike)
    return [leak for _, leak in sorted(leaks.items())]


Shared = dict[str, dict[SplitName, list[int]]]
"""What rows may share → split → their indexes."""


def _shared(items: Sequence[Item], topics: bool) -> Iterator[tuple[str, Shared]]:
    """Yield what relates rows, strongest first; where the reason is empty, their ids name it."""
    kinds: list[tuple[str, Callable[[Item], tuple[str, ...]]]] = [
        ("", lambda item: item.ids),
        ("same question", lambda item: item.questions),
    ]
    if topics:
        kinds.append(("same topic", lambda item: (item.topic,) if item.topic else ()))
    for why, names in kinds:
        shared: Shared = defaultdict(lambda: defaultdict(list))
        for index, item in enumerate(items):
            for name in names(item):
                shared[name][item.split].append(index)
        yield why, shared


def _reworded(
    shared: Shared, similarity: float, meaning: Meaning | None
) -> Iterator[tuple[str, str, str, float]]:
    """Yield (why, one, other, likeness) of questions of two splits that ask the same."""
    texts = list(shared)
    # Texts that stand in one and the same split alone have nothing to leak to each other.
    alone = [min(shared[text]) if len(shared[text]) == 1 else "" for text in texts]
    for one, other, alike in paraphrase_pairs(texts, similarity, alone):
        yield "question nearly the same", texts[one], texts[other], alike
    for one, other, alike in meaning.pairs(texts, alone) if meaning else ():
        yield ASKS_THE_SAME, texts[one], texts[other], alike


def _beside(left: list[int], right: list[int]) -> Iterator[tuple[int, int]]:
    few, many = sorted((left, right), key=len)
    yield from ((index, many[0]) for index in few)


def _by_id(one: Item, other: Item) -> str:
    if one.ids[0] == other.ids[0]:
        return "same row"
    if one.ids[0] in other.ids or other.ids[0] in one.ids:
        return "one made from the other"
    return "made from the same row"
