"""Is an order of the review queue worth anything? Ordered against random, on recorded reviews.

``python benchmarks/bench_attention.py [--persona datasets/gym-trainer]`` takes the recorded reviews
as what people would say, and asks in which order they would have been told what changes something:
a drop, an edit, or a row that they disagree on. Orders know only what is there before a review:
the traits that a rule misses, how rare a topic is, whether the answer is near its question and like
the others. The area under the curve of changes found is 1/2 for a random order; intervals are
bootstraps over rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from curation.filters.chain import filter_examples
from curation.review.attention import mean_rank, queue_order, worths
from curation.review.resolve import resolve
from generation.importing import import_rows
from tests.reviewed_round import recorded_reviews
from workbench.config import FilterSettings, Policy
from workbench.inference.embedder import AUTO, make_embedder
from workbench.persona import Persona, load_persona
from workbench.records import Example

Floats = NDArray[np.float64]
ENOUGH = 0.8
"""Share of the changes to be found."""
RESAMPLES = 2000


def orders(persona: Persona, rows: Sequence[Example]) -> dict[str, Floats]:
    """Return name → what each row is worth by an order; the worthiest is reviewed first.

    The product's own signs but for a judge's, which nobody recorded, and some that it leaves out.
    """
    corpus = [text for row in rows for text in (row.question, row.answer)]
    embedder = make_embedder(AUTO, persona.language, corpus)
    asked, answered = (
        embedder.embed([getattr(row, name) for row in rows]) for name in ("question", "answer")
    )
    near = answered @ answered.T - 2 * np.eye(len(rows))
    own = {name: one for name, one in worths(persona, rows, {}).items() if np.ptp(one)}
    queue = {row.id: -place for place, row in enumerate(queue_order(persona, rows, "round-001"))}
    return {
        **own,
        "mean rank of these": mean_rank(own),
        "the queue, half of it at random": np.array([queue[row.id] for row in rows], float),
        "answer far from its question": -(asked * answered).sum(axis=1).astype(float),
        "answer unlike the others": -near.max(axis=1).astype(float),
        "length unlike the others": _apart(np.array([len(row.answer) for row in rows], float)),
    }


def _apart(values: Floats) -> Floats:
    return np.abs(values - np.median(values))


def area(worth: Floats, changes: Floats, weights: Floats) -> float:
    """Return the area under the curve of changes found by rows reviewed; ties count as random."""
    total = (weights * changes).sum() * weights.sum()
    above = worth[:, None] > worth[None, :]
    same = worth[:, None] == worth[None, :]
    pairs = (weights * changes)[:, None] * weights[None, :] * (above + 0.5 * same)
    return float(pairs.sum() / total)


def needed(worth: Floats, changes: Floats, weights: Floats) -> float:
    """Return the share of rows whose review finds :data:`ENOUGH` of the changes."""
    order = np.argsort(-worth, kind="stable")
    levels = worth[order]
    changed, seen = np.zeros(1), np.zeros(1)
    for level in np.unique(levels)[::-1]:
        tied = order[levels == level]
        changed = np.append(changed, changed[-1] + (weights * changes)[tied].sum())
        seen = np.append(seen, seen[-1] + weights[tied].sum())
    return float(np.interp(ENOUGH * changed[-1], changed, seen) / seen[-1])


def interval(
    statistic: Callable[[Floats, Floats, Floats], float], worth: Floats, changes: Floats
) -> str:
    """Return a value with its 95 % percentile interval over rows."""
    value = statistic(worth, changes, np.ones(len(worth)))
    draws = np.random.default_rng(0).multinomial(
        len(worth), np.full(len(worth), 1 / len(worth)), size=RESAMPLES
    )
    every = [statistic(worth, changes, d.astype(float)) for d in draws if (d * changes).sum()]
    low, high = np.percentile(every, [2.5, 97.5])
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Print a table for the rows that reached reviewers, and one for all that were recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persona", type=Path, default=Path("datasets/gym-trainer"))
    folder = parser.parse_args().persona
    persona = load_persona(folder)
    every = import_rows(folder / "seeds.jsonl", persona, origin="seed").examples
    filtered = filter_examples(
        every, persona, FilterSettings(), preferences=(), meaning=None
    ).examples
    for title, rows in (("after the filters", filtered), ("without filters", every)):
        by_line = {int(row.source.rpartition(":")[2]): row for row in rows}
        reviews = recorded_reviews(folder / "reviews.jsonl", by_line)
        resolved = resolve(persona, rows, reviews, Policy(), {})
        outcomes = {one.record: one.outcome for one in resolved.decisions}
        changes = np.array([float(outcomes[row.id] != "keep") for row in rows])
        table = Table(title=f"{folder.name}, {title}: {int(changes.sum())} of {len(rows)} change")
        for name in ("order", "area (random: 0.50)", f"share read for {ENOUGH:.0%}"):
            table.add_column(name)
        for name, worth in orders(persona, rows).items():
            table.add_row(name, interval(area, worth, changes), interval(needed, worth, changes))
        Console().print(table)


if __name__ == "__main__":
    main()
