"""Argilla's background jobs: status after a change of distribution, webhooks, import and export."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime

from argilla_server.contexts.webhooks import list_enabled_webhooks
from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
from argilla_server.models import Record
from argilla_server.webhooks.v1 import records as record_events
from argilla_server.webhooks.v1.enums import RecordEvent
from argilla_server.webhooks.v1.event import Event
from household import die_with_parent
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry, StartedJobRegistry
from sqlalchemy.ext.asyncio import AsyncSession

_LOGGER = logging.getLogger("persona")
QUEUES = (HIGH_QUEUE, DEFAULT_QUEUE)


def spare_unheard_events() -> None:
    """Let Argilla describe a record to webhooks only where there is one.

    For each record of a bulk request it reads the dataset's settings anew and copies the record,
    then finds that nobody listens: nearly half of the time of a push.
    """
    build = record_events.build_record_event

    async def build_if_heard(db: AsyncSession, event: RecordEvent, record: Record) -> Event:
        if await list_enabled_webhooks(db):
            return await build(db, event, record)
        return _Unheard(event, datetime.utcnow(), {})

    record_events.build_record_event = build_if_heard


class _Unheard(Event):
    async def notify(self, db: AsyncSession) -> list[Job]:
        return []


class _Worker(Worker):
    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Perform one job in a process of its own, which does not outlive the worker."""
        die_with_parent(os.getppid())
        super().main_work_horse(job, queue)


class JobWorker:
    """The process that performs the jobs, and a thread that watches over it and them."""

    def __init__(self, replaced: Callable[[int], None]) -> None:
        """Remember whom to tell the process id of a worker that took another's place."""
        self.pid = 0
        self._replaced = replaced
        self._ending = threading.Event()

    def fork(self, close: list[int]) -> None:
        """Start the worker.

        A fork shares Argilla's code with the server: a second process would cost 250 MB and
        seconds. It must happen while this process has one thread and no open connection.

        Args:
            close: File descriptors that belong to the launcher alone (its lock, its port).
        """
        launcher = os.getpid()
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            for descriptor in close:
                os.close(descriptor)
            work(launcher)
            status = 0
        finally:
            os._exit(status)

    def watch(self) -> None:
        """Each second, in a thread: replace a dead worker, and queue retries that are due.

        rq would queue the retries (of webhook calls) from one more process.
        """
        threading.Thread(target=self._watch, name="jobs", daemon=True).start()

    def _watch(self) -> None:
        scheduled = [(queue, ScheduledJobRegistry(queue=queue)) for queue in QUEUES]
        while not self._ending.wait(1):
            if self._has_ended():
                _LOGGER.warning("the job worker ended; another takes its place")
                take_up_abandoned()
                command = [sys.executable, __file__, str(os.getpid())]
                self.pid = subprocess.Popen(command).pid  # no fork: this process has threads now
                self._replaced(self.pid)
            for queue, registry in scheduled:
                for job_id in registry.get_jobs_to_schedule():
                    registry.remove(job_id)
                    _enqueue(queue, job_id)

    def _has_ended(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True

    def end(self, patience: float = 10.0) -> None:
        """Let the worker finish its job; after ``patience`` seconds end it and the job."""
        self._ending.set()
        deadline = time.monotonic() + patience
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):  # rq: warm, then cold
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
            while time.monotonic() < deadline:
                if self._has_ended():
                    return
                time.sleep(0.02)
            deadline += 3


def take_up_abandoned() -> None:
    """Queue again the jobs that were running when their worker was killed."""
    for queue in QUEUES:
        registry = StartedJobRegistry(queue=queue)
        # Read as it lies: rq's own listing would give up those whose retries are spent.
        for job_id in REDIS_CONNECTION.zrange(registry.key, 0, -1):
            registry.remove(job_id.decode())
            _enqueue(queue, job_id.decode())


def _enqueue(queue: Queue, job_id: str) -> None:
    with contextlib.suppress(NoSuchJobError):  # its result was no longer wanted
        queue.enqueue_job(Job.fetch(job_id, connection=REDIS_CONNECTION))


def work(launcher: int) -> None:
    """Perform jobs until the launcher, whose process id is given, ends or asks to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(launcher)
    _Worker(QUEUES, connection=REDIS_CONNECTION).work(logging_level="WARNING")


if __name__ == "__main__":
    import engine  # noqa: F401  # registers the search engine that jobs ask for

    work(int(sys.argv[1]))
