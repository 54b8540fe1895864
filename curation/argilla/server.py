"""Start, stop and ask after the embedded Argilla server, a process in its own environment.

Where a home is connected to another Argilla, that one is what is found running.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.argilla.client import is_loopback
from curation.argilla.server_home import Login, Secrets, ServerHome, ensure_accounts
from curation.argilla.server_link import accounts_of, link_of
from workbench.errors import UserError

__all__ = [
    "Login",
    "Server",
    "ServerHome",
    "Status",
    "shared_url",
    "show_logins",
    "start",
    "status",
    "stop",
]

PYTHON_VARIABLE = "PERSONA_ARGILLA_PYTHON"
DEFAULT_PORT = 6900
_ROOT = Path(__file__).resolve().parent
_LAUNCHER = _ROOT / "embedded" / "launch.py"
_EXIT_HELD = 3  # of launch.py: another server took the home in the meantime
_STAGES = {
    "redis": "starting Redis",
    "argilla": "loading Argilla",
    "database": "preparing the database",
    "ready": "signing in",
}
_MAX_LOG = 2**20  # bytes; a longer log is begun anew at the next start
_LOGGER = logging.getLogger(__name__)
_STARTED: dict[int, subprocess.Popen[bytes]] = {}  # children of this process, to be reaped

Progress = Callable[[str], None]
"""Called with each stage of starting, in a few words."""


@dataclass(frozen=True)
class Server:
    """A running server and its accounts; secrets stay out of ``repr``.

    A connected Argilla has ``pid`` 0, and the passwords of its accounts are unknown.
    """

    url: str
    port: int
    pid: int
    owner_api_key: str = field(repr=False)
    logins: Mapping[str, Login] = field(repr=False)


@dataclass(frozen=True)
class Status:
    """What is known of a home's server: ``stopped``, a stage of starting, or ``ready``."""

    stage: str
    url: str = ""
    pid: int = 0

    @property
    def running(self) -> bool:
        """Whether a process holds the home, ready or not."""
        return self.stage != "stopped"


def start(
    home: ServerHome,
    reviewers: Sequence[str],
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    timeout: float = 300.0,
    reuse: bool = False,
    embedded: bool = False,
    progress: Progress | None = None,
) -> Server:
    """Start the server of ``home``, detached, and return when a person can sign in.

    Args:
        home: Where its database and secrets lie; made at the first start.
        reviewers: User names that get an account and the workspace; more may come at later starts.
        port: Must be free when given; else the home's last port or 6900, or any free one.
        host: The address to listen on; another than loopback is warned of.
        timeout: Seconds to wait until it is usable.
        reuse: Return the server that runs on this home already, or the Argilla that the home is
            connected to, instead of refusing.
        embedded: Mean the embedded server, whatever the home is connected to.
        progress: Called with each stage of starting.

    Raises:
        UserError: It runs already, the port is taken, its environment is missing, or it did not
            become usable; then nothing of it is left running.
    """
    progress = progress or (lambda _stage: None)
    if reuse and not embedded and (link := link_of(home)):
        connection = link.connection()
        return Server(connection.url, 0, 0, connection.api_key, accounts_of(connection))
    home.create()
    accounts = home.secrets().with_reviewers(reviewers)
    if home.holder() is not None:
        if not reuse:
            raise _held(home)
        return _usable(home, None, timeout, progress, reviewers)
    child = _launch(home, accounts, host, port)
    try:
        return _usable(home, child, timeout, progress, reviewers)
    except BaseException:
        if child.process.poll() is None:
            stop(home, timeout=10)
        raise


def _launch(home: ServerHome, accounts: Secrets, host: str, port: int | None) -> _Child:
    if port is not None and _is_taken(host, port):
        raise UserError(
            f"port {port} is taken",
            where=f"{host}:{port}",
            fix="leave the port out to get a free one, or stop what listens there",
        )
    if not is_loopback(host):
        _LOGGER.warning("warning: Argilla will listen on %s, open to other machines", host)
    home.save(accounts)
    wanted = port or int(home.state().get("port", DEFAULT_PORT))
    return _spawn(home, host, wanted, strict=port is not None)


def stop(home: ServerHome, timeout: float = 30.0) -> bool:
    """Stop the server of ``home`` with its Redis and worker; return whether one ran.

    Every response that was answered is kept. A server that does not end in ``timeout`` seconds is
    killed.
    """
    pid = home.holder()
    if pid is None:
        return False
    _signal(pid, signal.SIGTERM)
    if not _wait(lambda: home.holder() is None, timeout):
        _signal(pid, signal.SIGKILL)  # Redis and the worker end with it
        _wait(lambda: home.holder() is None, 10)
    if (child := _STARTED.pop(pid, None)) is not None:
        child.wait()
    return True


