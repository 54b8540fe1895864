"""The report, and what is checked before any stage of a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rounds.context import RoundContext
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


REPORTED = (
    *(f"{stage}/drops.jsonl" for stage in ("import", "generate", "filter", "resolve", "split")),
    *(f"{stage}/examples.jsonl" for stage in ("import", "generate", "filter", "resolve")),
    "resolve/agreement.json",
    *(f"split/{side}.jsonl" for side in ("train", "validation", "test", "preferences-train")),
    "evaluate/responses.jsonl",
    "evaluate/scores.jsonl",
    "evaluate/comparison.json",
    "evaluate/calibration.json",
    "evaluate/general.json",
    "evaluate/style.json",
)


OPTIONAL = ("evaluate/pairs.json", "people/people.json")
"""What only a judge or a blind round leaves behind."""


def report_stage(context: RoundContext) -> StageSpec:
    """One self-contained HTML file about the round, and the same for machines."""
    there = [name for name in OPTIONAL if (context.round.folder / name).exists()]
    faults = context.persona_folder / "faults.jsonl"
    return StageSpec(
        "report",
        partial(_report, context),
        inputs=(
            *REPORTED,
            *there,
            *(f"{method}/curve.jsonl" for method in context.config.train.methods),
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
