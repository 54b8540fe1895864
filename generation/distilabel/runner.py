"""Distilabel in a process of its own, which ends whenever this one does.

Distilabel forks its workers, clears the root logger's handlers and takes over SIGINT. After torch
has computed in a process, a fork of it can hang; so pipelines never run in the caller's process.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import psutil

from generation.distilabel.jobs import Cluster, Job, LocalModel, News, Served
from workbench.console import console, track
from workbench.errors import UserError
from workbench.inference.client import left_out_line
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.records import Messages, as_messages
from workbench.store import atomic_file, cannot_write, read_json_lines

LOG = "distilabel.log"
_LOOK_EVERY = 1.0
_SILENCE_AFTER_DEATH = 15.0
"""Seconds without news after a worker is gone until the job is given up."""


class Distilabel:
    """A process that runs pipelines one after another; use it as a context manager.

    Args:
        workdir: Folder for the log, intermediate rows and distilabel's own files.
        cluster: Where endpoints are asked from; processes of this machine by default.
    """

    def __init__(self, workdir: Path, cluster: Cluster | None = None) -> None:
        self.workdir, self.cluster = workdir.resolve(), cluster
        self._ray = TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self.log = self.workdir / LOG
        self._left_out: dict[str, set[str]] = defaultdict(set)
        """Endpoint → fields that it does not take, so that no job asks and tells again."""

    def __enter__(self) -> Self:
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        except OSError as error:
            raise cannot_write(self.log, error) from None
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "generation.distilabel.worker", str(self.workdir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ray's sockets need a short path, and its logs are not for keeping.
                env={**_environment(self.workdir), "RAY_TMPDIR": self._ray.name},
                # Its own group, so that it ends as a whole; Ctrl-C reaches it through us alone.
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):
                stream.close() if stream else None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._ray.cleanup()

    def run(
        self, name: str, prompts: Sequence[Messages], llm: LocalModel | Served, *, label: str
    ) -> list[Completion]:
        """Run one pipeline and return one completion for each prompt, in their order.

        Raises:
            UserError: The pipeline could not run, was killed, or lost a row; the log says more.
        """
        if not prompts:
            return []
        if isinstance(llm, Served):
            left_out = tuple(sorted(self._left_out[llm.endpoint.name]))
            llm = llm.model_copy(update={"left_out": left_out})
        job = Job(
            name=f"{name}-{time.time_ns()}",
            rows=self.workdir / f"{name}.prompts.jsonl",
            completions=self.workdir / f"{name}.completions.jsonl",
            llm=llm,
            cluster=self.cluster if isinstance(llm, Served) and not llm.endpoint.batch else None,
        )
        with atomic_file(job.rows) as file:
            for key, prompt in enumerate(prompts):
                row = {"key": key, "messages": as_messages(prompt)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(job.model_dump_json().encode() + b"\n")
            self.process.stdin.flush()
        with track(label, len(prompts)) as advance:
            self._follow(advance, llm)
        ended = {row["key"]: row["completion"] for _, row in read_json_lines(job.completions)}
        if missing := [key for key in range(len(prompts)) if not ended.get(key)]:
            raise self._broken(f"distilabel lost {len(missing)} of {len(prompts)} rows")
        job.rows.unlink()
        job.completions.unlink()
        return [Completion.model_validate(ended[key]) for key in range(len(prompts))]

    def _follow(self, advance: Callable[..., None], llm: LocalModel | Served) -> None:
        """Show the progress until the job says that it is done."""
        price = llm.endpoint.rate if isinstance(llm, Served) else None
        paid = llm.spent if isinstance(llm, Served) else 0.0
        failed, limited, done, started = 0, 0, 0, time.monotonic()
        for news in self._news():
            if "error" in news:
                what = str(news["error"])
                raise UserError(what) if news["mendable"] else self._broken(what)
            if "finished" in news:
                return
            if "note" in news:
                console.print(f"  {news['note']}", markup=False)
            if "left_out" in news and isinstance(llm, Served):
                self._learn(llm.endpoint, str(news["left_out"]))
            if "done" in news:
                failed += news.get("failed", 0)
                limited += news.get("limited", 0)
                paid += news.get("paid", 0.0)
                done += news["done"]
                notes = [f"{done / max(time.monotonic() - started, 0.001):.1f}/s"]
                notes += [f"cost {paid:.4f} {price.currency}"] if price else []
                notes += [f"{failed} failed"] if failed else []
                notes += [f"slowed down by {limited} rate limits"] if limited else []
                advance(news["done"], note=", ".join(notes))
        raise self._broken("the process that runs distilabel ended before its job did")

    def _learn(self, endpoint: Endpoint, name: str) -> None:
        """Tell once that an endpoint does not take a field."""
        if name not in self._left_out[endpoint.name]:
            self._left_out[endpoint.name].add(name)
            console.print(f"  {left_out_line(endpoint, name)}", markup=False)

    def _news(self) -> Iterator[News]:
        """Yield the job's news; stop when it ends, or when its worker is gone for good."""
        assert self.process.stdout is not None
        # Distilabel waits for ever for a worker that was killed, so somebody must look.
        worker, last, rest = 0, time.monotonic(), b""
        descriptor = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while True:
                if selector.select(_LOOK_EVERY):
                    chunk = os.read(descriptor, 65536)
                    if not chunk:
                        return
                    *lines, rest = (rest + chunk).split(b"\n")
                    last = time.monotonic()
                    for line in lines:
                        news = json.loads(line)
                        worker = news.get("worker", worker)
                        yield news
                elif worker and not psutil.pid_exists(worker):
                    if time.monotonic() - last > _SILENCE_AFTER_DEATH:
                        return
                else:
                    last = time.monotonic()

    def _broken(self, what: str) -> UserError:
        return UserError(what, where=str(self.log), fix="its last lines say why; then run it again")


def _environment(workdir: Path) -> dict[str, str]:
    """Return the process's environment: offline, and writing nowhere but in ``workdir``."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{here}{os.pathsep}{path}" if path else here,
        "PYTHONUNBUFFERED": "1",
        "HF_DATASETS_CACHE": str(workdir / "datasets"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "DISTILABEL_LOG_LEVEL": "INFO",
        "TOKENIZERS_PARALLELISM": "false",
        "COLUMNS": "160",
    }
