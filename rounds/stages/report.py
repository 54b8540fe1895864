"""The stage ``report``: one self-contained page about the round, and the same for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.report import build_reports
from evaluation.report.inputs import (
    PlantedFault,
    ReportInput,
    ReviewersAgreement,
    StageRun,
    WrittenFile,
)
from evaluation.sweep import SweepReport
from rounds import layout
from rounds.artifacts import Artifact, Text
from rounds.comparison import seeds_of
from rounds.context import RoundContext
from rounds.layout import Manifest, RoundFolder, curve
from rounds.runner import StageSpec, Work
from workbench.config import METHODS
from workbench.inference.endpoint import Paid, TeacherPart
from workbench.records import Example, SplitName
from workbench.stats.training_seeds import by_topic, with_seeds
from workbench.store import read_json_lines

STAGE = "report"
REPORTED: tuple[Artifact, ...] = (
    *layout.DROPS.values(),
    *layout.STAGE_EXAMPLES.values(),
    layout.AGREEMENT,
    *layout.EXAMPLES.values(),
    layout.PREFERENCES["train"],
    layout.RESPONSES,
    layout.SCORES,
    layout.COMPARISON,
    layout.CALIBRATION,
    layout.GENERAL,
    layout.STYLE,
)
OPTIONAL: tuple[Artifact, ...] = (
    layout.CARRY_OVER_EXAMPLES,
    layout.WIN_RATES,
    layout.REWARD_MODEL,
    layout.PEOPLE,
    layout.SEEDS,
    layout.SENSE,
    layout.SAFETY,
    layout.SAFETY_ANSWERS,
    layout.ROBUSTNESS,
    layout.SURFACE_ANSWERS,
    layout.PRICES,
    layout.SWEEP,
    layout.BAKEOFF,
    layout.DIAL,
    layout.DIAL_ANSWERS,
)
"""What only an earlier round, a judge, a blind round or two held-out questions leave behind."""


def report_stage(context: RoundContext) -> StageSpec:
    """One self-contained HTML file about the round, and the same for machines."""
    faults = context.persona_folder / "faults.jsonl"
    return StageSpec(
        STAGE,
        partial(_report, context),
        inputs=(
            *REPORTED,
            *(curve(method) for method in context.config.train.methods),
        ),
        optional=OPTIONAL,
        files={faults.name: faults} if faults.exists() else {},
        packages=("jinja2",),
    )


def _report(context: RoundContext, work: Work) -> None:
    for name, text in build_reports(report_input(context, work)).items():
        work.write(Text(STAGE, name), text)


def report_input(context: RoundContext, work: Work) -> ReportInput:
    """Return what the report is made of; every file of the round is read once."""
    rows = {stage: work.read(one) for stage, one in layout.STAGE_EXAMPLES.items()}
    splits = {split: work.read(one) for split, one in layout.EXAMPLES.items()}
    agreement = work.read(layout.AGREEMENT)
    manifests = _manifests(work.round)
    comparison, seeds = work.read(layout.COMPARISON), seeds_of(work.round)
    scores, responses = work.read(layout.SCORES), work.read(layout.RESPONSES)
    counts = manifests["evaluate"].counts if "evaluate" in manifests else {}
    return ReportInput(
        round=work.round.name,
        at=context.options,
        persona=context.persona,
        comparison=with_seeds(comparison, seeds),
        seeds=seeds,
        by_topic=by_topic(comparison, scores, responses),
        responses=responses,
        scores=scores,
        stages=[_stage_run(manifest) for manifest in manifests.values()],
        rows=rows,
        steps=_steps(work, rows, splits, manifests.get("sft")),
        splits=splits,
        drops=[drop for one in layout.DROPS.values() for drop in work.read(one)],
        faults=_faults(context.persona_folder / "faults.jsonl"),
        agreement=ReviewersAgreement(agreement.overlapping, agreement.questions, agreement.rules),
        calibration=work.read(layout.CALIBRATION),
        reward=work.read(layout.REWARD_MODEL) if layout.REWARD_MODEL in work.inputs else None,
        general=work.read(layout.GENERAL),
        style=work.read(layout.STYLE),
        win_rates=work.read(layout.WIN_RATES).rates if layout.WIN_RATES in work.inputs else (),
        sense=work.read(layout.SENSE) if layout.SENSE in work.inputs else None,
        safety=work.read(layout.SAFETY) if layout.SAFETY in work.inputs else None,
        safety_answers=work.read_if_there(layout.SAFETY_ANSWERS),
        robustness=work.read(layout.ROBUSTNESS) if layout.ROBUSTNESS in work.inputs else None,
        surface_answers=work.read_if_there(layout.SURFACE_ANSWERS),
        prices=work.read(layout.PRICES) if layout.PRICES in work.inputs else None,
        sweeps=_sweeps(work, splits["validation"]),
        dial=work.read(layout.DIAL) if layout.DIAL in work.inputs else None,
        dial_answers=work.read_if_there(layout.DIAL_ANSWERS),
        people=work.read(layout.PEOPLE) if layout.PEOPLE in work.inputs else None,
        curves={
            method: _lines(work.path(curve(method)))
            for method in METHODS
            if curve(method) in work.inputs
        },
        primaries=counts.get("primaries", ()),
        max_new_tokens=counts.get("max_new_tokens", 0),
        cut=counts.get("cut", {}),
        config=(work.round.folder / layout.CONFIG).read_text(encoding="utf-8"),
    )


def _sweeps(work: Work, validation: Sequence[Example]) -> list[SweepReport]:
    """Return the sweep and the bake-off that these validation rows decided."""
    own = {row.id for row in validation}
    there = [work.read(one) for one in (layout.SWEEP, layout.BAKEOFF) if one in work.inputs]
    return [one for one in there if set(one.best.by_row) == own]


def _steps(
    work: Work,
    rows: Mapping[str, Sequence[Example]],
    splits: Mapping[SplitName, Sequence[Example]],
    sft: Manifest | None,
) -> dict[str, int]:
    """Return step → rows left after it; what only some rounds take over or generate may be none."""
    carry_over = work.read_if_there(layout.CARRY_OVER_EXAMPLES)
    rehearsed = int(sft.counts.get("rehearsed", 0)) if sft else 0
    optional = {"carried": len(carry_over), "generated": len(rows[layout.GENERATED.stage])}
    return {
        "imported": len(rows[layout.IMPORTED.stage]),
        **{step: count for step, count in optional.items() if count},
        "filtered": len(rows[layout.FILTERED.stage]),
        "reviewed": len(rows[layout.RESOLVED.stage]),
        **{split: len(own) for split, own in splits.items()},
        **({"rehearsed": rehearsed} if rehearsed else {}),
        "preferences": len(work.read(layout.PREFERENCES["train"])),
    }


def _manifests(round_: RoundFolder) -> dict[str, Manifest]:
    """Return the manifest of every finished stage; the report's own last run is not part of it."""
    names = (*(name for name in layout.STAGES if name != STAGE), layout.PEOPLE.stage)
    manifests = {name: round_.manifest(name) for name in names}
    return {name: manifest for name, manifest in manifests.items() if manifest}


def _stage_run(manifest: Manifest) -> StageRun:
    counts = manifest.counts
    currency = counts.get("currency") or ""
    return StageRun(
        stage=manifest.stage,
        started=manifest.started,
        seconds=manifest.seconds,
        peak_mib=manifest.peak_mib,
        seed=manifest.seed,
        model=manifest.settings.get("model") or "",
        tokens=counts.get("tokens") or 0,
        paid=Paid.total(Paid(**one) for one in counts.get("paid", {}).values()),
        spent=counts["spent"] if currency else None,
        currency=currency,
        teachers=[TeacherPart(**one) for one in counts.get("teachers", ())],
        files={name: WrittenFile(one.bytes, one.sha256) for name, one in manifest.outputs.items()},
        versions=manifest.versions,
    )


def _faults(path: Path) -> list[PlantedFault]:
    return [PlantedFault(**line) for line in _lines(path)] if path.exists() else []


def _lines(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_json_lines(path)] if path.stat().st_size else []
