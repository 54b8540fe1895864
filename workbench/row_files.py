"""One front door for files of rows: any format, any charset, compressed or in a folder.

In: a path. Out: its rows as they are, each with its place, and a :class:`Reading` that says what
the file is and what in it cannot be read. The import, the leak check and ``--dry-run`` read
through here; text is :mod:`workbench.row_text`'s, the other formats are read by the libraries that
keep them: openpyxl, pyarrow, datasets.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from workbench.errors import UserError, unreadable
from workbench.row_reading import RawRow, Reading
from workbench.row_text import HEAD_LINES, decode_line, text_rows, wrapped_rows
from workbench.text import MARKS, decode, printable, some_of

BATCH = 1000
"""Rows that are read of a Parquet or Arrow file at once."""
_TEXTS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".txt")
SUFFIXES = (*_TEXTS, ".xlsx", ".parquet", ".arrow")
"""Of the files that are rows in a folder; ``.gz`` may follow."""
_ABOUT = ("dataset_info", "dataset_infos", "dataset_dict", "state", "manifest")
_NOT_ROWS = tuple(f"{name}.json" for name in _ABOUT)
"""Files of a dataset's folder that tell about its rows."""
_DELIMITERS = {".csv": "?", ".tsv": "\t", ".tab": "\t"}
_OTHERS = {
    b"\xd0\xcf\x11\xe0": ("an Excel file of before 2007", "save it as .xlsx"),
    b"BZh": ("compressed by bzip2", "unpack it, or use gzip"),
    b"\xfd7zXZ": ("compressed by xz", "unpack it, or use gzip"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "unpack it, or use gzip"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
    b"%PDF": ("a PDF", "copy its rows into a table"),
    b"SQLite format 3": ("a database of SQLite", "export its rows as CSV"),
}


@dataclass
class FolderReading(Reading):
    """A folder: what lies in it and is not read as rows."""

    beside: list[Path] = field(default_factory=list)

    def notes(self) -> Iterator[str]:
        """Yield a line that names what was passed over."""
        names = [printable(file.relative_to(self.path).as_posix()) for file in self.beside]
        if names:
            yield f"no files of rows, passed over: {some_of(names, 10)}"


def row_files(
    path: Path, known: Collection[str] = ()
) -> Iterator[tuple[Reading, Iterator[RawRow]]]:
    """Yield the files of rows at a path, each with the rows that it holds.

    Mistakes of a file are in its reading once its rows are read. The last of a folder is a
    :class:`FolderReading` without rows: it says what else lies there. ``known`` are names of
    columns, in small letters, by which a table amid prose is known.

    Raises:
        UserError: Unreadable, empty, or of a format that is none of rows.
    """
    if printable(name := str(path.absolute())) != name:
        raise UserError("its name is not UTF-8", where=printable(str(path)), fix="rename it")
    if not path.is_dir():
        reading = Reading(path, known)
        yield reading, _rows(reading)
        return
    there = list(_inside(path))
    if any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        reading = Reading(path, known)
        yield reading, _saved(reading)
        about = [file for file in there if file.suffix == ".arrow" or file.name in _NOT_ROWS]
        yield FolderReading(path, beside=[file for file in there if file not in about]), iter(())
        return
    files = [file for file in there if _of_rows(file)]
    if not files:
        raise UserError("holds no files of rows", where=str(path), fix=f"of {', '.join(SUFFIXES)}")
    for file in files:
        yield from row_files(file, known)
    yield FolderReading(path, beside=[file for file in there if not _of_rows(file)]), iter(())


def _inside(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder and those below; hidden and linked folders as they are.

    Raises:
        UserError: One of the folders cannot be looked into.
    """
    try:
        for entry in sorted(folder.iterdir()):
            below = entry.is_dir() and not entry.is_symlink() and not entry.name.startswith(".")
            yield from _inside(entry) if below else (entry,)
    except OSError as error:
        raise unreadable(folder, error) from None


def _of_rows(file: Path) -> bool:
    name = file.name.lower()
    rows = name.removesuffix(".gz").endswith(SUFFIXES) and name not in _NOT_ROWS
    return rows and not name.startswith(".") and file.is_file()


def _rows(reading: Reading) -> Iterator[RawRow]:
    """Yield the rows of a file, by its first bytes and only then by its name."""
    path = reading.path
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if (suffix := path.suffix.lower()) in (".jsonl", ".ndjson", ".json", ".txt"):
            reading.formats["JSONL"] = None
            if _is_jsonl(path, reading.known):
                yield from _jsonl(path)
                return
            reading.formats.clear()
        raw = b"" if head.startswith((b"PAR1", b"ARROW1")) else path.read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            reading.formats["gzip"] = None
            raw, suffix = gzip.decompress(raw), Path(path.stem).suffix.lower()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"broken gzip: {error}", where=str(path), fix="copy it again") from None
    except OSError as error:
        raise unreadable(path, error) from None
    yield from _rows_of_bytes(reading, head if not raw else raw[:16], raw, suffix)


def _rows_of_bytes(reading: Reading, head: bytes, raw: bytes, suffix: str) -> Iterator[RawRow]:
    where = str(reading.path)
    for magic, (what, fix) in _OTHERS.items():
        if head.startswith(magic):
            raise UserError(f"is {what}", where=where, fix=fix)
    if head.startswith(b"PK\x03\x04"):
        yield from _workbook(reading, io.BytesIO(raw))
    elif head.startswith(b"PAR1"):
        yield from _parquet(reading, io.BytesIO(raw) if raw else reading.path)
    elif head.startswith(b"ARROW1"):
        yield from _arrow(reading, io.BytesIO(raw) if raw else reading.path)
    elif suffix == ".arrow" and head.startswith(b"\xff\xff\xff\xff"):
        yield from _arrow(reading, io.BytesIO(raw), stream=True)
    elif suffix in (".xlsx", ".parquet", ".arrow"):
        raise UserError(f"is no {suffix} file", where=where, fix="export it again")
    elif (decoded := decode(raw)) is None:
        raise UserError("its charset is unknown or broken", where=where, fix="save it as UTF-8")
    elif not decoded.text.strip(" \t\r\n\0" + MARKS):
        raise UserError("is empty", where=where, fix="check that it is the file you meant")
    else:
        reading.charset = decoded.charset
        yield from text_rows(reading, decoded.text, delimiter=_DELIMITERS.get(suffix, ""))


def _is_jsonl(path: Path, known: Collection[str]) -> bool:
    """Return whether every line of a file is an object, in UTF-8: then none is held for another."""
    some = False
    with path.open("rb") as file:
        for raw in file:
            if not (line := _line(raw)):
                continue
            if (data := decode_line(line)) is None or wrapped_rows(data, known):
                return False
            some = True
    return some


def _jsonl(path: Path) -> Iterator[RawRow]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if (line := _line(raw)) and (data := decode_line(line)) is not None:
                yield RawRow(str(number), data)


def _line(raw: bytes) -> str:
    # What is no UTF-8 is no JSON either: the whole file is then read in another way.
    return raw.decode("utf-8", "replace").replace("\ufffd", "\0").strip(" \t\r\n" + MARKS)


def _workbook(reading: Reading, file: io.BytesIO) -> Iterator[RawRow]:
    """Yield the rows of every sheet; the first row with a cell names the columns."""
    import openpyxl
    from openpyxl.utils.escape import unescape

    reading.formats["Excel"] = None
    with _library(reading, "Excel"):
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheets = book.worksheets
    for sheet in sheets:
        prefix = f"{sheet.title}:" if len(sheets) > 1 else ""
        names: list[str] = []
        with _library(reading, "Excel"):
            sheet.reset_dimensions()  # some programs write a wrong one
            rows = enumerate(sheet.iter_rows(values_only=True), start=1)
            full = (one for one in rows if any(cell is not None for cell in one[1]))
            first = list(itertools.islice(full, HEAD_LINES))
            head = reading.head(row for _, row in first)
            for number, row in first[:head]:
                if sum(cell is not None for cell in row) > 1:
                    what = "stands above the column names"
                    reading.mistake(f"{prefix}{number}", what, reason="broken_table")
                else:
                    reading.passed.append(number)
            if first:
                names = reading.columns(f"{prefix}{first[head][0]}", list(first[head][1]))
            for number, row in itertools.chain(first[head + 1 :], full):
                cells = [unescape(cell) if isinstance(cell, str) else _cell(cell) for cell in row]
                if any(cell is not None for cell in cells[len(names) :]):
                    what = f"has cells beyond the {len(names)} named columns"
                    reading.mistake(f"{prefix}{number}", what, "name them", "broken_table")
                else:
                    yield from reading.row(f"{prefix}{number}", names, cells)


def _cell(value: object) -> Any:
    """Return a cell of a sheet as text, but for what is true or false."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _parquet(reading: Reading, file: io.BytesIO | Path) -> Iterator[RawRow]:
    import pyarrow.parquet as pq

    reading.formats["Parquet"] = None
    with _library(reading, "Parquet"):
        batches = pq.ParquetFile(file).iter_batches(batch_size=BATCH)
    yield from _batches(reading, "Parquet", batches)


def _arrow(reading: Reading, file: io.BytesIO | Path, *, stream: bool = False) -> Iterator[RawRow]:
    import pyarrow as pa

    reading.formats["Arrow"] = None
    with _library(reading, "Arrow"):
        source = pa.memory_map(str(file)) if isinstance(file, Path) else file
        batches: Iterable[Any]
        if stream:
            batches = pa.ipc.open_stream(source)
        else:
            opened = pa.ipc.open_file(source)
            batches = (opened.get_batch(index) for index in range(opened.num_record_batches))
    yield from _batches(reading, "Arrow", batches)


def _batches(reading: Reading, name: str, batches: Iterable[Any]) -> Iterator[RawRow]:
    count, rows, names = itertools.count(1), iter(batches), list[str]()
    while True:
        with _library(reading, name):
            batch = next(rows, None)
            if batch is not None and not names:
                names = reading.columns("", batch.schema.names)
            # By their places: two columns may be of one name.
            columns = [] if batch is None else [column.to_pylist() for column in batch.columns]
        if batch is None:
            return
        for values in zip(*columns, strict=True):
            yield from reading.row(next(count), names, map(_plain, values))


def _saved(reading: Reading) -> Iterator[RawRow]:
    """Yield the rows of a folder that ``datasets`` saved, split by split."""
    import datasets

    reading.formats["datasets"] = None
    with _library(reading, "datasets"):
        saved = datasets.load_from_disk(str(reading.path))
        splits = saved if isinstance(saved, dict) else {"": saved}
    for name, rows in splits.items():
        pictures = [k for k, kind in rows.features.items() if isinstance(kind, datasets.Image)]
        for column in pictures:  # as they were saved: files or their bytes
            rows = rows.cast_column(column, datasets.Image(decode=False))
        for number, row in enumerate(rows.with_format(None), start=1):
            yield RawRow(f"{name}:{number}" if name else str(number), _plain(row))


def _plain(value: object) -> Any:
    """Return a value with None for numbers that are none."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


@contextmanager
def _library(reading: Reading, name: str) -> Iterator[None]:
    """Turn what a library raises for a broken file, whatever it is, into one line."""
    try:
        yield
    except (UserError, MemoryError, GeneratorExit):
        raise
    except Exception as error:  # noqa: BLE001 zipfile, XML, Thrift and Arrow each have their own
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise UserError(
            f"broken {name} file: {reason}", where=str(reading.path), fix="export it again"
        ) from None
