"""Rows on two sides that ought to be on one: in any JSONL files, also ones not made here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeGuard

from curation.related_rows import SIMILARITY, questions, record_ids
from workbench.errors import UserError, UserErrors, nearest
from workbench.near_duplicates import sibling_pairs
from workbench.records import SplitName
from workbench.store import read_json_lines

NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "eval", "evaluation", "heldout", "holdout", "probe"), "test"),
}
"""Words of a file's name → its side."""
MOST_ERRORS = 20
"""Mistakes that are told of one file."""
_USERS = ("user", "human")
_CONVERSATIONS = ("prompt", "messages", "conversations", "conversation", "chosen")
_TEXTS = ("question", "query", "problem", "text")


@dataclass(frozen=True)
class Item:
    """One row of a file, as far as kinship goes."""

    where: str
    """File and 1-based line."""
    side: SplitName
    questions: tuple[str, ...]
    """The texts by which it is compared, the whole first."""
    ids: tuple[str, ...] = ()
    """Ids of examples and pairs that it is or comes from; its own first."""
    topic: str = ""


@dataclass(frozen=True)
class Leak:
    """Two rows that are kin and on two sides."""

    one: Item
    other: Item
    why: str
    similarity: float
    """Of the two questions; 1.0 where something else makes them kin."""


def side_of(path: Path) -> SplitName:
    """Return the side that a file's name, else its folder's, speaks of.

    Raises:
        UserError: It speaks of none, or of two at once.
    """
    for name in (path.stem, path.absolute().parent.name):
        words = "".join(c if c.isalnum() else " " for c in name.casefold()).split()
        found = {NAMES[word] for word in words if word in NAMES}
        if len(found) == 1:
            return found.pop()
        if found:
            break
    raise UserError(
        "its name does not say which side it is on",
        where=str(path),
        fix=f"say it with --side train={path} (or validation=, test=)",
    )


def named_side(name: str) -> SplitName:
    """Return the side that a word means.

    Raises:
        UserError: It means none.
    """
    if name.casefold() not in NAMES:
        fix = nearest(name, NAMES) or "one of train, validation, test"
        raise UserError(f"there is no side '{name}'", where="--side", fix=fix)
    return NAMES[name.casefold()]


def read_items(path: Path, side: SplitName) -> Iterator[Item]:
    """Yield the rows of a JSONL file of any common shape.

    Alpaca (``instruction``, ``input``), chats (``messages`` or ``conversations``, with ``role`` or
    ``from``), preferences and GRPO prompts (``prompt`` as text or turns; ``chosen`` and
    ``rejected`` with the prompt inside), ``question``, or ``text``; and the records of a round.

    Raises:
        UserErrors: Lines in which no question can be found, up to :data:`MOST_ERRORS`.
    """
    mistakes: list[UserError] = []
    for number, data in read_json_lines(path, mistakes=mistakes):
        where = f"{path}:{number}"
        asked = questions(_user_turns(data))
        if not asked:
            keys = ", ".join(f"'{key}'" for key in list(data)[:5]) or "no keys"
            mistakes.append(
                UserError(
                    f"no question is found in it, only {keys}",
                    where=where,
                    fix="give instruction, prompt, messages or question",
                )
            )
        if len(mistakes) >= MOST_ERRORS:
            break
        parents = data.get("parents")
        named = (data.get("id"), data.get("prompt_id"), *(parents if _is_list(parents) else ()))
        yield Item(where, side, asked, tuple(record_ids(named)), str(data.get("topic") or ""))
    if mistakes:
        raise UserErrors(mistakes)


def _user_turns(data: Mapping[str, Any]) -> list[str]:
    """Return what the user says in a row, turn by turn; nothing where no shape fits."""
    for key in _CONVERSATIONS:
        value = data.get(key)
        if key == "prompt" and isinstance(value, str):
            return [value]
        if _is_list(value) and (turns := [t for turn in value if (t := _said_by_user(turn))]):
            return turns
    if isinstance(data.get("instruction"), str):
        context = data.get("input") or data.get("context") or ""
        return ["\n\n".join(part for part in (data["instruction"], str(context)) if part.strip())]
    return next(([data[key]] for key in _TEXTS if isinstance(data.get(key), str)), [])


def _said_by_user(turn: object) -> str:
    if not isinstance(turn, dict) or turn.get("role", turn.get("from")) not in _USERS:
        return ""
    said = turn.get("content", turn.get("value"))
    if _is_list(said):  # parts of a turn with images
        parts = [part.get("text") for part in said if isinstance(part, dict)]
        return "\n".join(part for part in parts if isinstance(part, str))
    return said if isinstance(said, str) else ""


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def find_leaks(
    items: Sequence[Item], *, similarity: float = SIMILARITY, topics: bool = False
) -> list[Leak]:
    """Return the pairs of rows on two sides that are kin, each pair once, in the order of files.

    Kin are rows that are the same record, of which one was made from the other or both from a
    third, and rows whose questions are the same, or ``similarity`` alike by their shingles or by
    the beginnings of their words. Where many rows share one thing, each row of the smaller side
    stands beside one row of the larger.

    Args:
        items: The rows of all sides.
        similarity: Jaccard similarity from which two questions are siblings, above 0 to 1.
        topics: Rows of one topic are kin as well.
    """
    leaks: dict[tuple[int, int], Leak] = {}

    def add(left: Iterable[int], right: Iterable[int], why: str, alike: float) -> None:
        for one, other in _beside(list(left), list(right)):
            pair = (min(one, other), max(one, other))
            first, second = (items[index] for index in pair)
            leaks.setdefault(pair, Leak(first, second, why or _by_id(first, second), alike))

    for why, shared in _shared(items, topics):
        for sides in shared.values():
            for left, right in combinations(sides.values(), 2):
                add(left, right, why, 1.0)
        if why == "same question":
            for one, other, alike in _siblings(shared, similarity):
                for side, left in shared[one].items():
                    for its, right in shared[other].items():
                        if side != its:
                            add(left, right, "question nearly the same", alike)
    return [leak for _, leak in sorted(leaks.items())]


Shared = dict[str, dict[SplitName, list[int]]]
"""What rows may share → side → their indexes."""


def _shared(items: Sequence[Item], topics: bool) -> Iterator[tuple[str, Shared]]:
    """Yield what makes rows kin, strongest first; the empty reason is told by the rows' ids."""
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
                shared[name][item.side].append(index)
        yield why, shared


def _siblings(shared: Shared, similarity: float) -> list[tuple[str, str, float]]:
    texts = list(shared)
    # Texts that stand on one and the same side alone have nothing to leak to each other.
    alone = [min(shared[text]) if len(shared[text]) == 1 else text for text in texts]
    pairs = sibling_pairs(texts, similarity, alone)
    return [(texts[one], texts[other], alike) for one, other, alike in pairs]


def _beside(left: list[int], right: list[int]) -> Iterator[tuple[int, int]]:
    few, many = sorted((left, right), key=len)
    yield from ((index, many[0]) for index in few)


def _by_id(one: Item, other: Item) -> str:
    if one.ids[0] == other.ids[0]:
        return "same row"
    if one.ids[0] in other.ids or other.ids[0] in one.ids:
        return "one made from the other"
    return "made from the same row"
