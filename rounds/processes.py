"""A command at work on a round, as a process of its own that outlives whoever started it.

In: a round and a command line. Out: that it was started, what it prints, and how it ended. The
pages start stages through here: closing them, or ending their server, stops nothing. What is
known of the process lies in the round's folder, so that a server started later knows it as well.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
from pydantic import ValidationError

from rounds.layout import RoundFolder
from workbench.errors import UserError
from workbench.store import MIB, locked, write_json
from workbench.values import Frozen

STATE, LOG, EXIT = ".process.json", ".process.log", ".process.exit"
_LOCK = ".process.lock"
_PATIENCE = 10.0
"""Seconds that a stopped command has to end by itself, before it is killed."""
_TRIES = 2
"""Interrupts: the first may come before there is anything to interrupt."""
_TAIL = 64 * 1024
"""Bytes of a log's end that are read."""
_RUN = 'trap : INT; "$@" > "$LOG" 2>&1 < /dev/null; echo $? > "$EXIT"'


class RoundProcess(Frozen):
    """A command that was started on a round."""

    pid: int
    """Of the shell around it, which writes down how it ended."""
    created: float
    """When the system made that process: another one may get its number later."""
    command: tuple[str, ...]
    """As a person would type it."""
    started: str
    """ISO 8601 in UTC."""

    @property
    def line(self) -> str:
        """The command as one line for a shell."""
        return shlex.join(self.command)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return _process(self) is not None


def _process(state: RoundProcess) -> psutil.Process | None:
    try:
        process = psutil.Process(state.pid)
        same = abs(process.create_time() - state.created) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def last_process(one: RoundFolder) -> RoundProcess | None:
    """Return the command that was last started on a round; None where none ever was."""
    try:
        text = (one.folder / STATE).read_text(encoding="utf-8")
        return RoundProcess.model_validate_json(text)
    except (OSError, ValidationError):
        return None


def running(one: RoundFolder) -> RoundProcess | None:
    """Return the command at work on a round that was started here; None where there is none."""
    last = last_process(one)
    return last if last and last.alive else None


def exit_code(one: RoundFolder) -> int | None:
    """Return how the last command ended; None while it runs, and where it was killed."""
    try:
        return int((one.folder / EXIT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def start(
    one: RoundFolder, argv: Sequence[str], command: Sequence[str], cwd: Path | None = None
) -> RoundProcess:
    """Start a command on a round and return at once.

    Args:
        one: The round; its folder is made where it is not there.
        argv: The program and its arguments.
        command: The same as a person would type it, for whoever looks.
        cwd: Where it runs; here by default.

    Raises:
        UserError: Another command is at work on the round, here or in a terminal.
    """
    with locked(one.folder / _LOCK, one.folder):
        if current := running(one):
            raise UserError(
                f"{current.line} is at work there",
                where=str(one.folder),
                fix="wait for it, or stop it",
            )
        with one.locked():
            (one.folder / EXIT).unlink(missing_ok=True)
        # For its owner alone: `persona review up` prints logins.
        (one.folder / LOG).unlink(missing_ok=True)
        (one.folder / LOG).touch(mode=0o600)
        paths = {"LOG": str(one.folder / LOG), "EXIT": str(one.folder / EXIT)}
        paths = {name: str(Path(path).absolute()) for name, path in paths.items()}
        process = subprocess.Popen(
            ["/bin/sh", "-c", _RUN, "sh", *argv],
            env={**os.environ, **paths, "PYTHONUNBUFFERED": "1"},
            cwd=cwd,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _CHILDREN[process.pid] = process
        state = RoundProcess(
            pid=process.pid,
            created=psutil.Process(process.pid).create_time(),
            command=tuple(command),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_json(one.folder / STATE, state.model_dump(mode="json"))
    return state


_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Kept so that those of this process are waited for when they end."""


def stop(one: RoundFolder) -> bool:
    """Stop the command that was started on a round, and return whether one ran.

    It is interrupted as by Ctrl-C, and killed where it does not end; nothing finished is lost.
    """
    state = running(one)
    process = _process(state) if state else None
    if process is None:
        return False
    for _ in range(_TRIES):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        if not psutil.wait_procs([process], timeout=_PATIENCE / _TRIES)[1]:
            break
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs([process], timeout=_PATIENCE)
    if child := _CHILDREN.pop(process.pid, None):
        child.poll()
    return True


def memory_mib(state: RoundProcess) -> float:
    """Return the memory of a command and all that it started, in MiB; 0 where it has ended."""
    process = _process(state)
    if process is None:
        return 0.0
    size = 0
    for one in process.children(recursive=True):
        with suppress(psutil.Error):
            size += one.memory_info().rss
    return size / MIB


def log_lines(one: RoundFolder, most: int = 200) -> list[str]:
    """Return the last lines that the last command printed, at most so many."""
    try:
        with (one.folder / LOG).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return text.replace("\r", "\n").splitlines()[-most:]