def status(home: ServerHome, *, embedded: bool = False) -> Status:
    """Return whether a server runs on ``home``, and where.

    A connected Argilla counts as ready without being asked, unless the ``embedded`` is meant.
    """
    if not embedded and (linked := link_of(home)):
        return Status("ready", url=linked.url)
    pid = home.holder()
    if pid is None:
        return Status("stopped")
    state = home.state()
    if state.get("stage") != "ready":
        return Status(str(state.get("stage", "starting")), pid=pid)
    return Status("ready", url=_url(str(state["host"]), int(state["port"])), pid=pid)


def show_logins(home: ServerHome) -> list[Login]:
    """Return the owner's and the reviewers' accounts: the one way in which secrets are shown.

    None for a connected Argilla, whose passwords its people know themselves.
    """
    if link_of(home):
        return []
    accounts = home.secrets()
    return [accounts.owner, *accounts.reviewers.values()]


@dataclass(frozen=True)
class _Child:
    """A server that this process starts, and where in the log its own lines begin."""

    process: subprocess.Popen[bytes]
    log_from: int


def _spawn(home: ServerHome, host: str, port: int, *, strict: bool) -> _Child:
    command = [str(server_python()), str(_LAUNCHER), str(home.path), "--host", host]
    command += ["--port", str(port), *(["--strict-port"] if strict else [])]
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    descriptor = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    log_from = os.fstat(descriptor).st_size
    if log_from > _MAX_LOG:
        os.truncate(descriptor, 0)
        log_from = 0
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            cwd=home.path,
            env=environment,
        )
    finally:
        os.close(descriptor)
    _STARTED[process.pid] = process
    return _Child(process, log_from)


def server_python() -> Path:
    """Return the Python of the server's environment.

    Raises:
        UserError: It is not installed.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    python = Path(named) if named else _ROOT.parents[1] / ".venv-argilla" / "bin" / "python"
    if not python.exists():
        raise UserError(
            "the environment of the Argilla server is not installed",
            where=str(python),
            fix="run `make setup`",
        )
    return python


def _usable(
    home: ServerHome,
    child: _Child | None,
    timeout: float,
    progress: Progress,
    reviewers: Sequence[str],
) -> Server:
    deadline = time.monotonic() + timeout
    stage = ""
    while stage != "ready":
        if child is not None and child.process.poll() is not None:
            raise _ended(home, child)
        if child is None and home.holder() is None:
            raise UserError("the running server ended", where=str(home.path), fix="start it again")
        if time.monotonic() > deadline:
            raise UserError(
                f"Argilla was not usable after {timeout:.0f} s (at: {_STAGES.get(stage, 'start')})",
                where=str(home.log),
                fix="wait longer, or read the log",
            )
        state = home.state()
        of_another = child is not None and state.get("pid") != child.process.pid
        seen = "" if of_another else str(state.get("stage", ""))
        if seen != stage and seen in _STAGES:
            progress(_STAGES[seen])
        stage = seen
        time.sleep(0.05)
    state = home.state()
    url = _url(str(state["host"]), int(state["port"]))
    accounts = ensure_accounts(home, url, reviewers)
    return Server(
        url=url,
        port=int(state["port"]),
        pid=int(state["pid"]),
        owner_api_key=accounts.owner.api_key,
        logins={accounts.owner.username: accounts.owner, **accounts.reviewers},
    )


def _ended(home: ServerHome, child: _Child) -> UserError:
    code = child.process.returncode
    if code == _EXIT_HELD:
        return _held(home)
    reason = str(home.state().get("reason") or home.last_log_line(child.log_from) or "nothing")
    return UserError(
        f"the Argilla server ended with exit code {code}, saying: {reason}",
        where=str(home.log),
        fix="read the log",
    )


def _held(home: ServerHome) -> UserError:
    holder = status(home, embedded=True)
    return UserError(
        f"an Argilla server already runs on this home "
        f"(process {holder.pid}, {holder.url or 'starting'})",
        where=str(home.path),
        fix="use it, stop it with `persona review down`, or choose another home",
    )


def _url(host: str, port: int) -> str:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def shared_url(home: ServerHome, url: str) -> str:
    """Return ``url`` as other machines open it, where the embedded server listens to all of them.

    The first address of an interface stands in for loopback; without one nothing changes.
    """
    if link_of(home) or home.state().get("host") not in ("0.0.0.0", "::"):
        return url
    import psutil

    addresses = (one for part in psutil.net_if_addrs().values() for one in part)
    hosts = (one.address for one in addresses if one.family == socket.AF_INET)
    host = next((host for host in hosts if not is_loopback(host)), "127.0.0.1")
    return re.sub(r"//(127\.0\.0\.1|\[::1\])", f"//{host}", url, count=1)


def _is_taken(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _signal(pid: int, number: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if str(_LAUNCHER) in process.cmdline():  # never another process that got its number
            process.send_signal(number)


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
