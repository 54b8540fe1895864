"""Files and folders that are there whole or not at all; JSONL of records with line numbers.

In: paths, records, JSON values. Out: what was read, or one line for what the disk or a file does
wrong. Everybody who writes what somebody else may read does it through here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from workbench.errors import UserError, UserErrors, column_of, unreadable
from workbench.language.packs import DATA, pack_file
from workbench.records import Record
from workbench.text import normalize_all

R = TypeVar("R", bound=Record)
Model = TypeVar("Model", bound=BaseModel)
MIB = 1 << 20
_DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.ELOOP),
}
_LOW_SPACE = 64 * MIB
"""Free bytes under which a failed write is taken for a full disk."""


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


def refused(error: OSError) -> UserError | None:
    """Return the one-line error of a path that the system refuses, whatever was to be done there.

    None for an error that is not of the disk or names no path.
    """
    if error.errno not in _DISK_ERRORS or not error.filename:
        return None
    what = f"the system refuses this path ({error.strerror})"
    return UserError(what, where=os.fsdecode(error.filename), fix="check the path and its rights")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system and libraries raise for a refused write into one line.

    ``path`` is what is being written, where the error does not say.

    Raises:
        UserError: The disk is full or broken, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        # Libraries raise plain OSErrors, without a number, for what is not of the disk.
        if error.errno not in _DISK_ERRORS:
            raise
        raise cannot_write(path, error) from None
    except Exception as error:
        # torch raises a RuntimeError and safetensors its own for what the system refused.
        if type(error).__name__ not in ("RuntimeError", "SafetensorError"):
            raise
        if "No space left" not in str(error) and not (
            "write" in str(error).lower() and free_space(path) < _LOW_SPACE
        ):
            raise
        raise cannot_write(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None


def free_space(folder: Path) -> int:
    """Return the free bytes where ``folder`` lies or will lie."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def check_space(folder: Path, needed: int, what: str, option: str = "") -> None:
    """Raise a UserError if fewer bytes than are needed are free where ``folder`` will lie.

    ``folder`` need not be there yet; ``what`` says who needs the bytes, such as ``a round``, and
    ``option`` which option of the command line names another folder.
    """
    free = free_space(folder)
    if free < needed:
        raise UserError(
            f"only {free // MIB} MiB are free, {what} needs {-(-needed // MIB)}",
            where=str(folder),
            fix="free some space, or choose another folder" + (f" with {option}" if option else ""),
        )


_MOMENT = 0.2
"""Seconds to wait for a lock."""


def is_locked(file: Path) -> bool:
    """Return whether a command holds ``file``; nothing is made on disk."""
    from filelock import FileLock, Timeout

    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            return False
    except (Timeout, OSError):
        return True


