"""The report, and what is checked before any stage of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rounds.context import RoundContext
from rounds.layout import (
    AGREEMENT,
    CALIBRATION,
    COMPARISON,
    DROPS,
    GENERAL,
    PEOPLE,
    PREFERENCES,
    RESPONSES,
    SCORES,
    STAGE_EXAMPLES,
    STYLE,
    TEST,
    TRAIN,
    VALIDATION,
    WIN_RATES,
    Artifact,
    curve,
)
from rounds.runner import StageSpec, Work
from rounds.stages.train import check_recipes, recipe_path
from workbench.config import METHODS

__all__ = ["check_settings", "recipe_path", "report_stage"]


def check_settings(context: RoundContext, names: Sequence[str]) -> None:
    """Check recipes and model before anything runs, as far as the named stages need them.

    Raises:
        UserError: A recipe with its mistakes, or a model that cannot be had.
    """
    from workbench.inference.base_models import resolve_model

    check_recipes(context, names)
    if {"generate", "evaluate", *METHODS} & set(names):
        resolve_model(context.config.model)


REPORTED: tuple[Artifact, ...] = (
    *DROPS.values(),
    *STAGE_EXAMPLES.values(),
    AGREEMENT,
    TRAIN,
    VALIDATION,
    TEST,
    PREFERENCES["train"],
    RESPONSES,
    SCORES,
    COMPARISON,
    CALIBRATION,
    GENERAL,
    STYLE,
)


OPTIONAL: tuple[Artifact, ...] = (WIN_RATES, PEOPLE)
"""What only a judge or a blind round leaves behind."""


def report_stage(context: RoundContext) -> StageSpec:
    """One self-contained HTML file about the round, and the same for machines."""
    there = [one for one in OPTIONAL if context.round.has(one)]
    faults = context.persona_folder / "faults.jsonl"
    return StageSpec(
        "report",
        partial(_report, context),
        inputs=(
            *REPORTED,
            *there,
            *(curve(method) for method in context.config.train.methods),
        ),
        files={"faults.jsonl": faults} if faults.exists() else {},
        packages=("jinja2",),
    )


def _report(context: RoundContext, work: Work) -> None:
    from evaluation.report import build_reports
    from workbench.store import atomic_file

    for name, text in build_reports(
        work.round.folder, context.persona, context.persona_folder
    ).items():
        with atomic_file(work.out / name) as file:
            file.write(text)
