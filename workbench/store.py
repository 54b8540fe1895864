"""JSONL files of records: read with line numbers, written atomically, hashed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from workbench.errors import UserError
from workbench.records import Record

R = TypeVar("R", bound=Record)


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[IO[str]]:
    """Open a temporary neighbour of ``path`` for UTF-8 text and rename it when all went well.

    Raises:
        UserError: The disk is full or the folder cannot be written.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def cannot_write(path: Path, error: OSError) -> UserError:
    """Return the one-line error of a write that the system refused."""
    return UserError(
        f"cannot be written ({error.strerror or error})",
        where=str(error.filename or path),
        fix="free some space or choose another folder, then run the same command again",
    )


def existing(path: Path) -> Path:
    """Return ``path`` when it is a file.

    Raises:
        UserError: It is not there.
    """
    if not path.is_file():
        raise UserError("there is no such file", where=str(path), fix="check the path")
    return path


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write records as JSONL, one a line, and return their number."""
    count = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")
            count += 1
    return count


def write_json(path: Path, data: Any, *, mode: int = 0o644) -> None:
    """Write ``data`` as indented JSON, keys in their order."""
    with atomic_file(path, mode=mode) as file:
        json.dump(data, file, ensure_ascii=False, indent=2)
        file.write("\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        UserError: Unreadable, not UTF-8, broken JSON, or no object.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path"
        ) from None
    try:
        value = json.loads(raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except ValueError as error:
        raise UserError(f"broken JSON: {error}", where=str(path), fix="make it anew") from None
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", where=str(path), fix="make it anew")
    return value


def read_json_lines(
    path: Path, *, mistakes: list[UserError] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the 1-based line number and object of each line; blank lines are passed over.

    Args:
        path: The file.
        mistakes: Takes up broken lines, so that reading goes on after them; without it the first
            one is raised.

    Raises:
        UserError: Unreadable, empty or not UTF-8; broken JSON or no object on a line.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=str(path), fix="check the path"
        ) from None
    seen = False
    with file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw.strip():
                continue
            seen = True
            try:
                row = _parse_line(path, number, raw)
            except UserError as error:
                if mistakes is None:
                    raise
                mistakes.append(error)
            else:
                yield number, row
    if not seen:
        raise UserError("is empty", where=str(path), fix="check that it is the file you meant")


def _parse_line(path: Path, number: int, raw: bytes) -> dict[str, Any]:
    where = f"{path}:{number}"
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(
            f"is not UTF-8 (byte {error.start} of the line)", where=where, fix="save it as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"broken JSON: {error.msg} at column {error.colno}",
            where=where,
            fix="one JSON object a line",
        ) from None
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", where=where, fix="one JSON object a line")
    return value


def read_records(path: Path, model: type[R]) -> Iterator[R]:
    """Yield the records of a JSONL file that a stage wrote; an empty file has none.

    Raises:
        UserError: Unreadable file, or a line that is no valid record, with its number.
    """
    if path.exists() and path.stat().st_size == 0:
        return
    for number, data in read_json_lines(path):
        try:
            yield model.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise UserError(
                f"no valid {model.__name__}: {field} {first['msg']}".replace("  ", " "),
                where=f"{path}:{number}",
                fix="run the stage that wrote it again",
            ) from None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files and their names, as hex."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