@contextmanager
def locked(file: Path, where: Path, *, undo: str = "") -> Iterator[None]:
    """Hold ``file``, so that two commands do not write ``where`` at once.

    With ``undo``, a folder that was not there before goes again, with parents that hold nothing
    else, where a UserError comes before it has a file of that name.

    Raises:
        UserError: Another command holds it, or the system refuses to write there.
    """
    from filelock import FileLock, Timeout

    # Whoever only looks whether it is held, holds it for a moment.
    lock, is_new = FileLock(file, timeout=_MOMENT), not where.exists()
    try:
        with disk_errors(where):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        what = "another command is at work there"
        raise UserError(what, where=str(where), fix="wait for it, or stop it") from None
    try:
        yield
    except UserError:
        if undo and is_new and not (where / undo).exists():
            shutil.rmtree(where, ignore_errors=True)
            with suppress(OSError):  # others are there
                where.parent.rmdir()
                where.parent.parent.rmdir()
        raise
    finally:
        lock.release()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of ``folder`` that takes its name when all went well.

    What a killed run left is removed first; a folder of that name stays until the new one is
    whole.

    Raises:
        UserError: Another command writes there, or the system refuses to write.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    with disk_errors(folder), locked(folder.with_name(f".{folder.name}.lock"), folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            replace_folder(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder ``new`` in the place of ``target``, which need not be there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def expanded(path: str | Path) -> Path:
    """Return a path with the home that its ``~`` means; as it is where nobody has such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def existing(path: Path, *, folder: bool = False) -> Path:
    """Return ``path`` when it is a file, or a folder where one will do.

    Raises:
        UserError: It is not there, or the system refuses to look.
    """
    try:
        there = path.is_file() or (folder and path.is_dir())
    except OSError as error:
        raise unreadable(path, error) from None
    if not there:
        raise UserError("there is no such file", where=str(path), fix="check the path")
    return path


def packaged(folder: Path) -> Path:
    """Return where a folder of data lies: a relative one may lie beside the package."""
    if folder.is_absolute() or folder.is_dir():
        return folder
    return Path(__file__).resolve().parents[1] / folder


def language_file(folder: Path, language: str, kind: str = "") -> Path | None:
    """Return a language's file of a folder of data, such as ``en.jsonl``; or its pack's own one.

    A relative folder may lie beside the package; a pack's own file is named after it. ``kind`` is
    what a name begins with, such as ``labelled.``.

    Returns:
        None where the language has none: what it would measure is not measured.

    Raises:
        UserError: The folder holds no such file of any language; of a ``kind`` there may be none.
    """
    there = packaged(folder)
    if (own := there / f"{kind}{language}.jsonl").is_file():
        return own
    if not kind and not any(there.glob("*.jsonl")):
        raise UserError("there is no such file", where=str(own), fix="check the path of the folder")
    packed = pack_file(language, f"{DATA}/{kind}{folder.name}.jsonl")
    return packed if packed.is_file() else None


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write records as JSONL, one a line, and return their number."""
    count = 0
    with atomic_file(path) as file:
        for record in records:
            file.write(record.model_dump_json() + "\n")
            count += 1
    return count


def write_json(path: Path, data: object, *, mode: int = 0o644) -> None:
    """Write ``data`` as indented JSON, keys in their order."""
    with atomic_file(path, mode=mode) as file:
        json.dump(data, file, ensure_ascii=False, indent=2)
        file.write("\n")


def _decoded(raw: bytes) -> Any:
    """Return a JSON value; what Python cannot hold is a ValueError as what is no JSON is."""
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        UserError: Unreadable, not UTF-8, broken JSON, or no object.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        value = _decoded(raw.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise UserError(f"broken JSON: {error}", where=str(path), fix="make it anew") from None
    if not isinstance(value, dict):
        raise UserError("is not a JSON object", where=str(path), fix="make it anew")
    return value


def read_json_lines(
    path: Path, *, mistakes: list[UserError] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the 1-based line number and object of each line; blank lines are passed over.

    ``mistakes`` takes up broken lines, so that reading goes on after them; without it the first one
    is raised.

    Raises:
        UserError: Unreadable, empty or not UTF-8; broken JSON or no object on a line.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from None
    seen = False
    with file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw.strip():
                continue
            seen = True
            try:
                row = parse_json_line(path, number, raw)
            except UserError as error:
                if mistakes is None:
                    raise
                mistakes.append(error)
            else:
                yield number, row
    if not seen:
        raise UserError("is empty", where=str(path), fix="check that it is the file you meant")


def parse_json_line(path: Path, number: int, raw: bytes) -> dict[str, Any]:
    """Return the object of one line of a file, whose 1-based number is for the message.

    Raises:
        UserError: It is not UTF-8, or broken JSON, or no object.
    """
    where = f"{path}:{number}"
    try:
        value = _decoded(raw)
    except UnicodeDecodeError as error:
        raise UserError(
            f"is not UTF-8 (byte {error.start} of the line)", where=where, fix="save it as UTF-8"
        ) from None
    except ValueError as error:
        what = str(error)
        if isinstance(error, json.JSONDecodeError):
            what = column_of(error)
        raise UserError(f"broken JSON: {what}", where=where, fix="one JSON object a line") from None
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
            raise UserError(
                f"no valid {model.__name__}: {first_mistake(error)}",
                where=f"{path}:{number}",
                fix="run the stage that wrote it again",
            ) from None


def first_mistake(error: ValidationError) -> str:
    """Return the first thing that is wrong with a value: its field, and what is wrong."""
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"{field}: {first['msg']}" if field else first["msg"]


def as_model(model: type[Model], data: object, what: str, path: Path) -> Model:
    """Return what a stage wrote into ``path`` as a value.

    Raises:
        UserError: It is no valid one; calls it ``what``.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        fix = f"make it anew with --force {path.parent.name}"
        what = f"no valid {what}: {first_mistake(error)}"
        raise UserError(what, where=str(path), fix=fix) from None


def read_models(
    path: Path, model: type[Model], mistakes: list[UserError] | None = None
) -> Iterator[tuple[int, Model]]:
    """Yield the 1-based line number and value of each line of a JSONL file that people write.

    Texts are normalized, as those of imported rows are. ``mistakes`` takes up the lines that are no
    ``model``; without it they are raised at the end, all at once.

    Raises:
        UserError: Unreadable or empty.
        UserErrors: Every line that is no ``model``.
    """
    own: list[UserError] = [] if mistakes is None else mistakes
    for number, data in read_json_lines(path, mistakes=own):
        try:
            yield number, model.model_validate(normalize_all(data))
        except ValidationError as error:
            own.append(UserError(first_mistake(error), where=f"{path}:{number}"))
    if mistakes is None and own:
        raise UserErrors(own)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files and their names, as hex."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
