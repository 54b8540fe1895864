"""What the model learned from: topics, drops with their reasons, and the planted faults' fate.

In: the report's input. Out: tables of rows, which the part "data" of the page shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.report.inputs import ReportInput
from workbench.records import Drop, Example
from workbench.stats.agreement import RaterAgreement

SAMPLES = 3
"""Dropped rows shown for each reason."""
_CHANGED = ("masked", "edited")
"""What became of a row that stayed."""
QuestionAgreement = list[tuple[str, RaterAgreement]]
"""What reviewers were asked, and how far they agree on it."""


def edited(report: ReportInput) -> int:
    """Return the number of rows that reviewers corrected."""
    return sum(row.origin == "edit" for row in report.rows.get("resolve", ()))


def topics(report: ReportInput) -> dict[str, list[str]]:
    """Return split → its topics, in the order of first appearance."""
    return {
        split: list(dict.fromkeys(row.topic for row in rows if row.topic))
        for split, rows in report.splits.items()
        if rows
    }


@dataclass(frozen=True)
class DropGroup:
    """All drops of one stage for one reason, with a few of them to look at."""

    stage: str
    reason: str
    count: int
    samples: list[tuple[str, str, str]]
    """Where the row came from, its question, and the detail of the drop."""


def drop_groups(report: ReportInput) -> list[DropGroup]:
    """Return the drops by stage and reason, most first within a stage."""
    examples = report.examples
    groups: dict[tuple[str, str], list[Drop]] = {}
    for drop in report.drops:
        groups.setdefault((drop.stage, drop.reason), []).append(drop)
    stages = list(dict.fromkeys(drop.stage for drop in report.drops))

    def sample(drop: Drop) -> tuple[str, str, str]:
        row = examples.get(drop.record)
        return drop.source, row.question if row else "", drop.detail

    return [
        DropGroup(stage, reason, len(drops), [sample(drop) for drop in drops[:SAMPLES]])
        for (stage, reason), drops in sorted(
            groups.items(), key=lambda item: (stages.index(item[0][0]), -len(item[1]))
        )
    ]


@dataclass(frozen=True)
class FaultFate:
    """One planted fault and what became of it: ``by`` is filters, reviewers or nobody."""

    row: int
    fault: str
    detail: str
    by: str
    how: str
    """Reason of the drop, ``masked`` or ``edited``; empty where it was missed."""


@dataclass(frozen=True)
class FaultFates:
    """The planted faults of the rows that this round imported."""

    imported: list[FaultFate]
    absent: int
    """Planted rows that were not imported into this round."""
    clean: int
    """Imported rows without a planted fault."""
    clean_dropped: Counter[str]
    """By whom → clean rows taken out."""

    def count(self, fault: str | None = None, by: str | None = None) -> int:
        """Return the number of faults of a kind (all by default) caught by one (any by default)."""
        return sum(fault in (None, f.fault) and by in (None, f.by) for f in self.imported)

    @property
    def kinds(self) -> list[str]:
        """The kinds, in the order of first appearance."""
        return list(dict.fromkeys(fault.fault for fault in self.imported))


def fault_fates(report: ReportInput) -> FaultFates | None:
    """Return what became of each planted fault; None where none was planted or nothing imported."""
    imported = {row.source: row.id for row in report.rows.get("import", ())} | {
        drop.source: drop.record for drop in report.drops if drop.stage == "import"
    }
    if not report.faults or not imported:
        return None
    examples = report.examples
    fates = {where: _fate(report, examples, where, row) for where, row in imported.items()}
    planted = {f"seeds.jsonl:{fault.row}": fault for fault in report.faults}
    clean = [where for where in imported if where not in planted]
    return FaultFates(
        imported=[
            FaultFate(*fault, *fates[where]) for where, fault in planted.items() if where in fates
        ],
        absent=sum(where not in fates for where in planted),
        clean=len(clean),
        clean_dropped=Counter(
            by for where in clean for by, how in [fates[where]] if how not in ("", *_CHANGED)
        ),
    )


def _fate(
    report: ReportInput, examples: Mapping[str, Example], where: str, record: str
) -> tuple[str, str]:
    """Return who caught an imported row and how; nobody and '' where it went through as it was."""
    line = {record}
    for example in examples.values():
        # Stages come in order, so a child always follows the row that it was made from.
        if line & set(example.parents):
            line.add(example.id)
    for drop in report.drops:
        if drop.record in line and drop.source == where:
            return ("reviewers" if drop.stage == "resolve" else "filters"), drop.reason
    children = [examples[i] for i in line if i in examples and i != record]
    if any(example.origin == "edit" for example in children):
        return "reviewers", "edited"
    return ("filters", "masked") if children else ("nobody", "")


def agreement(report: ReportInput) -> tuple[QuestionAgreement, QuestionAgreement]:
    """Return the agreement where there is one: on the questions, and on the problems.

    Problems that hardly anyone named have alphas near 0 or 1 that say little, so they go apart.
    """
    if report.agreement is None:
        return [], []
    scored = [(n, a) for n, a in report.agreement.questions.items() if a.value is not None]
    return (
        [pair for pair in scored if not pair[0].startswith("problem:")],
        [pair for pair in scored if pair[0].startswith("problem:")],
    )
