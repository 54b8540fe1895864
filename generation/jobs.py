"""What the process that runs distilabel is asked to do; nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.inference.endpoint import Endpoint


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
    shape: str = ""
    """Name of the JSON shape that is asked for, or empty for text."""
    temperature: float = Field(default=0.7, ge=0)
    max_new_tokens: int = Field(default=1024, ge=1)
    cut: bool = False
    """Whether an answer that was cut off counts as one."""
    seed: int = 0
    budget: float | None = Field(default=None, ge=0)
    """Money that this job may spend, in the currency of the endpoint's price."""
    spent: float = 0.0
    """Money that was spent before it, for progress."""
    bookkeeper: str = ""
    """Name of the Ray actor that keeps the file, where the requests are made from a cluster."""

    def share(self, workers: int, bookkeeper: str) -> Served:
        """Return what one of several workers does, each with its part of the bounds."""
        at_once = max(1, self.endpoint.concurrency // workers)
        changes: dict[str, Any] = {
            "endpoint": self.endpoint.model_copy(update={"concurrency": at_once}),
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


class Job(_Settings):
    """One run of the pipeline."""

    name: str
    rows: Path
    """JSONL of ``{"key": int, "messages": […]}``."""
    outcomes: Path
    """Where ``{"key": int, "outcome": Outcome}`` goes."""
    llm: Annotated[LocalModel | Served, Field(discriminator="kind")]
    cluster: Cluster | None = None
    """Where the pipeline runs; processes of this machine by default."""
