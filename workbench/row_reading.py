"""Rows as their file has them, and what is to be told of the file.

:mod:`workbench.row_text` and :mod:`workbench.row_files` read a file into :class:`RawRow` values and
take up in one :class:`Reading` what they passed over, mended and did not understand;
:mod:`generation.importing` makes records of the rows and drops of the mistakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import UserError
from workbench.text import normalize, printable, some_of


class RawRow(NamedTuple):
    """A row as its file has it."""

    place: str
    """Where in the file: a 1-based line, or what else finds it."""
    data: dict[str, Any]


@dataclass
class Reading:
    """One file on its way: what it is, and what was passed over, mended and not understood."""

    path: Path
    known: Collection[str] = ()
    """Names of columns by which the head of a table is told from prose, in small letters."""
    formats: dict[str, None] = field(default_factory=dict)
    charset: str = "UTF-8"
    passed: list[int] = field(default_factory=list)
    mended: list[int] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, place: object, what: str, fix: str = "", reason: str = "broken_json") -> None:
        """Take up what looks like a row and cannot be read."""
        self.mistakes.append(Mistake(str(place), what, fix, reason))

    def head(self, rows: Iterable[Iterable[object]]) -> int:
        """Return which of a table's first rows names its columns; above it there may be a title."""
        short = True
        for index, row in enumerate(rows):
            names = [name for cell in row if (name := normalize(str(cell or "")).strip())]
            known = sum(name.casefold() in self.known for name in names)
            if known > (not short):
                return index
            short = short and len(names) < 2
        return 0

    def columns(self, place: object, cells: Sequence[object]) -> list[str]:
        """Return the names of a table's columns; one without a name is named by its place.

        A name that rows are read from may be there once; of others the later ones get a number.
        """
        names = [normalize(str(cell if cell is not None else "")).strip() for cell in cells]
        while names and not names[-1]:
            names.pop()
        names = [name or f"column {number}" for number, name in enumerate(names, start=1)]
        twice = [name for name, count in Counter(names).items() if count > 1]
        for name in twice:
            if not self.known or name.casefold() in self.known:
                what = f"the column '{name}' is there twice"
                self.mistake(place, what, "give each a name of its own", "broken_table")
                continue
            places = [place for place, one in enumerate(names) if one == name]
            for number, index in enumerate(places[1:], start=2):
                names[index] = f"{name} ({number})"
        return names

    def row(self, place: object, names: list[str], cells: Iterable[object]) -> Iterator[RawRow]:
        """Yield the row of a table's cells; none where two of one name say two things."""
        data: dict[str, Any] = {}
        for name, cell in zip(names, cells, strict=False):
            before = data.setdefault(name, cell)
            if before in (None, ""):
                data[name] = cell
            elif cell not in (None, "", before):
                what = f"the two columns '{name}' say two things"
                self.mistake(place, what, "give each a name of its own", "ambiguous")
                return
        yield RawRow(str(place), data)

    def notes(self) -> Iterator[str]:
        """Yield a line for each thing that a reader of the file should know."""
        if self.charset != "UTF-8":
            yield f"read as {self.charset}"
        if self.mended:
            yield f"quotes or commas mended in line {some_of([*map(str, self.mended)], 10)}"
        if self.passed:
            yield f"no row, passed over: line {some_of([*map(str, self.passed)], 10)}"


class Mistake(NamedTuple):
    """Why one row of a file can't be taken."""

    place: str
    what: str
    fix: str
    reason: str
    """One word, as drops name it."""

    def error(self, path: Path) -> UserError:
        """Return it as a line that names file and place."""
        where = f"{path}:{self.place}" if self.place else str(path)
        return UserError(printable(self.what), where=where, fix=printable(self.fix))
