"""Argilla's background jobs: status after a change of distribution, webhooks, import and export."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
from household import die_with_parent
from rq import Worker
from rq.job import Job
from rq.queue import Queue
from rq.registry import ScheduledJobRegistry, StartedJobRegistry

_LOGGER = logging.getLogger("persona")
QUEUES = (HIGH_QUEUE, DEFAULT_QUEUE)


class _Worker(Worker):
    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Perform one job in a process of its own, which does not outlive the worker."""
        die_with_parent(os.getppid())
        super().main_work_horse(job, queue)


def fork_worker(close: list[int]) -> int:
    """Start the worker and return its process id.

    A fork shares Argilla's code with the server: a second process would cost 250 MB and seconds.
    It must happen while this process has one thread and no open connection.

    Args:
        close: File descriptors that belong to the launcher alone (its lock).
    """
    launcher = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        for descriptor in close:
            os.close(descriptor)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with_parent(launcher)
        _Worker(QUEUES, connection=REDIS_CONNECTION).work(logging_level="WARNING")
        status = 0
    finally:
        os._exit(status)


def take_up_abandoned() -> int:
    """Queue again the jobs that were running when a server was killed; return how many."""
    taken = 0
    for queue in QUEUES:
        registry = StartedJobRegistry(queue=queue)
        # Read as it lies: rq's own listing would give up those whose retries are spent.
        for job_id in REDIS_CONNECTION.zrange(registry.key, 0, -1):
            registry.remove(job_id.decode())
            queue.enqueue_job(Job.fetch(job_id.decode(), connection=REDIS_CONNECTION))
            taken += 1
    return taken


def retry_in_background() -> None:
    """Queue, each second, the failed webhook calls whose time to try again has come.

    rq would do this in one more process; here a thread of the server does.
    """
    threading.Thread(target=_retry_forever, name="retries", daemon=True).start()


def _retry_forever() -> None:
    registries = [(queue, ScheduledJobRegistry(queue=queue)) for queue in QUEUES]
    while True:
        time.sleep(1)
        for queue, registry in registries:
            for job_id in registry.get_jobs_to_schedule():
                registry.remove(job_id)
                queue.enqueue_job(Job.fetch(job_id, connection=REDIS_CONNECTION))
