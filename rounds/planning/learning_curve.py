"""Whether more rows help: short trainings on parts of the rows, or the rounds that were there."""

from __future__ import annotations

import json
import math
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.arms import PROMPT
from rounds.comparison import columns_of, counted_traits, means_of
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from rounds.planning.second_looks import SCRATCH
from rounds.runner import StageSpec, Work, run_stage
from rounds.stages.train import load, recipe_path
from workbench.console import console
from workbench.errors import UserError
from workbench.persona import FIDELITY
from workbench.records import Example
from workbench.sampling import take_spread
from workbench.store import read_records, write_json, write_records

if TYPE_CHECKING:
    from evaluation.learning_curve import LearningCurve
    from training.recipe import Recipe

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the training rows; each part holds the one before it."""
STEPS = 24
"""Steps of each short training where as many see all rows; the same for every part, so that only
the rows differ."""


def measure_curve(context: RoundContext) -> LearningCurve | None:
    """Train the SFT recipe on parts of the rows and fit the validation rows' losses.

    Every part is kept when it is done: a call that was stopped goes on with the next.

    Raises:
        UserError: What :func:`check_curve` says.
    """
    from evaluation.learning_curve import fit_curve
    from workbench.inference.hub import hub_offline

    recipe = check_curve(context)
    train = list(read_records(context.round.stage("split") / "train.jsonl", Example))
    steps = _steps(recipe, len(train))
    sizes = sorted({max(1, round(share * len(train))) for share in SHARES})
    scratch = RoundFolder(context.round.folder / SCRATCH)
    losses = []
    for size in sizes:
        console.print(f"  learning curve: {size} of {len(train)} rows, {steps} steps")
        with hub_offline():
            run_stage(scratch, _part(context, size, steps), seed=context.config.seed)
        path = scratch.stage(f"curve-{size:05d}") / "losses.json"
        losses.append(list(json.loads(path.read_text("utf-8")).values()))
    return fit_curve(sizes, losses, "validation_loss", seed=context.config.seed)


def check_curve(context: RoundContext) -> Recipe:
    """Return the recipe of a learning curve's trainings, checked before anything is trained.

    Raises:
        UserError: There are no validation rows, or the recipe is broken or starts at an adapter
            that has seen the rows already.
    """
    validation = context.round.stage("split") / "validation.jsonl"
    if not validation.exists() or not validation.stat().st_size:
        raise UserError(
            "there are no validation rows to score a learning curve on",
            where=str(validation),
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
    from training.launch import rows_a_step

    wanted = recipe.trainer.get("max_steps", -1)
    few = min(wanted, STEPS) if wanted > 0 else STEPS
    return max(few, math.ceil(rows / rows_a_step(recipe)))


def _part(context: RoundContext, size: int, steps: int) -> StageSpec:
    split = context.round.stage("split")
    return StageSpec(
        f"curve-{size:05d}",
        partial(_train_part, context, size, steps),
        files={
            "recipe": recipe_path(context, "sft"),
            **{side: split / f"{side}.jsonl" for side in ("train", "validation")},
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


def _train_part(context: RoundContext, size: int, steps: int, work: Work) -> None:
    from training.row_loss import row_losses
    from training.sft import train_sft
    from workbench.inference.base_models import resolve_model

    recipe, model = load(context, "sft"), resolve_model(context.config.model)
    trainer = {**recipe.trainer, "max_steps": steps, "eval_strategy": "no"}
    trainer |= {"load_best_model_at_end": False, "save_steps": steps}
    recipe = recipe.model_copy(update={"trainer": trainer, "early_stopping": None})
    split = context.round.stage("split")
    train = list(read_records(split / "train.jsonl", Example))
    random.Random(f"curve:{context.config.seed}").shuffle(train)
    rows = work.out / "rows.jsonl"
    write_records(rows, take_spread(train, size))
    train_sft(
        recipe,
        model,
        rows,
        None,
        work.out,
        seed=context.config.seed,
        base_name=context.config.model,
    )
    validation = list(read_records(split / "validation.jsonl", Example))
    found = row_losses(model, work.out / "adapter", validation)
    write_json(work.out / "losses.json", {one.id: one.tuned for one in found})
    work.counts.update(rows=size, steps=steps)


def curve_of_rounds(context: RoundContext, arm: str) -> LearningCurve | None:
    """Return the curve through this persona's rounds up to this one; None where they are too few.

    A round's point is its number of training rows and what its tuned arm missed on the prompts that
    all of them asked. Rounds whose recipe or base differ are on it all the same: the page says so.
    """
    from evaluation.learning_curve import fit_curve

    folders = sorted(context.round.folder.parent.glob("round-*"))
    rounds = [RoundFolder(path) for path in folders if path.name <= context.round.name]
    rounds = [one for one in rounds if (one.stage("evaluate") / "scores.jsonl").exists()]
    traits = counted_traits(rounds)
    found: dict[int, dict[str, float]] = {}
    for one in rounds:
        train = one.stage("split") / "train.jsonl"
        asked = means_of(columns_of(one, traits), arm, FIDELITY)
        if asked and train.exists():
            found[_lines(train)] = asked
    sizes = sorted(found)
    both = set.intersection(*(set(asked) for asked in found.values())) if found else set()
    if not both or arm.endswith(PROMPT):
        return None
    missed = [[1 - found[size][prompt] for prompt in sorted(both)] for size in sizes]
    return fit_curve(sizes, missed, "missed", seed=context.config.seed)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def curve_of(context: RoundContext, arm: str, *, train: bool) -> LearningCurve | None:
    """Return the curve of short trainings where it is asked for, else that of the rounds."""
    return measure_curve(context) if train else curve_of_rounds(context, arm)
