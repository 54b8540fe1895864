"""The columns and cells in which rows come: which is which, and what a cell may hold.

In: the names of a file's columns and ``--map``. Out: the cells of a row by our names,
and the lists and transcripts that a cell holds as text.
:mod:`generation.row_shapes` makes rows of them.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import UserError, nearest
from workbench.records import Message, Messages, Role
from workbench.text import Changes, normalize, printable

FIELDS: dict[str, tuple[str, ...]] = {
    "question": ("instruction", "prompt", "question", "query", "problem"),
    "answer": ("output", "completion", "response", "answer", "reference_answer"),
    "context": ("input", "context"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "turns": ("messages", "conversations", "conversation"),
    "chosen": ("chosen", "preferred_output"),
    "rejected": ("rejected", "non_preferred_output"),
    "completions": ("completions",),
    "label": ("label", "kto_tag"),
    "images": ("images", "image"),
    "topic": ("topic",),
    "text": ("text",),
}
"""What a column holds → its names, in small letters."""
COLUMNS = {name: part for part, names in FIELDS.items() for name in names}
_MARK = re.compile(
    r"<\|im_start\|>(?P<chatml>system|user|assistant)\n"
    r"|<\|start_header_id\|>(?P<llama>system|user|assistant)<\|end_header_id\|>\s*"
    r"|<start_of_turn>(?P<gemma>user|model)\n"
    r"|(?:^|\n)<\|(?P<zephyr>system|user|assistant)\|>\s*"
    r"|### ?(?P<inline>Human|User|Assistant): "
    r"|(?:^|\n)\s*#{2,3} ?(?P<hash>Human|User|Instruction|Input|Assistant|Response|System):?"
    r"|(?:^|\n\n)(?P<plain>Human|User|Assistant|System): ",
)
_TOKEN = re.compile(
    r"<\|(?:im_end|endoftext|eot_id|end|begin_of_text|end_of_text)\|>|<end_of_turn>|</s>\s*(?=\Z)"
)
"""What ends a turn in such a text."""
ROLES: dict[str, Role] = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "chatbot"), "assistant"),
    **dict.fromkeys(("bing", "bard"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Who speaks a turn, in small letters."""
_SPEAKERS: dict[str, Role] = {
    **ROLES,
    **dict.fromkeys(("instruction", "input"), "user"),
    "response": "assistant",
}
LABELS = {
    **dict.fromkeys(("true", "1", "1.0", "+1", "yes", "y", "t", "good", "up", "👍"), True),
    **dict.fromkeys(("desirable", "chosen", "accepted", "positive", "like", "liked"), True),
    **dict.fromkeys(
        ("false", "0", "0.0", "-1", "-1.0", "no", "n", "f", "bad", "down", "👎"), False
    ),
    **dict.fromkeys(("undesirable", "rejected", "negative", "dislike", "disliked"), False),
}
"""What KTO's label says of an answer, in small letters."""
EMPTY: tuple[Any, ...] = (None, "", [])
"""What a cell holds that holds nothing."""
_RECORD = frozenset(("id", "parents", "kind", "origin", "source"))
"""Fields of our own records beside those."""
_TOOLS = ("tool", "function", "function_call", "function_response", "observation", "ipython")
OWN = re.compile(r"(?:ex|pf|up)-[0-9a-f]{16}")
"""Names of our own records."""


class BadRow(ValueError):
    """A row's mistakes in one phrase, what to do, and one word for why it is dropped."""

    def __init__(self, what: str, fix: str = "", reason: str = "wrong_shape") -> None:
        self.what, self.fix, self.reason = what, fix, reason
        super().__init__(what)


@dataclass
class Columns:
    """Which column is which, and what was seen of the columns of a file."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Our name → the file's; an empty one leaves ours out."""
    changes: Changes = field(default_factory=Changes)
    used: dict[str, str] = field(default_factory=dict)
    """The file's name → ours."""
    unknown: dict[str, None] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    """The file's name of a column of ours → rows whose shape has no place for what it holds."""
    seen: dict[str, None] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        """Names of columns in small letters, those that were mapped among them."""
        return frozenset(COLUMNS) | {name.casefold() for name in self.mapping.values()}

    def passed_over(self) -> list[str]:
        """Return the columns that no row was read from, with what they may have been meant for."""
        rest = [name for name in self.unknown if name not in self.used]
        spare = [n for n in COLUMNS if n not in self.used.values() and n not in self.unknown]
        hints = {name: nearest(name, spare) for name in rest}
        names = [f"'{name}'" + (f" ({hints[name]})" if hints[name] else "") for name in rest]
        return names + [f"'{name}' of {count} rows" for name, count in self.unread.items()]

    def check(self, where: str) -> None:
        """Raise a UserError for mapped columns that no row has."""
        for ours, name in self.mapping.items():
            if name and self.seen and name not in self.seen:
                fix = nearest(name, self.seen) or f"there are {listed(self.seen)}"
                what = f"--map {ours}={name}: there is no such column"
                raise UserError(what, where=where, fix=fix)

    def named(self, data: Mapping[str, object]) -> dict[str, tuple[str, Any]]:
        """Return the cells of a row that are not empty, by our names, with the file's own name.

        Raises:
            BadRow: Two cells are of one name.
        """
        theirs = {name: ours for ours, name in self.mapping.items() if name}
        row: dict[str, tuple[str, Any]] = {}
        own = _RECORD if OWN.fullmatch(str(data.get("id"))) else ()
        for key, value in data.items():
            name = printable(normalize(str(key))).strip()
            self.seen.setdefault(name)
            ours = theirs.get(name) or name.casefold()
            mapped = name in theirs
            if not mapped and (ours in self.mapping or ours not in COLUMNS):
                if ours not in own:
                    self.unknown.setdefault(name)
                continue
            cell = name, (None if isinstance(value, float) and value != value else value)
            before = row.get(ours, cell)
            if before[1] in EMPTY or before[1] == cell[1]:
                row[ours] = cell
            elif cell[1] not in EMPTY:
                what = f"both '{before[0]}' and '{name}' may be the '{ours}'"
                raise BadRow(what, f"say which with --map {ours}={name}", "ambiguous")
        return row

    def leave(self, cells: Mapping[str, tuple[str, object]], used: Mapping[str, str]) -> None:
        """Count the cells of a row that hold something and that its shape has not used."""
        rest = (name for name, value in cells.values() if value not in EMPTY)
        self.unread.update(name for name in rest if name not in used and name not in self.unknown)


