"""Whether more rows help: short trainings on parts of the rows, or the rounds that were there.

In: an evaluated round. Out: a fitted :class:`~evaluation.learning_curve.LearningCurve`. Trainings
lie in the round's scratch folder, so that a call that was stopped goes on with the next part.
:mod:`rounds.planning.proposal` calls it.
"""

from __future__ import annotations

import math
import random
from functools import partial

from evaluation.learning_curve import LearningCurve, fit_curve
from rounds.artifacts import Json, Records
from rounds.comparison import columns_of, counted_traits, means_of
from rounds.context import RoundContext
from rounds.layout import SCORES, TRAIN, VALIDATION, RoundFolder, adapter
from rounds.layout import write as write_artifact
from rounds.runner import StageSpec, Work, run_stage
from rounds.stages.train import load, recipe_path, training_run
from training.row_loss import row_losses
from training.run import Recipe
from workbench.arm_names import is_prompted
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.hub import hub_offline
from workbench.persona import FIDELITY
from workbench.records import Example, take_spread

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the training rows; each part holds the one before it."""
STEPS = 24
"""Steps of each short training where as many see all rows; the same for every part, so that only
the rows differ."""


def curve_of(context: RoundContext, arm: str, *, train: bool) -> LearningCurve | None:
    """Return the curve of short trainings where it is asked for, else that of the rounds."""
    return measure_curve(context) if train else curve_of_rounds(context, arm)


def measure_curve(context: RoundContext) -> LearningCurve | None:
    """Train the SFT recipe on parts of the rows and fit the validation rows' losses.

    Raises:
        UserError: What :func:`check_curve` says.
    """
    recipe = check_curve(context)
    train = context.round.read(TRAIN)
    steps = _steps(recipe, len(train))
    sizes = sorted({max(1, round(share * len(train))) for share in SHARES})
    scratch = RoundFolder(context.round.scratch("next"))
    losses = []
    for size in sizes:
        console.print(f"  learning curve: {size} of {len(train)} rows, {steps} steps")
        spec = _part(context, recipe, size, steps)
        with hub_offline():
            run_stage(scratch, spec, seed=context.config.seed)
        losses.append([float(loss) for loss in scratch.read(_losses(spec.name)).values()])
    return fit_curve(sizes, losses, "validation_loss", seed=context.config.seed)


def check_curve(context: RoundContext) -> Recipe:
    """Return the recipe of a learning curve's trainings, checked before anything is trained.

    Raises:
        UserError: There are no validation rows, or the recipe is broken or starts at an adapter
            that has seen the rows already.
    """
    if not context.round.read_if_there(VALIDATION):
        raise UserError(
            "there are no validation rows to score a learning curve on",
            where=str(context.round.path(VALIDATION)),
            fix="split with a validation share above 0",
        )
    recipe = load(context, "sft")
    if recipe.continues:
        raise UserError(
            "a learning curve starts at the base, and the recipe at an adapter that knows the rows",
            where=str(recipe_path(context, "sft")),
            fix="leave --curve out, or give it a configuration with train: {sft: auto}",
        )
    return recipe


def _steps(recipe: Recipe, rows: int) -> int:
    """Return the steps of every part: a part that is not seen whole would look like a smaller one.

    What the recipe takes, :data:`STEPS` at the most, and no less than one pass over all rows.
    """
    from training.launch import rows_per_step

    steps = recipe.trainer.get("max_steps", -1)
    few = min(steps, STEPS) if steps > 0 else STEPS
    return max(few, math.ceil(rows / rows_per_step(recipe)))


def _part(context: RoundContext, recipe: Recipe, size: int, steps: int) -> StageSpec:
    return StageSpec(
        f"curve-{size:05d}",
        partial(_train_part, context, recipe, size, steps),
        files={
            "recipe": recipe_path(context, "sft"),
            "train": context.round.path(TRAIN),
            "validation": context.round.path(VALIDATION),
        },
        settings={
            "model": context.config.model,
            "overrides": context.config.train.overrides.get("sft", {}),
            "rows": size,
            "steps": steps,
        },
        packages=("bitsandbytes", "peft", "torch", "transformers", "trl"),
        resumable=True,
    )


def _rows(stage: str) -> Records[Example]:
    return Records(stage, "rows.jsonl", Example)


def _losses(stage: str) -> Json:
    """Return row → loss, in nats a token, of the validation rows."""
    return Json(stage, "losses.json")


def _train_part(context: RoundContext, recipe: Recipe, size: int, steps: int, work: Work) -> None:
    from training.trainer import train as train_run

    stage = f"curve-{size:05d}"
    trainer = {**recipe.trainer, "max_steps": steps, "eval_strategy": "no"}
    trainer |= {"load_best_model_at_end": False, "save_steps": steps}
    train = context.round.read(TRAIN)
    random.Random(f"curve:{context.config.seed}").shuffle(train)
    changed = recipe.model_copy(update={"trainer": trainer, "early_stopping": None})
    rows = write_artifact(work.out, _rows(stage), take_spread(train, size))
    run = training_run(context, changed, rows, work.out)
    train_run(run)
    weights = work.out / adapter(stage).name
    losses = row_losses(run.model, weights, context.round.read(VALIDATION))
    write_artifact(work.out, _losses(stage), {one.id: one.tuned for one in losses})
    work.counts.update(rows=size, steps=steps)


def curve_of_rounds(context: RoundContext, arm: str) -> LearningCurve | None:
    """Return the curve through this persona's rounds up to this one; None where they are too few.

    A round's point is its number of training rows and what its tuned arm missed on the prompts that
    all of them asked. Rounds whose recipe or base differ are on it all the same: the page says so.
    """
    if is_prompted(arm):
        return None
    rounds = [one for one in (*context.round.earlier, context.round) if one.has(SCORES)]
    traits = counted_traits(rounds)
    points: dict[int, dict[str, float]] = {}
    for one in rounds:
        means = means_of(columns_of(one, traits), arm, FIDELITY)
        if means and one.has(TRAIN):
            points[len(one.read(TRAIN))] = means
    both = set.intersection(*(set(means) for means in points.values())) if points else set()
    if not both:
        return None
    sizes = sorted(points)
    missed = [[1 - points[size][prompt] for prompt in sorted(both)] for size in sizes]
    return fit_curve(sizes, missed, "missed", seed=context.config.seed)
