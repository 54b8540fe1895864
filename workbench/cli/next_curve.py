"""Whether more rows help: short trainings on parts of the rows, or the rounds that were there."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.cli.arms import PROMPT
from workbench.cli.compare import values_of
from workbench.cli.job import Job
from workbench.cli.next_looks import SCRATCH
from workbench.cli.stages_train import load, recipe_path
from workbench.errors import UserError
from workbench.persona import FIDELITY
from workbench.progress import console
from workbench.records import Example
from workbench.rounds import Round, StageSpec, Work, run_stage
from workbench.sampling import take_spread
from workbench.store import read_records, write_json, write_records

if TYPE_CHECKING:
    from evaluation.shortfall import LearningCurve

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the training rows; each part holds the one before it."""
STEPS = 24
"""Most steps of each short training; the same for every part, so that only the rows differ."""


def measure_curve(job: Job) -> LearningCurve | None:
    """Train the SFT recipe on parts of the rows and fit the validation rows' losses.

    Every part is kept when it is done: a call that was stopped goes on with the next.

    Raises:
        UserError: There are no validation rows, or the recipe is broken.
    """
    from evaluation.learning_curve import fit_curve
    from workbench.hub import hub_offline

    train = list(read_records(job.round.stage("split") / "train.jsonl", Example))
    validation = job.round.stage("split") / "validation.jsonl"
    if not validation.exists() or not validation.stat().st_size:
        raise UserError(
            "there are no validation rows to score a learning curve on",
            where=str(validation),
            fix="split with a validation share above 0",
        )
    sizes = sorted({max(1, round(share * len(train))) for share in SHARES})
    scratch = Round(job.round.folder / SCRATCH)
    losses = []
    for size in sizes:
        console.print(f"  learning curve: {size} of {len(train)} rows")
        with hub_offline():
            run_stage(scratch, _part(job, size), seed=job.config.seed)
        path = scratch.stage(f"curve-{size:05d}") / "losses.json"
        losses.append(list(json.loads(path.read_text("utf-8")).values()))
    return fit_curve(sizes, losses, "validation_loss", seed=job.config.seed)


def _part(job: Job, size: int) -> StageSpec:
    split = job.round.stage("split")
    return StageSpec(
        f"curve-{size:05d}",
        partial(_train_part, job, size),
        files={
            "recipe": recipe_path(job, "sft"),
            **{side: split / f"{side}.jsonl" for side in ("train", "validation")},
        },
        settings={
            "model": job.config.model,
            "overrides": job.config.train.overrides.get("sft", {}),
            "rows": size,
            "steps": STEPS,
        },
        packages=("bitsandbytes", "peft", "torch", "transformers", "trl"),
        resumable=True,
    )


def _train_part(job: Job, size: int, work: Work) -> None:
    from training.row_loss import row_losses
    from training.sft import train_sft
    from workbench.models import resolve_model

    recipe, model = load(job, "sft"), resolve_model(job.config.model)
    wanted = recipe.trainer.get("max_steps", -1)
    steps = min(wanted, STEPS) if wanted > 0 else STEPS
    trainer = {**recipe.trainer, "max_steps": steps, "eval_strategy": "no"}
    trainer |= {"load_best_model_at_end": False, "save_steps": steps}
    recipe = recipe.model_copy(update={"trainer": trainer, "early_stopping": None})
    split = job.round.stage("split")
    train = list(read_records(split / "train.jsonl", Example))
    random.Random(f"curve:{job.config.seed}").shuffle(train)
    rows = work.out / "rows.jsonl"
    write_records(rows, take_spread(train, size))
    train_sft(recipe, model, rows, None, work.out, seed=job.config.seed, base_name=job.config.model)
    validation = list(read_records(split / "validation.jsonl", Example))
    found = row_losses(model, work.out / "adapter", validation)
    write_json(work.out / "losses.json", {one.id: one.tuned for one in found})
    work.counts.update(rows=size, steps=steps)


def curve_of_rounds(job: Job, arm: str) -> LearningCurve | None:
    """Return the curve through this persona's rounds up to this one; None where they are too few.

    A round's point is its number of training rows and what its tuned arm missed on the prompts that
    all of them asked. Rounds whose recipe or base differ are on it all the same: the page says so.
    """
    from evaluation.learning_curve import fit_curve

    folder = job.round.folder.parent
    found: dict[int, dict[str, float]] = {}
    for one in sorted(path for path in folder.glob("round-*") if path.name <= job.round.name):
        train = one / "split" / "train.jsonl"
        asked = values_of(Round(one)).get((arm, FIDELITY), {})
        if asked and train.exists():
            found[_lines(train)] = asked
    sizes = sorted(found)
    both = set.intersection(*(set(asked) for asked in found.values())) if found else set()
    if not both or arm.endswith(PROMPT):
        return None
    missed = [[1 - found[size][prompt] for prompt in sorted(both)] for size in sizes]
    return fit_curve(sizes, missed, "missed", seed=job.config.seed)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def curve_of(job: Job, arm: str, *, train: bool) -> LearningCurve | None:
    """Return the curve of short trainings where it is asked for, else that of the rounds."""
    return measure_curve(job) if train else curve_of_rounds(job, arm)
