"""Run the embedded Argilla server on a home folder until it is asked to stop.

``python launch.py HOME --host HOST --port PORT [--strict-port]``, with the Python of the server's
own environment. It holds a lock on the home, writes ``server.json`` at each step and, when
everything answers, with the stage ``ready``. Redis and the job worker end with it, however it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from household import HouseholdError, Redis

EXIT_HELD, EXIT_FAILED = 3, 4


def main() -> int:
    """Parse the command line, run the server, return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6900)
    parser.add_argument("--strict-port", action="store_true")
    options = parser.parse_args()
    os.umask(0o077)
    home = options.home.resolve()
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return EXIT_HELD
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    redis = Redis(home / "redis")
    try:
        with _listen(options.host, options.port, strict=options.strict_port) as listener:
            _serve(home, options.host, listener, redis, lock)
        return 0
    except HouseholdError as problem:
        _publish(home, stage="failed", reason=str(problem))
        return EXIT_FAILED
    finally:
        redis.stop()
        shutil.rmtree(home / "tmp", ignore_errors=True)


def _serve(home: Path, host: str, listener: socket.socket, redis: Redis, lock: int) -> None:
    port = listener.getsockname()[1]
    at = {"host": host, "port": port}
    _publish(home, stage="redis", **at)
    redis.start()
    secrets = json.loads((home / "secrets.json").read_text(encoding="utf-8"))
    _configure(home, redis.url, secrets["auth_secret"])

    _publish(home, stage="argilla", **at)
    import database
    import jobs
    import pages
    import uvicorn

    _publish(home, stage="database", **at)
    database.load_names_of_vectors()
    database.migrate(home / "argilla.db")
    jobs.spare_unheard_events()
    jobs.take_up_abandoned()
    ready = {"stage": "ready", **at, "redis": redis.pid}
    worker = jobs.JobWorker(lambda pid: _publish(home, **ready, worker=pid))
    worker.fork(close=[lock, listener.fileno()])
    try:
        asyncio.run(database.ensure_owner(**secrets["owner"]))

        class Announced(uvicorn.Server):
            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                if self.started:
                    _publish(home, **ready, worker=worker.pid)
                    worker.watch()

        from argilla_server import app  # after the fork, which must not hold its connections

        config = uvicorn.Config(
            pages.adapt(app),
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
        )
        Announced(config).run(sockets=[listener])
    finally:
        worker.end()


def _configure(home: Path, redis_url: str, auth_secret: str) -> None:
    """Set what Argilla reads from the environment, before it is imported."""
    for name in [name for name in os.environ if name.startswith("ARGILLA_")]:
        del os.environ[name]
    temporary = home / "tmp"  # Argilla copies its web pages into a temporary folder at each start
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # "0" lets import from and export to the Hub work
    os.environ.update(
        TMPDIR=str(temporary),
        HF_HUB_DISABLE_TELEMETRY="1",
        ARGILLA_HOME_PATH=str(home),
        ARGILLA_DATABASE_URL=f"sqlite+aiosqlite:///{home / 'argilla.db'}?check_same_thread=False",
        ARGILLA_DATABASE_SQLITE_TIMEOUT="30",
        ARGILLA_REDIS_URL=redis_url,
        ARGILLA_SEARCH_ENGINE="sqlite",
        ARGILLA_AUTH_SECRET_KEY=auth_secret,
        ARGILLA_CORS_ORIGINS="[]",
        ARGILLA_SHOW_HUGGINGFACE_SPACE_PERSISTENT_STORAGE_WARNING="false",
    )


def _listen(host: str, port: int, *, strict: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for wanted in (port,) if strict else (port, 0):
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
            # At once: until somebody listens, another server could bind the same port.
            listener.listen()
            return listener
        except OSError as problem:
            listener.close()
            reason = f"cannot listen on {host} port {wanted}: {problem.strerror}"
    raise HouseholdError(reason)


def _publish(home: Path, **state: Any) -> None:
    """Write ``server.json``, whole or not at all."""
    draft = home / "server.json.part"
    draft.write_text(json.dumps({"pid": os.getpid(), **state}), encoding="utf-8")
    draft.replace(home / "server.json")


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
