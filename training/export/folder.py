"""A folder that is there whole or not at all, and is made anew after a run that was killed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import UserError
from workbench.store import cannot_write

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def check_name(name: str, where: str) -> str:
    """Return ``name`` if every target takes it: files, the Hub, Ollama, a command line.

    Raises:
        UserError: It has other characters, begins with none of these, or is too long.
    """
    if not _NAME.fullmatch(name) or ".." in name or "--" in name:
        raise UserError(
            f"'{name}' is no name for an export",
            where=where,
            fix="letters, digits, single - and ., and _; a letter or digit first; 96 at most",
        )
    return name


def check_space(folder: Path, needed: int) -> None:
    """Raise a UserError if fewer than ``needed`` bytes are free where ``folder`` will lie."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise UserError(
            f"only {free >> 20} MiB are free, the export needs {(needed >> 20) + 1}",
            where=str(folder),
            fix="free some space, or choose another folder with --out",
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of ``folder`` that takes its name when all went well.

    What a killed run left is removed first; a folder of that name stays until the new one is
    whole.

    Raises:
        UserError: Another export writes there, or the system refuses to write.
    """
    from filelock import FileLock, Timeout
    from safetensors import SafetensorError

    temporary = folder.with_name(f".{folder.name}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            try:
                yield temporary
                _swap(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except Timeout:
        raise UserError(
            "another export writes there", where=str(folder), fix="wait for it, or stop it"
        ) from None
    except OSError as error:
        if error.errno is None:  # raised by a library, not by the system
            raise
        raise cannot_write(folder, error) from None
    except SafetensorError as error:
        if "No space" not in str(error):
            raise
        raise cannot_write(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None


def _swap(temporary: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
