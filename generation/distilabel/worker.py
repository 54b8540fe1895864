"""The process that runs distilabel: jobs come on standard input, news goes to standard output.

It lives as long as its standard input is open, and its own workers live as long as it does.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue

from generation.distilabel.jobs import Job, Served, send_news, send_news_to
from workbench.errors import UserError
from workbench.inference.completion import Completion
from workbench.store import atomic_file, read_json_lines

_PR_SET_PDEATHSIG = 1


def main(workdir: Path) -> None:
    """Run the jobs that come, until standard input closes."""
    send_news_to(os.dup(1))
    # Whatever a library prints goes to the log, which is where standard error already goes.
    os.dup2(2, 1)
    _tie_children()
    jobs: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    while True:
        job = Job.model_validate_json(jobs.get())
        try:
            _run(job, workdir)
        except (UserError, RuntimeError, OSError, ValueError, KeyError) as error:
            traceback.print_exc()
            cause = error.__cause__ or error
            line = " ".join(f"{cause}".split())[:600] or type(cause).__name__
            send_news(error=line, mendable=isinstance(cause, UserError))
        else:
            send_news(finished=job.name)


def _listen(jobs: SimpleQueue[str]) -> None:
    """Hand on the lines of standard input; when it closes, end the whole group at once."""
    # Unbuffered: a fork must not inherit the lock of a buffered reader.
    with open(0, "rb", buffering=0, closefd=False) as stream:
        while line := stream.readline():
            jobs.put(line.decode())
    os.killpg(0, signal.SIGKILL)


def _tie_children() -> None:
    """Let the kernel end every child that this process forks when this process ends."""
    if sys.platform != "linux":
        return
    libc, parent = ctypes.CDLL(None), os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    os.register_at_fork(after_in_child=tie)


def _run(job: Job, workdir: Path) -> None:
    from generation.distilabel.pipeline import COMPLETION_COLUMN, prompt_pipeline

    pipelines = workdir / "pipelines"
    rows = [row for _, row in read_json_lines(job.rows)]
    try:
        # Distilabel's own cache hangs after a kill; the LLM keeps answers below it.
        if job.cluster and isinstance(job.llm, Served):
            from generation.distilabel.cluster import bookkeeping

            with bookkeeping(job.cluster, job.llm.cache) as name:
                pipeline = prompt_pipeline(job, rows, pipelines, name)
                answered = pipeline.ray().run(use_cache=False)["default"]["train"]
        else:
            pipeline = prompt_pipeline(job, rows, pipelines)
            answered = pipeline.run(use_cache=False)["default"]["train"]
        with atomic_file(job.completions) as file:
            for row in answered:
                text = row.get(COMPLETION_COLUMN)
                ended = Completion.model_validate_json(text).model_dump_json() if text else "null"
                file.write(f'{{"key": {row["key"]}, "completion": {ended}}}\n')
    finally:
        shutil.rmtree(pipelines, ignore_errors=True)
        shutil.rmtree(workdir / "datasets", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
