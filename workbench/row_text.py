"""Rows out of text: JSON in whatever company, CSV, Markdown tables, one beside the other.

In: the text of a file of rows or of a chat's whole reply. Out: rows with their lines, and mistakes
for all that looks like a row and is none: nothing that holds ``{"…":`` is taken for prose. Mended
is only what has one meaning. :mod:`workbench.row_files` calls it.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Collection, Iterator
from typing import Any

from workbench.errors import column_of, nearest
from workbench.row_reading import RawRow, Reading
from workbench.text import MARKS

csv.field_size_limit(sys.maxsize)  # a cell may be as long as an answer

_FENCE = re.compile(r"\s*(?:```|~~~)")
_DATA = re.compile(r"""\{\s*["“”„'‘][^"“”„'’]*["“”'’]\s*:""")
"""The beginning of an object with a first key."""
_OPEN = re.compile(r"[{\[]\s*$")
_LIKE_DATA = re.compile(r"""\s*[{}\[\]"“”'‘’]""")
_INSIDE = re.compile(r"""["“”]\s*:\s*["“”\[{\d]|["”]\s*}|[,;\t]"\S|""\w|^\s*\|.*\|""")
"""What only the inside of an object, or a line of a table without its head, looks like."""
_CELLS = re.compile(r"[,;\t|](?!\s|\d|$)")
"""Prose has a space behind its commas, and a number none."""
_QUOTED = re.compile(r"\s*>[\s>]*")
_OPENING = re.compile(r"(?<=[{,\[:])(\s*)[“”„]")
_CLOSING = re.compile(r"[“”](?=\s*[:,}\]])")
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_AFTER = " \t\n,]`*|>_.;" + MARKS
"""What may stand behind an object without being part of anything."""
_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
"""The line of dashes under the head of a Markdown table."""
_CELL_END = re.compile(r"(?<!\\)\|")
_SEPARATOR = re.compile(r"\s*\"?sep=([,;\t|])\"?\s*\Z", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
DELIMITERS = ",\t;|"
HEAD_LINES = 10
"""Lines of a table among which its column names are looked for."""
MARKDOWN = "markdown"
"""Instead of a delimiter: the cells are those of a Markdown table."""
LONGEST_HEAD = 400
"""Characters of a line of column names amid prose."""
ONE_A_LINE = "one JSON object a line"


def _object(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' is given twice")
    return data


def _decoder(strict: bool) -> json.JSONDecoder:
    """Return a decoder to which NaN, which is no JSON, is an empty cell."""
    return json.JSONDecoder(
        strict=strict, object_pairs_hook=_object, parse_constant=lambda _name: None
    )


_STRICT, _DECODER = _decoder(True), _decoder(False)


def decode_line(line: str) -> dict[str, Any] | None:
    """Return the object of a line of JSONL; None where it is not one, and nothing else."""
    try:
        value = _STRICT.decode(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_rows(reading: Reading, text: str, *, delimiter: str = "") -> Iterator[RawRow]:
    """Yield the rows of a text.

    The delimiter is of a file that is a table whatever its head says; ``?`` where the head tells
    it.
    """
    if (rows := _document(text, reading.known)) is not None:
        reading.formats["JSON"] = None
        yield from _dictionaries(reading, rows)
        return
    lines = [line.strip("\ufeff") for line in re.split("\r\n|\n|\r", text)]
    if delimiter and not next((line for line in lines if line.strip()), "").startswith("{"):
        head, delimiter = _table_head(reading, lines, delimiter)
        yield from _Text(reading, lines).csv(head, delimiter)
        return
    yield from _Text(reading, lines).rows()


def _table_head(reading: Reading, lines: list[str], delimiter: str) -> tuple[int, str]:
    """Return the line that names a table's columns, and what stands between its cells."""
    full = [place for place, line in enumerate(lines) if line.strip(MARKS + " \t" + DELIMITERS)]
    if full and (match := _SEPARATOR.match(lines[full[0]])):  # as Excel writes it for itself
        return full[1] if full[1:] else full[0], match[1]
    first = full[:HEAD_LINES]
    by = [_delimiter(lines[place]) if delimiter == "?" else delimiter for place in first]
    cells = [lines[place].replace('"', "").split(one) for place, one in zip(first, by, strict=True)]
    head = reading.head(cells)
    for place in first[:head]:
        if any(one in lines[place] for one in f'"{by[head]}'):
            reading.mistake(place + 1, "stands above the column names", reason="broken_table")
        else:
            reading.passed.append(place + 1)
    return (first[head], by[head]) if first else (0, DELIMITERS[0])


def wrapped_rows(value: dict[str, Any], known: Collection[str] = ()) -> list[Any] | None:
    """Return the rows of an object that is a whole file; None of one that is a row itself.

    A list of rows under one name or beside what is told about it, ``{"rows": […]}``, rows by their
    ids, and tables as pandas writes them: a list a column, a column by its index, columns and data.
    """
    cells = list(value.values())
    if len(value) == 1 and _are_rows(cells[0]):
        return list(cells[0])
    if not any(str(name).casefold() in known for name in value):
        rows, names = value.get("rows", value.get("data")), value.get("columns")
        if isinstance(rows, list) and isinstance(names, list) and _as_long(rows, names):
            return [dict(zip(map(str, names), row, strict=True)) for row in rows]
        if isinstance(rows, list) and _are_rows(rows):
            return rows
        inner = [one for one in cells if isinstance(one, dict)]
        by_id = len(inner) == len(cells) > 1 and all(_names_one(one, known) for one in inner)
        return inner if by_id else None
    if len(value) < 2:
        return None
    if all(isinstance(one, dict) and one and all(map(str.isdigit, one)) for one in cells):
        index = list(cells[0])
        return [{name: column.get(n) for name, column in value.items()} for n in index]
    lists = all(isinstance(one, list) and one and isinstance(one[0], str | None) for one in cells)
    if lists and _as_long(cells, cells[0]):
        return [dict(zip(value, row, strict=True)) for row in zip(*cells, strict=True)]
    return None


def _are_rows(value: Any) -> bool:
    """Return whether a value is a list of rows; the turns of one conversation are none."""
    rows = isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
    return rows and not {"role", "from"} & set(value[0])


def _names_one(row: dict[str, object], known: Collection[str]) -> bool:
    return any(str(name).casefold() in known for name in row)


def _as_long(rows: list[object], row: list[object]) -> bool:
    return all(isinstance(one, list) and len(one) == len(row) for one in rows)


def _document(text: str, known: Collection[str]) -> list[tuple[int, Any]] | None:
    """Return the values of a JSON array, or the one object, with their lines; else None."""
    start = len(text) - len(text.lstrip(" \t\r\n" + MARKS))
    if text[start : start + 1] not in ("[", "{"):
        return None
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    if text[end:].strip(" \t\r\n" + MARKS):
        return None
    line = text.count("\n", 0, start) + 1
    if isinstance(value, dict):
        rows = wrapped_rows(value, known)
        if rows is None or len(value) > 1 or "[" in next(iter(value)):
            return [(line, row) for row in ([value] if rows is None else rows)]
        start = text.index("[", start)
    places: list[tuple[int, Any]] = []
    at = start + 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return places
        line += text.count("\n", start, at)
        start = at
        value, at = _DECODER.raw_decode(text, at)
        places.append((line, value))


def _dictionaries(reading: Reading, values: list[tuple[int, object]]) -> Iterator[RawRow]:
    for line, value in values:
        if isinstance(value, dict):
            yield RawRow(str(line), value)
        else:
            reading.mistake(line, "is not a JSON object", ONE_A_LINE)


class _Text:
    """The lines of one text, read block by block."""

    def __init__(self, reading: Reading, lines: list[str]) -> None:
        self.reading, self.lines = reading, lines
        self.at = 0
        """Index of the next line."""
        self.names, self.delimiter = list[str](), ""
        """Columns of the table that lines belong to, and what stands between its cells."""

    def rows(self) -> Iterator[RawRow]:
        """Yield the rows of JSON objects, tables of CSV and Markdown tables amid prose."""
        fenced = blank = False
        while self.at < len(self.lines):
            line, number = self._line(self.at), self.at + 1
            text = line.strip(MARKS + " \t,")
            after_blank, blank = blank, not text
            start = self._start(line)
            if start is not None:
                fenced ^= bool(_FENCE.match(line)) and line.count("```") % 2 == 1
                self.reading.formats["JSON"] = None
                yield from self._objects(line, start)
                blank = True
            elif _FENCE.match(line) and not _INSIDE.search(line):
                self.at += 1
                fenced ^= line.count("```") != 2
                self.names = []
            elif not text or text in "[]":
                self.at += 1
            elif "|" in line and _RULE.match(self._line(self.at + 1)):
                self._open_table(self.at, MARKDOWN)
            elif delimiter := self._head(line):
                self._open_table(self.at, delimiter)
            elif self.names and self._like_cells(line, after_blank):
                yield from self._cells(line)
            else:
                self.at += 1
                if fenced or _LIKE_DATA.match(line) or _INSIDE.search(line) or self._lone(line):
                    self.reading.mistake(number, f"is no row: {text[:40]!r}", ONE_A_LINE)
                else:
                    self.reading.passed.append(number)

    def _line(self, index: int) -> str:
        """Return a line without the marks of a quotation."""
        line = self.lines[index].lstrip(MARKS) if index < len(self.lines) else ""
        return _QUOTED.sub("", line, count=1) if line.lstrip().startswith(">") else line

    def _start(self, line: str) -> int | None:
        """Return where on a line data begin, or None."""
        lead = line.lstrip(MARKS + " \t,")
        if match := _DATA.search(line):
            return match.start()
        if lead.startswith("{") or (lead.startswith("[") and lead.strip(" \t,") != "["):
            return len(line) - len(lead)
        if (match := _OPEN.search(line)) and match[0].startswith("{"):
            after = self._line(self.at + 1)
            if after.lstrip()[:1] in tuple("\"“”'‘"):
                return match.start()
        return None

    def _objects(self, line: str, start: int) -> Iterator[RawRow]:
        """Yield the objects that begin on the next line, from a column on."""
        number = self.at + 1
        lead = line[:start].lstrip(MARKS + " \t,[")
        if re.search(r"""["“”{}]""", lead):
            self.reading.mistake(number, f"is no row: {line.strip()[:40]!r}", ONE_A_LINE)
            self.at += 1
            return
        value, rest, used = self._value(line[start:], number)
        self.at += max(used, 1)
        if used:
            yield from self._values(value, number)
        # More may follow on the line where it ended.
        while used and (match := _DATA.search(rest)):
            try:
                value, end = _DECODER.raw_decode(rest, match.start())
            except (ValueError, RecursionError):
                break
            if rest[: match.start()].strip(_AFTER + "[{"):
                break
            yield from self._values(value, self.at)
            rest = rest[end:]
        rest = rest.strip(_AFTER)
        if used and re.search(r"""[{}"“”]""", rest):
            self.reading.mistake(self.at, f"is no row: {rest[:40]!r}", ONE_A_LINE)

    def _values(self, value: Any, number: int) -> Iterator[RawRow]:
        items = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            items = wrapped_rows(value, self.reading.known) or items
        if not all(isinstance(item, dict) for item in items):
            self.reading.mistake(number, "is not a JSON object", ONE_A_LINE)
            return
        yield from (RawRow(str(number), item) for item in items)

    def _value(self, first: str, number: int) -> tuple[Any, str, int]:
        """Return the value that begins on a line, what stands behind it, and its count of lines.

        The count is 0 where it cannot be read; the lines that belong to it are passed then.
        """
        error = ""
        for end in self._ends(number):
            text = "\n".join([first, *(self._line(i) for i in range(number, end))])
            for candidate, mended in ((text, False), (_mend(text), True)):
                try:
                    value, stop = _DECODER.raw_decode(candidate)
                except RecursionError:
                    error = error or "nested too deeply"
                except json.JSONDecodeError as broken:
                    error = error or column_of(broken)
                except ValueError as broken:
                    error = error or str(broken)
                else:
                    if mended:
                        self.reading.mended.append(number)
                    return value, candidate[stop:], end - number + 1
        self.reading.mistake(number, f"broken JSON: {error}", "mend the line, or ask for it again")
        self.at += self._skipped(number) - 1
        return None, "", 0

    def _ends(self, number: int) -> Iterator[int]:
        """Yield the lines at which a value that begins on line ``number`` may end."""
        yield number
        for end in range(number + 1, len(self.lines) + 1):
            line = self._line(end - 1)
            # Another object at the margin, or the end of a fence: this one was cut off before.
            if line.startswith("{") or _FENCE.match(line):
                return
            if line.rstrip(" ,`*").endswith(("}", "]")):
                yield end

    def _skipped(self, number: int) -> int:
        """Return how many lines belong to a value that cannot be read."""
        for end in range(number, len(self.lines)):
            text = self._line(end)
            opens = _DATA.search(text) or text.lstrip().startswith("{")
            if not text.strip() or opens or not _LIKE_DATA.match(text):
                return end - number + 1
        return len(self.lines) - number + 1

    def _head(self, line: str) -> str:
        """Return the delimiter of a table that has this line for its head, or nothing."""
        delimiter = _delimiter(line)
        names = [name.strip().strip('"').casefold() for name in line.split(delimiter)]
        known = [name for name in names if name in self.reading.known]
        if len(names) < 2 or not known or len(line) > LONGEST_HEAD:
            return ""
        # A slip in one name must not make prose of a whole table.
        others = [name for name in names if name not in known]
        slips = [name for name in others if nearest(name, self.reading.known)]
        return delimiter if 2 * (len(known) + len(slips)) > len(names) else ""

    def _open_table(self, index: int, delimiter: str) -> None:
        """Take the line at an index for the head of a table."""
        name = {MARKDOWN: "Markdown", "\t": "TSV"}.get(delimiter, "CSV")
        self.reading.formats[name] = None
        self.delimiter = delimiter
        cells, count, error = self._record(index)
        if error or not cells:
            what = f"broken line of column names: {error}"
            self.reading.mistake(index + 1, what, "mend it", "broken_table")
        self.names = self.reading.columns(index + 1, cells)
        self.at = index + count + (delimiter == MARKDOWN)

    def csv(self, index: int, delimiter: str) -> Iterator[RawRow]:
        """Yield the rows of a text that is one table of CSV, whose head is at an index."""
        self._open_table(index, delimiter)
        while self.at < len(self.lines):
            line = self.lines[self.at]
            start = self._start(line)
            if not line.strip(MARKS + " \t"):
                self.at += 1
            elif start is not None and not line[:start].strip(MARKS + " \t>"):
                yield from self._objects(line, start)
            else:
                yield from self._cells(line)

    def _like_cells(self, line: str, after_blank: bool) -> bool:
        """Return whether a line amid prose belongs to the table above it."""
        if self.delimiter == MARKDOWN:
            return "|" in line
        return (self.delimiter in line and bool(_CELLS.search(line))) or not after_blank

    def _lone(self, line: str) -> bool:
        """Return whether a line is cells without their head, in a text with a table of cells."""
        return bool(_CELLS.search(line)) and any(map(self._head, self.lines))

    def _cells(self, line: str) -> Iterator[RawRow]:
        """Yield the row of the table that begins on the next line."""
        number, names = self.at + 1, self.names
        cells, count, error = self._record(self.at)
        self.at += count
        while len(cells) > len(names) and not cells[-1].strip():
            cells.pop()
        if error:
            fix = 'a quote inside of a quoted cell is written twice: ""'
            self.reading.mistake(number, f"broken CSV: {error}", fix, "broken_csv")
        elif len(cells) > len(names) or len(cells) == 1 < len(names):
            what = f"has {len(cells)} cells, the line of column names {len(names)}"
            fix = "put a cell in quotes"
            if self.delimiter == MARKDOWN:
                fix = "write a bar inside of a cell as \\|"
            self.reading.mistake(number, what, fix, "broken_table")
        else:
            yield from self.reading.row(number, names, cells)

    def _record(self, index: int) -> tuple[list[str], int, str]:
        """Return the cells of the record at an index, its count of lines, and what is wrong."""
        if self.delimiter == MARKDOWN:
            return _markdown_cells(self._line(index)), 1, ""
        lines = (self.lines[i] + "\n" for i in range(index, len(self.lines)))
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=True)
        try:
            cells = next(reader)
        except (csv.Error, StopIteration) as error:
            # Only the line where it begins is given up: a quote left open takes no other row along.
            return [], 1, str(error) or "no cells"
        return cells, reader.line_num, ""


def _markdown_cells(line: str) -> list[str]:
    cells = _CELL_END.split(line.strip().removeprefix("|"))
    if not cells[-1].strip():
        cells.pop()
    return [_BREAK.sub("\n", cell.replace("\\|", "|")).strip() for cell in cells]


def _delimiter(line: str) -> str:
    return max(DELIMITERS, key=lambda one: line.count(one))


def _mend(text: str) -> str:
    """Return JSON with straight quotes around keys and values, and without trailing commas."""
    straight = _CLOSING.sub('"', _OPENING.sub(r'\1"', text))
    return _STRING_OR_COMMA.sub(lambda m: "" if m[0] == "," else m[0], straight)
