"""What came in, what was dropped and why, and what became of the planted faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from evaluation.report.source import Source
from workbench.records import Drop, Example

SIDES = ("train", "validation", "test")
SAMPLES = 3
"""Dropped rows shown for each reason."""
_FLOW = (
    ("imported", "import/examples.jsonl"),
    ("carried", "import/carry-over-examples.jsonl"),
    ("generated", "generate/examples.jsonl"),
    ("filtered", "filter/examples.jsonl"),
    ("reviewed", "resolve/examples.jsonl"),
    *((side, f"split/{side}.jsonl") for side in SIDES),
    ("preferences", "split/preferences-train.jsonl"),
)


def edited(source: Source) -> int:
    """Return the number of kept rows that reviewers corrected."""
    kept = source.records("resolve/examples.jsonl", Example)
    return sum(example.origin == "edit" for example in kept)


def flow(source: Source) -> list[tuple[str, int]]:
    """Return (step, rows left after it) for the files that the round has."""
    return [
        (step, len(source.rows(name)))
        for step, name in _FLOW
        if source.has(name) and not (step in ("carried", "generated") and not source.rows(name))
    ]


def topics(source: Source) -> dict[str, list[str]]:
    """Return side → its topics, in the order of first appearance."""
    found = {}
    for side in SIDES:
        names = [example.topic for example in source.records(f"split/{side}.jsonl", Example)]
        if names:
            found[side] = list(dict.fromkeys(name for name in names if name))
    return found


@dataclass(frozen=True)
class Dropped:
    """All drops of one stage for one reason, with a few of them to look at."""

    stage: str
    reason: str
    count: int
    samples: list[tuple[str, str, str]]
    """Where the row came from, its question, and the detail of the drop."""


def dropped(source: Source) -> list[Dropped]:
    """Return the drops by stage and reason, most first within a stage."""
    counts = Counter((drop.stage, drop.reason) for drop in source.drops)
    stages = list(dict.fromkeys(drop.stage for drop in source.drops))
    return [
        Dropped(
            stage,
            reason,
            count,
            [
                _sample(source, drop)
                for drop in source.drops
                if (drop.stage, drop.reason) == (stage, reason)
            ][:SAMPLES],
        )
        for (stage, reason), count in sorted(
            counts.items(), key=lambda item: (stages.index(item[0][0]), -item[1])
        )
    ]


def _sample(source: Source, drop: Drop) -> tuple[str, str, str]:
    example = source.examples.get(drop.record)
    return drop.source, example.question if example else "", drop.detail


@dataclass(frozen=True)
class Fault:
    """One planted fault and what became of it: ``by`` is filters, reviewers or nobody."""

    row: int
    fault: str
    detail: str
    by: str
    how: str
    """Reason of the drop, ``masked`` or ``edited``; empty where it was missed."""


@dataclass(frozen=True)
class Faults:
    """The planted faults of the rows that this round imported."""

    found: list[Fault]
    absent: int
    """Planted rows that were not imported into this round."""
    clean: int
    """Imported rows without a planted fault."""
    clean_dropped: Counter[str]
    """By whom → clean rows taken out."""

    def count(self, fault: str | None = None, by: str | None = None) -> int:
        """Return the number of faults of a kind (all by default) caught by one (any by default)."""
        return sum(fault in (None, f.fault) and by in (None, f.by) for f in self.found)

    @property
    def kinds(self) -> list[str]:
        """The kinds, in the order of first appearance."""
        return list(dict.fromkeys(fault.fault for fault in self.found))


def faults(source: Source) -> Faults | None:
    """Return what became of each planted fault; None where none was planted or nothing imported."""
    imported = {row.source: row.id for row in source.records("import/examples.jsonl", Example)} | {
        row.source: row.record for row in source.records("import/drops.jsonl", Drop)
    }
    if not source.faults or not imported:
        return None
    fates = {where: _fate(source, where, record) for where, record in imported.items()}
    planted = {f"seeds.jsonl:{row['row']}": row for row in source.faults}
    clean = [where for where in imported if where not in planted]
    return Faults(
        found=[
            Fault(row["row"], row["fault"], row.get("detail", ""), *fates[where])
            for where, row in planted.items()
            if where in fates
        ],
        absent=sum(where not in fates for where in planted),
        clean=len(clean),
        clean_dropped=Counter(
            by for where in clean for by, how in [fates[where]] if how not in ("", *_KEPT)
        ),
    )


_KEPT = ("masked", "edited")


def _fate(source: Source, where: str, record: str) -> tuple[str, str]:
    """Return who caught an imported row and how; nobody and '' where it went through as it was."""
    line = {record}
    for example in source.examples.values():
        # Stages come in order, so a child always follows the row that it was made from.
        if line & set(example.parents):
            line.add(example.id)
    for drop in source.drops:
        if drop.record in line and drop.source == where:
            return ("reviewers" if drop.stage == "resolve" else "filters"), drop.reason
    made = [source.examples[i] for i in line if i in source.examples and i != record]
    if any(example.origin == "edit" for example in made):
        return "reviewers", "edited"
    return ("filters", "masked") if made else ("nobody", "")


Alphas = list[tuple[str, dict[str, Any]]]


def agreement(source: Source) -> tuple[Alphas, Alphas]:
    """Return (question, its alpha) where there is one: of the questions, and of the problems.

    Problems that hardly anyone named have alphas near 0 or 1 that say little, so they go apart.
    """
    data = source.json("resolve/agreement.json")
    found = [(n, a) for n, a in data.get("questions", {}).items() if a.get("value") is not None]
    problems = [pair for pair in found if pair[0].startswith("problem:")]
    return [pair for pair in found if pair not in problems], problems
