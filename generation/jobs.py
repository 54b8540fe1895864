"""What the process that runs distilabel is asked to do; nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.endpoint import Endpoint


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


class Job(_Settings):
    """One run of the pipeline."""

    name: str
    rows: Path
    """JSONL of ``{"key": int, "messages": […]}``."""
    outcomes: Path
    """Where ``{"key": int, "outcome": Outcome}`` goes."""
    llm: Annotated[LocalModel | Served, Field(discriminator="kind")]
