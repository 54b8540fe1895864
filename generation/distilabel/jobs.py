"""What the process that runs distilabel is asked to do, and the news that it sends meanwhile.

Both sides import it, so nothing heavy is imported here. News goes from a pipeline's processes to
the command that waits for it, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from workbench.config import LOCAL, GenerateSettings
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import MAX_TOKENS
from workbench.inference.judge import VALUES, reply_schema
from workbench.inference.reply import Schema

_EVERY = 0.1
"""Seconds between two messages of a tally."""
News = dict[str, Any]
"""One message: counts such as ``done``, the ``worker``, an ``error``, or what is ``finished``."""
_pipe: int | None = None
_carrier: Callable[[News], object] | None = None


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Questions(BaseModel):
    """New questions of one topic."""

    model_config = ConfigDict(extra="forbid")

    questions: list[Line]


class ResponseSchema(NamedTuple):
    """What a JSON answer must hold, and how it is asked for."""

    model: Schema
    by_words: bool = False
    """See :attr:`workbench.inference.exchange.EndpointRequest.by_words`."""


QUESTIONS = "questions"
VERDICT = "verdict"
SCHEMAS = {
    QUESTIONS: ResponseSchema(Questions),
    VERDICT: ResponseSchema(reply_schema(tuple(VALUES)), by_words=True),
}
"""The response schemas by name: it crosses the border of processes."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LocalModel(_Settings):
    """Greedy answers of a model in a folder."""

    kind: Literal["local"] = "local"
    folder: Path
    max_new_tokens: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    seed: int = 0


class Served(_Settings):
    """Answers of an endpoint."""

    kind: Literal["served"] = "served"
    endpoint: Endpoint
    cache: Path
    """The file of answers that were already paid for."""
    step: str = ""
    """Name under which the file counts what this job takes."""
    schema_name: str = ""
    """Name of the response schema that is asked for, or empty for text."""
    temperature: float = Field(default=0.7, ge=0)
    max_new_tokens: int = Field(default=MAX_TOKENS, ge=1)
    accept_cut: bool = False
    """Whether an answer that was cut off counts as one."""
    seed: int = 0
    budget: float | None = Field(default=None, ge=0)
    """Money that this job may spend, in the currency of the endpoint's price."""
    spent: float = 0.0
    """Money that was spent before it, for progress."""
    left_out: tuple[str, ...] = ()
    """Fields of a request that the server is known not to take."""
    bookkeeper: str = ""
    """Name of the Ray actor that keeps the file, where the requests are made from a cluster."""

    def share(self, workers: int, bookkeeper: str) -> Served:
        """Return what one of several workers does, each with its part of the bounds."""
        endpoint = self.endpoint
        parts: dict[str, Any] = {"concurrency": max(1, endpoint.concurrency // workers)}
        for name in ("requests_per_minute", "tokens_per_minute"):
            if limit := getattr(endpoint, name):
                parts[name] = limit / workers
        changes: dict[str, Any] = {
            "endpoint": endpoint.model_copy(update=parts),
            "budget": None if self.budget is None else self.budget / workers,
            "bookkeeper": bookkeeper,
        }
        return self.model_copy(update=changes)


class Cluster(_Settings):
    """The Ray cluster that a pipeline runs on."""

    address: str = ""
    """``HOST:PORT`` or ``auto``, of a cluster that this machine is a node of; empty starts one on
    this machine for as long as the job lasts."""
    workers: int = Field(default=2, ge=1)
    """Processes that ask; they share the endpoint's concurrency and the budget."""

    @classmethod
    def of(cls, settings: GenerateSettings) -> Cluster | None:
        """Return the cluster that a configuration names; None for processes of this machine."""
        if settings.ray is None:
            return None
        address = "" if settings.ray == LOCAL else settings.ray
        return cls(address=address, workers=settings.ray_workers)


class Job(_Settings):
    """One run of the pipeline."""

    name: str
    rows: Path
    """JSONL of ``{"key": int, "messages": […]}``."""
    completions: Path
    """Where ``{"key": int, "completion": Completion}`` goes."""
    llm: Annotated[LocalModel | Served, Field(discriminator="kind")]
    cluster: Cluster | None = None
    """Where the pipeline runs; processes of this machine by default."""


def send_news_to(descriptor: int) -> None:
    """Send the news of this process, and of all that it forks, to an open file descriptor."""
    global _pipe
    _pipe = descriptor


def send_news_by(carrier: Callable[[News], object]) -> None:
    """Send the news of this process by a function: no pipe reaches it."""
    global _carrier
    _carrier = carrier


def send_news(**news: Any) -> None:
    """Send news; without a listener, as in anyone's own pipeline, it is dropped."""
    if _carrier is not None:
        _carrier(news)
    elif _pipe is not None:
        # One write below the pipe's atomic size, so that processes do not mix their lines.
        os.write(_pipe, json.dumps(news).encode()[:4000] + b"\n")


class Tally:
    """Counts that are sent now and then, as a listener that wakes for each of them costs time."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}
        self._sent = time.monotonic()

    def add(self, **counts: float) -> None:
        """Count, and send what came together since the last time if that is a while ago."""
        for name, count in counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
        if time.monotonic() - self._sent >= _EVERY:
            self.send()

    def send(self) -> None:
        """Send what came together."""
        if self._counts:
            send_news(**self._counts)
        self._counts, self._sent = {}, time.monotonic()
