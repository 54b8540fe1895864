"""What a stage will cost before it runs: a teacher's rows, and a training.

In: a round that is not made yet, or made so far. Out: the rooms' own plans, from the round's real
rows. ``persona generate --plan``, ``persona train --plan`` and ``persona prompt`` call it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from generation.cost import TeacherPlan
from generation.prompts import dataset_prompt
from rounds.carry_over import collect_carry_over
from rounds.context import RoundContext
from rounds.layout import IMPORTED, adapter
from rounds.stages.generate import teacher_plan
from rounds.stages.importing import read_sources
from rounds.stages.train import (
    learning_files,
    load,
    recipe_path,
    start_round,
    training_run,
    training_stage,
)
from training.data import Rows
from training.device import quiet
from training.methods import TRAINING_METHODS, read_rows
from training.recipe import load_recipe
from training.recipe import recipe_path as named_recipe
from training.run import Recipe
from training.tokens import TokenView, token_view
from workbench.config import Method
from workbench.console import console
from workbench.errors import UserError, nearest
from workbench.inference.base_models import load_tokenizer, resolve_model
from workbench.records import Example, take_spread

if TYPE_CHECKING:
    from training.plan.plan import Plan as TrainingPlan


@dataclass(frozen=True)
class GenerationEstimate:
    """What the stage ``generate`` will ask for."""

    teacher: TeacherPlan | None
    """None where no teacher is configured."""
    imported: int
    """Imported rows, each of which gets a baseline answer."""
    budget: float | None

    @property
    def may_exceed_budget(self) -> bool:
        """Whether the budget may not be enough: the stage then stops, and can go on."""
        money = self.teacher.money if self.teacher else None
        return self.budget is not None and money is not None and self.budget < money.high


def estimate_generation(context: RoundContext) -> GenerationEstimate:
    """Return what the stage ``generate`` will ask for; nothing is asked.

    Raises:
        UserError: A file of rows with mistakes.
    """
    imported = context.round.read_if_there(IMPORTED)
    if not context.round.has(IMPORTED):
        imported = take_spread(_rows_of(context), context.config.rows)
    carry_over = collect_carry_over(
        context.source_rounds, context.config.model, context.base_key("generate")
    )
    plan = teacher_plan(context, [*carry_over.rows, *imported])
    return GenerationEstimate(plan, len(imported), context.config.generate.budget)


def prompt_for_rows(context: RoundContext, *, count: int, topics: Sequence[str] = ()) -> str:
    """Return a prompt for any chat, in the persona's language, that brings rows of JSONL.

    Source files that are not there yet give no few-shot examples. Without ``topics`` it is for all
    of the persona's.

    Raises:
        UserError: A topic that the persona does not have, or a file of rows with mistakes.
    """
    known = context.persona.topics
    for topic in topics:
        if topic not in known:
            fix = nearest(topic, known) or f"one of {', '.join(known)}"
            raise UserError(f"unknown topic '{topic}'", where="--topic", fix=fix)
    rows = _rows_of(context, missing=True)
    return dataset_prompt(context.persona, rows, count=count, topics=topics)


def _rows_of(context: RoundContext, *, missing: bool = False) -> list[Example]:
    sources = read_sources(context, missing=missing)
    return [row for _, imported in sources for row in imported.examples]


def estimate_training(
    context: RoundContext,
    method: Method,
    *,
    recipe: str | None = None,
    gpu_memory: int | None = None,
) -> TrainingPlan:
    """Return the plan of one training stage of a round, from its real rows.

    ``recipe`` is a name or a path, by default the one that the stage would take; ``gpu_memory`` the
    bytes of a GPU that is not here, by default the device at hand is planned for.

    Raises:
        UserError: No rows yet, a recipe with mistakes, a model whose configuration is not there.
    """
    _require_rows(context, method)
    from training.plan.plan import EstimateRequest, make_plan

    # The embedded recipes are for a processor: for a GPU that is not here its own one is meant.
    named = recipe or (method if gpu_memory else None)
    path = named_recipe(named) if named else recipe_path(context, method)
    planned = load_recipe(path, context.config.train.overrides.get(method, {}))
    planned.require(method)
    rows = _training_rows(context, planned)
    out, start = context.round.stage(method), _first_adapter(context, planned)
    run = training_run(context, planned, rows.path, out, weights=False, adapter=start)
    console.print("  measuring a few steps of this machine")
    return make_plan(EstimateRequest(run, rows, load(context, "sft").lora, gpu_memory))


def show_tokens(context: RoundContext, method: Method, count: int) -> TokenView:
    """Return some of a training stage's rows with their trained tokens; nothing is trained.

    Raises:
        UserError: No rows yet, a recipe with mistakes, a base that cannot be chatted with, or rows
            whose trained tokens are not known before: GRPO's own answers, images.
    """
    _require_rows(context, method)
    recipe = load(context, method)
    if recipe.samples or recipe.data == "images":
        what = "learns from its own answers" if recipe.samples else "looks at images"
        fix = "rows of sft, dpo and kto with text can be shown"
        raise UserError(f"{method} {what}, which no file of rows holds", fix=fix)
    with quiet():
        rows = _training_rows(context, recipe)
        folder = resolve_model(context.config.model, weights=False)
        tokenizer = load_tokenizer(folder, chat=recipe.data != "text")
        default = TRAINING_METHODS[method].config_class().__dataclass_fields__["max_length"].default
        longest = recipe.trainer.get("max_length", default)
        whole = recipe.trainer.get("completion_only_loss") is False
        return token_view(rows, tokenizer, longest, count=count, whole_rows=whole)


def _first_adapter(context: RoundContext, recipe: Recipe) -> Path | None:
    """Return the adapter that a run would go on with, if it is trained: here or a round before."""
    own = context.round.path(adapter("sft"))
    if own.is_dir() and not recipe.continues:
        return own
    stage: Method = recipe.method if recipe.continues else "sft"
    start = start_round(context, stage)
    return start.path(adapter(stage)) if start else None


def _require_rows(context: RoundContext, method: Method) -> None:
    """Check that a training's rows are there, before the libraries that read them are loaded."""
    inputs = training_stage(method, context).inputs
    context.round.require(*(one for one in inputs if one.stage == "split"), by=method)


def _training_rows(context: RoundContext, recipe: Recipe) -> Rows:
    own = context.config.train.files.get(recipe.method)
    with tempfile.TemporaryDirectory() as folder:
        path, _ = learning_files(context.round, recipe.method, own, Path(folder))
        return read_rows(recipe, path)
