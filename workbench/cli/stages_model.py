"""The stages of the model: training, evaluation and the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.job import Job
from workbench.config import dumped
from workbench.models import has_gpu
from workbench.records import Example
from workbench.rounds import StageSpec, Work
from workbench.sampling import take_spread
from workbench.store import existing, read_records, write_json, write_records

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


def evaluate_stage(job: Job) -> StageSpec:
    """Held-out prompts answered by every arm, scored trait by trait, compared with the base."""
    return StageSpec(
        "evaluate",
        partial(_evaluate, job),
        inputs=("split/test.jsonl", "split/train.jsonl", "sft/adapter", "dpo/adapter"),
        files={"persona.yaml": job.persona_folder / "persona.yaml"},
        settings={
            "model": job.config.model,
            "judge": dumped(job.config.judge),
            **job.config.evaluate.model_dump(mode="json"),
        },
        packages=("peft", "ragas", "scipy", "torch", "transformers"),
    )


def _evaluate(job: Job, work: Work) -> None:
    from evaluation.answer import Arm, answer_arms
    from evaluation.scorers import score_responses
    from evaluation.statistics import compare
    from workbench.models import resolve_model
    from workbench.prompts import system_prompt

    settings = job.config.evaluate
    prompts = take_spread(
        list(read_records(work.input("split/test.jsonl"), Example)), settings.rows
    )
    arms = (
        Arm("base", None, None),
        Arm("base+prompt", None, system_prompt(job.persona)),
        Arm("sft", work.input("sft/adapter"), None),
        Arm("sft+dpo", work.input("dpo/adapter"), None),
    )
    responses = answer_arms(
        arms,
        prompts,
        resolve_model(job.config.model),
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        seed=job.config.seed,
    )
    scores = score_responses(job.persona, responses, judge=job.config.judge)
    comparison = compare(scores, base="base", seed=job.config.seed)
    work.counts.update(
        prompts=len(prompts),
        responses=len(responses),
        tokens=sum(response.tokens for response in responses),
        unscored=sum(score.value is None for score in scores),
    )
    write_records(work.out / "responses.jsonl", responses)
    write_records(work.out / "scores.jsonl", scores)
    write_json(work.out / "comparison.json", comparison.model_dump(mode="json"))


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
