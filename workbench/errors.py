"""Mistakes of a user: one line each, saying what, where and how to mend it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from workbench.commands import changed_commands

EXIT_USER_ERROR = 2
"""Exit code of every command that stops on a user's mistake."""


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it without a traceback.

    Args:
        what: What is wrong, with the offending value.
        where: File (and line), option or address that it concerns.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(self.line())

    def line(self) -> str:
        """Return the mistake as one line, whitespace folded."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        return " ".join((f"{text} — {self.fix}" if self.fix else text).split())

    def lines(self) -> list[str]:
        """Return one line for each mistake that this error holds."""
        return [self.line()]


def with_commands(error: UserError, change: Callable[[str], str]) -> UserError:
    """Return the same mistake, each command that it says to run changed by ``change``.

    A command stands between backticks, such as ```persona import FILE```.
    """
    for one in error.errors if isinstance(error, UserErrors) else (error,):
        one.fix = changed_commands(one.fix, change)
    return error


class UserErrors(UserError):
    """Several mistakes of one file, reported together rather than one a run."""

    def __init__(self, errors: Iterable[UserError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(error.line() for error in self.errors))

    def lines(self) -> list[str]:
        """Return one line for each mistake."""
        return [line for error in self.errors for line in error.lines()]


def unreadable(path: Path, error: OSError | ValueError) -> UserError:
    """Return that a file cannot be read, and what the system, or Python of a path, says of it."""
    what = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    return UserError(what, where=str(path), fix="check the path")


def column_of(error: json.JSONDecodeError) -> str:
    """Return what is wrong with a line of JSON, and at which column; some words end in "at"."""
    return f"{error.msg.removesuffix(' at')} at column {error.colno}"


def every_mistake(checks: Iterable[Callable[[], object]]) -> None:
    """Make all the checks, and raise what they raised together.

    Raises:
        UserError: The mistakes, each once, in the order of the checks.
    """
    errors: dict[str, UserError] = {}
    for check in checks:
        try:
            check()
        except UserError as error:
            errors.setdefault(str(error), error)
    if errors:
        raise UserErrors(errors.values())


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``'did you mean …?'`` for the known name nearest to ``name``, or an empty string."""
    from difflib import get_close_matches

    matches = get_close_matches(name, list(known), n=1)
    return f"did you mean '{matches[0]}'?" if matches else ""
