"""Distilabel's pipeline, run in this process: its steps and their columns, without its workers.

A pipeline is made of steps that are joined by ``>>``, and checked by distilabel before it runs:
each step's columns must come from one before it. :meth:`RowPipeline.run` takes its place at
running, since distilabel's own (1.5.3) forks a process for each step, loses a batch with each
failed request, hangs when it is resumed after a kill, and lets every row wait for its whole batch.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

from distilabel.pipeline import Pipeline
from distilabel.steps import GeneratorStep

from generation.distilabel.tasks import EndpointLLM, Row, Rows, RowStep, RowTask
from workbench.console import Advance, track
from workbench.inference.client import run

RowWise = RowStep | RowTask


class RowsOf(GeneratorStep):  # type: ignore[misc]
    """Rows that are there already, as the beginning of a pipeline."""

    rows: Rows
    """All with the same columns."""

    @property
    def outputs(self) -> list[str]:
        """The columns of the rows."""
        return list(self.rows[0]) if self.rows else []

    def process(self, offset: int = 0) -> Iterator[tuple[Rows, bool]]:
        """Yield all rows at once."""
        yield self.rows[offset:], True


class RowPipeline(Pipeline):  # type: ignore[misc]
    """A chain of steps that are run one after another, each with all of its requests side by side.

    With ``flows`` rows go through neighbouring :class:`~generation.distilabel.tasks.RowStep` and
    :class:`~generation.distilabel.tasks.RowTask` each at its own pace. A budget is then shared by
    those who are asked; else it is spent step by step.
    """

    def __init__(self, name: str, *, flows: bool = False) -> None:
        super().__init__(name=name)
        self.flows = flows

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def run(self) -> Rows:
        """Run the steps and return the rows of the last one.

        Raises:
            ValueError: A step lacks a column, or the steps are no chain.
            UserError: An endpoint is hopeless.
        """
        self.dag.validate()
        levels = list(self.dag.iter_based_on_trophic_levels())
        if any(len(level) != 1 for level in levels):
            raise ValueError(f"the steps of the pipeline '{self.name}' are no chain")
        steps = [self.dag.get_step(name)["step"] for (name,) in levels]
        first, *rest = steps
        first.load()
        rows = [row for batch, _ in first.process_applying_mappings() for row in batch]
        with _unwatched_heap():
            for chain in _chains(rest) if self.flows else ([step] for step in rest):
                for step in chain:
                    step.load()
                rows = _through(chain, rows)
                for step in chain:
                    step.unload()
        return rows


def _chains(steps: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield neighbouring steps that go row by row together, every other step by itself."""
    chain: list[Any] = []
    for step in steps:
        if isinstance(step, RowStep | RowTask):
            chain.append(step)
            continue
        if chain:
            yield chain
        yield [step]
        chain = []
    if chain:
        yield chain


def _through(chain: Sequence[Any], rows: Rows) -> Rows:
    """Return the rows after a chain of steps."""
    if not isinstance(chain[0], RowStep | RowTask):
        return [row for batch in chain[0].process_applying_mappings(rows) for row in batch]
    label = next((step.label for step in chain if step.label), "")
    # Of a task by itself it is known who asks; further down a chain that turns out on the way.
    count = sum(_counts(step, row, chain) for step in chain for row in rows)
    if not label or not count:
        return run(_by_row(chain, rows, lambda *_, **__: None))
    with track(label, count) as advance:
        return run(_by_row(chain, rows, advance))


def _counts(step: RowWise, row: Row, chain: Sequence[RowWise]) -> bool:
    """Return whether a row at a step is a unit of the progress."""
    alone = len(chain) == 1 and isinstance(step, RowTask)
    return bool(step.label) and (not alone or step.wants(row))


async def _by_row(chain: Sequence[RowWise], rows: Rows, advance: Advance) -> Rows:
    """Take rows through a chain side by side, their requests in their endpoints' bounds."""
    llms: list[EndpointLLM] = [step.llm for step in chain if isinstance(step, RowTask)]

    async def one(row: Row) -> Row:
        for step in chain:
            counts = _counts(step, row, chain)
            row = await step.fill(row)
            if counts:
                advance(1, note=llms[0].client.note() if llms else "")
        return row

    endpoints = [endpoint for llm in llms for endpoint in llm.endpoints]
    async with llms[0].client.asking(endpoints) if llms else nullcontext():
        return list(await asyncio.gather(*(one(row) for row in rows)))


@contextmanager
def _unwatched_heap() -> Iterator[None]:
    """Spare requests the collector's walks through all of distilabel's modules."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
