"""Rows out of a chat's reply: in a code fence, amid prose, with quotes and commas gone astray.

Mended is only what has one meaning; everything else that looks like a row is told with its line.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.console import console
from workbench.errors import UserError
from workbench.store import read_json_lines

_FENCE = re.compile(r"\s*(?:```|~~~)")
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+(?=[{\[])")
_LIKE_DATA = re.compile(r"""\s*[{}\[\]"“”'‘’]""")
_OPENING = re.compile(r"(?<=[{,\[:])(\s*)[“”„]")
_CLOSING = re.compile(r"[“”](?=\s*[:,}\]])")
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)
Row = tuple[int, dict[str, Any]]


@dataclass
class _Reading:
    """One file on its way: what was passed over, mended and not understood, by line."""

    path: Path
    passed: list[int] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)
    mistakes: list[UserError] = field(default_factory=list)

    def mistake(self, line: int, what: str, fix: str = "one JSON object a line") -> None:
        self.mistakes.append(UserError(what, where=f"{self.path}:{line}", fix=fix))


def read_rows(path: Path, mistakes: list[UserError]) -> Iterator[Row]:
    """Yield the 1-based line and the object of each row of a JSONL file, or of a chat's reply.

    Args:
        path: The file, UTF-8.
        mistakes: Takes up what looks like a row and cannot be read.

    Raises:
        UserError: The file cannot be read, or is empty.
    """
    broken: list[UserError] = []
    rows = deque(read_json_lines(path, mistakes=broken))
    if not broken or any("is not UTF-8" in error.what for error in broken):
        mistakes += broken
        while rows:  # none is held any longer than it takes to make a record of it
            yield rows.popleft()
        return
    rows.clear()
    reading = _Reading(path)
    rows_read = list(_rows_of(reading, path.read_text(encoding="utf-8-sig").splitlines()))
    if not rows_read and not reading.mistakes:
        reading.mistakes += broken[:1]
    mistakes += reading.mistakes
    if reading.mended:
        console.print(f"  {path.name}: quotes or commas mended in line {_list(reading.mended)}")
    if reading.passed:
        console.print(f"  {path.name}: no row, passed over: line {_list(reading.passed)}")
    yield from rows_read


def _rows_of(reading: _Reading, lines: list[str]) -> Iterator[Row]:
    index, fenced = 0, False
    while index < len(lines):
        line, number = _BULLET.sub("", lines[index]), index + 1
        index += 1
        if _FENCE.match(line):
            fenced = not fenced
        elif not line.strip(" \t,"):
            continue
        elif line.lstrip().startswith(("{", "[")):
            values, used = _values(reading, lines, number)
            yield from values
            index += used - 1
        elif line.strip() in ("]", "],") or (not fenced and not _LIKE_DATA.match(line)):
            reading.passed += [] if line.strip().startswith("]") else [number]
        else:
            reading.mistake(number, f"is no row: {line.strip()[:40]!r}")


def _values(reading: _Reading, lines: list[str], number: int) -> tuple[list[Row], int]:
    """Return the rows that begin on a line, and how many lines they take."""
    first = _BULLET.sub("", lines[number - 1])
    if first.strip() == "[":
        # A list of rows, one a line: each is then read on its own.
        return [], 1
    error = _error_of(first)
    ends = _ends(lines, number) if error else [number]
    for end in ends:
        text = "\n".join([first, *lines[number:end]]).strip().rstrip(",")
        for candidate, mended in ((text, False), (_mend(text), True)):
            try:
                value = _DECODER.decode(candidate)
            except json.JSONDecodeError:
                continue
            if mended:
                reading.mended.append(number)
            return _objects(reading, value, number), end - number + 1
    reading.mistake(number, f"broken JSON: {error}", "mend the line, or ask for it again")
    return [], _skipped(lines, number)


def _error_of(line: str) -> str:
    """Return what is wrong with a line as it came, or an empty string."""
    try:
        _DECODER.decode(line.strip().rstrip(","))
    except json.JSONDecodeError as error:
        return f"{error.msg} at column {error.colno}"
    return ""


def _ends(lines: list[str], number: int) -> Iterator[int]:
    """Yield the lines at which an object that begins on line ``number`` may end."""
    for end in range(number, len(lines) + 1):
        # Another object at the margin, or the end of a fence: this one was cut off before.
        if end > number and (lines[end - 1].startswith("{") or _FENCE.match(lines[end - 1])):
            return
        if lines[end - 1].rstrip(" ,").endswith(("}", "]")):
            yield end


def _skipped(lines: list[str], number: int) -> int:
    """Return how many lines belong to an object that cannot be read."""
    for end in range(number, len(lines)):
        text = lines[end]
        if not text.strip() or text.lstrip().startswith("{") or not _LIKE_DATA.match(text):
            return end - number + 1
    return len(lines) - number + 1


def _objects(reading: _Reading, value: Any, number: int) -> list[Row]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, dict) for item in items):
        reading.mistake(number, "is not a JSON object")
        return []
    return [(number, item) for item in items]


def _mend(text: str) -> str:
    """Return JSON with straight quotes around keys and values, and without trailing commas."""
    straight = _CLOSING.sub('"', _OPENING.sub(r'\1"', text))
    return _STRING_OR_COMMA.sub(lambda m: "" if m[0] == "," else m[0], straight)


def _list(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:10])
    return f"{shown} and {len(numbers) - 10} more" if len(numbers) > 10 else shown
