"""The report for machines: one JSON object with what the page says in numbers."""

from __future__ import annotations

from typing import Any

from evaluation.report.costs import costs
from evaluation.report.losses import losses
from evaluation.report.results import headline_arm
from evaluation.report.source import Source
from evaluation.report.verdict import verdict
from evaluation.report.words import Words
from workbench.persona import FIDELITY
from workbench.stats import Cell

VERSION = 1
"""Goes up when a key changes its meaning or goes away."""


def summary(source: Source, words: Words) -> dict[str, Any]:
    """Return the round in numbers; shares are 0 to 1, times are seconds.

    The comparison itself, cell by cell, is in ``evaluate/comparison.json``.
    """
    comparison = source.comparison
    arm = headline_arm(comparison)
    calibration, people = source.calibration, source.people
    return {
        "version": VERSION,
        "persona": source.persona.id,
        "persona_record": source.persona.record_id,
        "round": source.folder.name,
        "verdict": verdict(source, words),
        "headline": _cell(comparison.cell(arm, FIDELITY)) if arm else None,
        "base": comparison.base,
        "prompts": comparison.prompts,
        "level": comparison.level,
        "fidelity": {name: comparison.cell(name, FIDELITY).mean for name in comparison.arms},
        "traits_left_out": comparison.left_out,
        "unscored_share": comparison.unscored_share,
        "losses": [_cell(loss.cell) for loss in losses(source) if loss.sure],
        "probes": [_cell(cell) for cell in comparison.probes if cell.metric == FIDELITY],
        "drift_change": {n: d.model_dump(mode="json") for n, d in comparison.drift_change.items()},
        "judge": calibration.model_dump(mode="json") if calibration else None,
        "people": people.model_dump(mode="json") if people else None,
        "general": source.general.get("arms"),
        "across": source.general.get("across"),
        "stages": {
            one.stage: {
                "seconds": one.seconds,
                "peak_mib": one.peak_mib,
                "tokens": one.tokens,
                "paid": one.paid._asdict(),
                "spent": one.spent,
                "currency": one.currency,
            }
            for one in costs(source.manifests)
        },
    }


def _cell(cell: Cell) -> dict[str, Any]:
    return cell.model_dump(mode="json")
