"""The stages of the model: training and the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.job import Job
from workbench.models import has_gpu
from workbench.rounds import StageSpec, Work
from workbench.store import existing

if TYPE_CHECKING:
    from training.recipe import Recipe


def recipe_path(job: Job, method: str) -> Path:
    """Return the recipe of a training stage; ``auto`` follows the device."""
    from importlib.resources import files

    named: str = getattr(job.config.train, method)
    if named != "auto":
        return existing(Path(named))
    suffix = "" if has_gpu() else "-embedded"
    return Path(str(files("training").joinpath(f"recipes/{method}{suffix}.yaml")))


def check_settings(job: Job, names: Sequence[str]) -> None:
    """Check recipes and model before anything runs, as far as the named stages need them.

    Raises:
        UserError: A recipe with its mistakes, or a model that cannot be had.
    """
    from workbench.models import resolve_model

    for method in ("sft", "dpo"):
        if method in names:
            _recipe(job, method)
    if {"generate", "sft", "dpo", "evaluate"} & set(names):
        resolve_model(job.config.model)


def _recipe(job: Job, method: str) -> Recipe:
    from training.recipe import load_recipe

    return load_recipe(recipe_path(job, method), job.config.train.overrides.get(method, {}))


def sft_stage(job: Job) -> StageSpec:
    """Supervised fine-tuning on the curated training side."""
    return _training_stage(job, "sft", rows="", inputs=())


def dpo_stage(job: Job) -> StageSpec:
    """Preference optimisation from the SFT adapter."""
    return _training_stage(job, "dpo", rows="preferences-", inputs=("sft/adapter",))


def _training_stage(job: Job, method: str, rows: str, inputs: tuple[str, ...]) -> StageSpec:
    sides = (f"split/{rows}train.jsonl", f"split/{rows}validation.jsonl")
    overrides = job.config.train.overrides.get(method, {})
    return StageSpec(
        method,
        partial(_train, job, method, sides),
        inputs=(*sides, *inputs),
        files={"recipe": recipe_path(job, method)},
        settings={"model": job.config.model, "overrides": overrides},
        packages=("bitsandbytes", "peft", "torch", "transformers", "trl"),
        resumable=True,
    )


def _train(job: Job, method: str, sides: tuple[str, str], work: Work) -> None:
    from training.dpo import train_dpo
    from training.sft import train_sft
    from workbench.models import resolve_model

    recipe = _recipe(job, method)
    model = resolve_model(job.config.model)
    train, validation = (work.input(side) for side in sides)
    always: dict[str, Any] = {"seed": job.config.seed, "base_name": job.config.model}
    if method == "sft":
        summary = train_sft(recipe, model, train, validation, work.out, **always)
    else:
        adapter = work.input("sft/adapter")
        summary = train_dpo(recipe, model, adapter, train, validation, work.out, **always)
    work.counts.update(summary.model_dump(mode="json"))


REPORTED = (
    *(f"{stage}/drops.jsonl" for stage in ("import", "generate", "filter", "resolve", "split")),
    *(f"{stage}/examples.jsonl" for stage in ("import", "generate", "filter", "resolve")),
    "resolve/agreement.json",
    *(f"split/{side}.jsonl" for side in ("train", "validation", "test", "preferences-train")),
    "sft/curve.jsonl",
    "dpo/curve.jsonl",
    "evaluate/responses.jsonl",
    "evaluate/scores.jsonl",
    "evaluate/comparison.json",
    "evaluate/calibration.json",
    "evaluate/general.json",
    "evaluate/style.json",
)


def report_stage(job: Job) -> StageSpec:
    """One self-contained HTML file about the round."""
    faults = job.persona_folder / "faults.jsonl"
    return StageSpec(
        "report",
        partial(_report, job),
        inputs=REPORTED,
        files={"faults.jsonl": faults} if faults.exists() else {},
        packages=("jinja2",),
    )


def _report(job: Job, work: Work) -> None:
    from evaluation.report import build_report
    from workbench.store import atomic_file

    html = build_report(work.round.folder, job.persona, job.persona_folder)
    with atomic_file(work.out / "report.html") as file:
        file.write(html)