def parse_map(texts: Iterable[str]) -> dict[str, str]:
    """Return our name → the file's, of texts such as ``instruction=질문 output=답변``.

    Raises:
        UserError: One is no pair, or names a column of ours that there is not.
    """
    names = "|".join(COLUMNS)
    mapping: dict[str, str] = {}
    for text in texts:
        for pair in re.split(rf"[\s,]+(?=(?:{names})=)", normalize(text).strip()):
            ours, equals, theirs = pair.partition("=")
            ours = ours.strip().casefold()
            if not equals or ours not in COLUMNS:
                fix = nearest(ours, COLUMNS) or "such as --map instruction=질문 --map output=답변"
                what = f"there is no '{ours}' to map to" if equals else f"'{pair}' is no pair"
                raise UserError(what, where="--map", fix=fix)
            mapping[ours] = theirs.strip()
    return mapping


def listed(names: Iterable[str]) -> str:
    """Return the first names in quotes, for a message."""
    return ", ".join(f"'{name}'" for name in list(names)[:5]) or "no keys"


def as_list(value: Any, *, text: bool = True) -> list[Any] | None:
    """Return a list, also one that a cell of a table holds; None for anything else.

    Such a cell holds JSON, or Python's own writing, as pandas writes lists into CSV. Where a
    ``text`` may stand as well, only what begins as turns do is taken for a list.
    """
    if isinstance(value, str) and value.lstrip().startswith("[{" if text else "["):
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, RecursionError, SyntaxError, MemoryError, TypeError):
                value = read(value.strip())
                break
    return value if isinstance(value, list) else None


def unwrapped(data: Mapping[str, object]) -> Mapping[str, Any]:
    """Return the row of a row that holds nothing but one object, as a column of structs does."""
    asked = data.get("input")
    if isinstance(asked, Mapping) and "preferred_output" in data:  # OpenAI's preferences
        return {**{key: value for key, value in data.items() if key != "input"}, **asked}
    inner = [value for value in data.values() if isinstance(value, Mapping)]
    if len(inner) == 1 and not any(str(key).casefold() in COLUMNS for key in data):
        beside = {key: value for key, value in data.items() if value is not inner[0]}
        return {**beside, **inner[0]}
    return data


def spoken_turns(text: str) -> Messages:
    """Return the turns of a transcript; none where nothing marks who speaks."""
    marks = list(_MARK.finditer(text))
    turns: list[tuple[Role, str]] = []
    for place, mark in enumerate(marks):
        after = marks[place + 1] if place + 1 < len(marks) else None
        role = _SPEAKERS[next(name for name in mark.groups() if name).casefold()]
        content = text[mark.end() : after.start() if after else len(text)]
        content = _TOKEN.sub("", content).strip()
        if turns and turns[-1][0] == role and content:  # ### Instruction, then ### Input
            turns[-1] = role, f"{turns[-1][1]}\n\n{content}"
        elif content:
            turns.append((role, content))
    return tuple(Message(role=role, content=content) for role, content in turns)


def refuse_tools(turn: Mapping[str, object], role: str, name: str, number: int) -> None:
    """Raise a BadRow for a turn that calls a tool or is what one answered."""
    calls = turn.get("tool_calls") or turn.get("function_call")
    if not calls and role not in _TOOLS:
        return
    first = calls[0] if isinstance(calls, list) else calls
    called = first.get("function", first) if isinstance(first, dict) else {}
    tool = called.get("name") if isinstance(called, dict) else turn.get("name")
    if not tool and role == "function_call":
        match = re.search(r'"name"\s*:\s*"([^"]+)"', str(turn.get("value") or turn.get("content")))
        tool = match[1] if match else ""
    about = f" '{tool}'" if tool else ""
    fix = "tools are not trained; leave the row out, or pass it over with --skip-bad"
    raise BadRow(f"{name} turn {number} is a tool call{about}", fix, "tool_call")
