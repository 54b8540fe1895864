"""Which recipe, and which base: several trainings on the same rows, judged on validation rows.

In: a round whose split is made, and the fields or the bases to try. Out: every training's loss on
the validation rows, the best one held against the recipe as it is, and one line of advice. Nothing
here reads the test split: `persona evaluate` looks at it once, when the choice is made. Called by
``persona sweep`` and ``persona bakeoff``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.sweep import SweepReport, SweepTrial, label
from rounds.artifacts import Document
from rounds.context import RoundContext
from rounds.layout import BAKEOFF, SWEEP, VALIDATION
from rounds.rehearsal import rehearsal_file, with_rehearsal
from rounds.stages.train import learning_files, load, recipe_path, training_run
from training.row_loss import row_losses
from training.run import Recipe
from workbench.config import Method
from workbench.console import console
from workbench.errors import UserError
from workbench.inference.base_models import resolve_model
from workbench.inference.hub import hub_offline
from workbench.records import Example
from workbench.stats.comparison import paired_difference
from workbench.store import file_hash, read_json, write_json

if TYPE_CHECKING:
    from optuna import Study, Trial
    from transformers import TrainerCallback

SCALE = 100
"""Losses are of so many characters: bases cut the same text into other tokens."""
_LOSSES = "losses.json"
_STOPPED = "stopped.json"
_PATIENCE = 10
"""Proposals a training: a sampler proposes again and again what is known and good."""


def _digest(value: object) -> str:
    """Return what files of a training or a study are named by."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class _Place:
    """Where the trainings of one question lie, and what they share."""

    context: RoundContext
    method: Method
    folder: Path
    validation: list[Example]

    def trial(
        self, changes: Mapping[str, Any], context: RoundContext, watch: TrainerCallback | None
    ) -> SweepTrial:
        """Return a training, made now or before; one that was killed goes on.

        ``context`` is the round's with the changes in it.
        """
        recipe = load(context, self.method)
        rehearsed = rehearsal_file(context) if recipe.rehearsal.rows else None
        prompts = {"rehearsal": file_hash(rehearsed)} if rehearsed else {}
        out = self.folder / _digest({**changes, **prompts})
        for name in (_LOSSES, _STOPPED):
            if (out / name).exists():
                return SweepTrial.model_validate(read_json(out / name))
        begun = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        trial = _train(context, recipe, out, self.validation, watch)
        trial = trial.model_copy(
            update={"changes": dict(changes), "seconds": round(time.monotonic() - begun, 1)}
        )
        shutil.rmtree(out / "adapter", ignore_errors=True)
        write_json(out / (_STOPPED if trial.stopped_at else _LOSSES), trial.model_dump(mode="json"))
        return trial


def _train(
    context: RoundContext,
    recipe: Recipe,
    out: Path,
    validation: Sequence[Example],
    watch: TrainerCallback | None,
) -> SweepTrial:
    """Train a recipe and return the validation rows' losses under its adapter."""
    from training.trainer import train

    one = context.round
    own = context.config.train.files.get(recipe.method)
    rows, evaluated = learning_files(one, recipe.method, own, out)
    if not own:
        scratch = one.scratch("sweep")
        rows, _ = with_rehearsal(context, recipe.rehearsal, rows, out, scratch)
    persona = context.persona if recipe.samples else None
    run = training_run(context, recipe, rows, out, validation=evaluated, persona=persona)
    with hub_offline():
        train(run, watch)
        if stopped := getattr(watch, "stopped_at", 0):
            return SweepTrial(changes={}, stopped_at=stopped)
        losses = row_losses(run.model, out / "adapter", validation)
    characters = {row.id: max(len(row.answer), 1) / SCALE for row in validation}
    tuned = {one.id: one.tuned * one.tokens / characters[one.id] for one in losses}
    base = [one.base * one.tokens / characters[one.id] for one in losses]
    return SweepTrial(
        changes={},
        loss=sum(tuned.values()) / len(tuned),
        base_loss=sum(base) / len(base),
        by_row=tuned,
    )


@contextmanager
def _place(context: RoundContext, method: Method) -> Iterator[_Place]:
    """Yield where trainings of a question lie, with the round held.

    Raises:
        UserError: No split yet, no validation rows, or a recipe that is broken or starts at an
            adapter that knows the rows.
    """
    context.round.check_there()
    validation = context.round.read(VALIDATION)
    if not validation:
        where = str(context.round.path(VALIDATION))
        fix = "split with a validation share above 0"
        raise UserError("there are no validation rows to decide by", where=where, fix=fix)
    recipe = load(context, method)
    if not recipe.makes_adapter or recipe.continues:
        what = f"{method} goes on from another adapter, and a sweep starts at the base"
        raise UserError(what, where=str(recipe_path(context, method)), fix="sweep sft or sdft")
    own = context.config.train.files.get(method)
    files = learning_files(context.round, method, own, context.round.folder)
    parts = [recipe.model_dump(mode="json"), str(context.config.seed), context.config.model]
    parts += [file_hash(path) for path in files if path]
    folder = context.round.scratch("sweep") / f"{method}-{_digest(parts)}"
    with context.round.locked():
        folder.mkdir(parents=True, exist_ok=True)
        yield _Place(context, method, folder, validation)


def run_sweep(
    context: RoundContext, method: Method, space: Mapping[str, Sequence[Any]], trials: int
) -> SweepReport:
    """Train a recipe with other values of some of its fields, and return what the best is.

    Optuna proposes (its TPE sampler, the most promising next, the recipe as it is first) and stops
    what lies behind the median of the others at the same step, where the recipe evaluates while it
    trains. The study is a SQLite file beside the trainings: a call that was killed goes on.

    Args:
        context: The round.
        method: ``sft`` or ``sdft``.
        space: Recipe key, such as ``trainer.learning_rate`` → the values to try.
        trials: Trainings at most, earlier calls' among them.

    Raises:
        UserError: optuna is not installed, a field that the recipe does not have, no rows.
    """
    try:
        import optuna
    except ImportError:
        fix = "pip install 'persona-workbench[sweep]', or pip install optuna"
        raise UserError("a sweep needs the package optuna", fix=fix) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    own = _own_values(load(context, method), space)
    choices = {key: list(dict.fromkeys((own[key], *values))) for key, values in space.items()}
    for changes in ({key: value} for key, values in choices.items() for value in values):
        load(_changed(context, method, changes), method)  # every mistake before any training
    with _place(context, method) as place:
        study = _study(place, choices, context.config.seed)
        results = {
            label(one.params): place.trial(one.params, _changed(context, method, one.params), None)
            for one in study.trials
            if one.state.name in ("COMPLETE", "PRUNED")
        }
        limit = min(trials, prod(map(len, choices.values())))
        asked = 0
        while len(results) < limit and asked < _PATIENCE * limit:
            proposed, asked = study.ask(), asked + 1
            changes = {key: proposed.suggest_categorical(key, choices[key]) for key in choices}
            if label(changes) not in results:
                number = f"{len(results) + 1} of {limit}"
                console.print(f"  sweep, {number}: {label(changes)}", markup=False)
            changed, watch = _changed(context, method, changes), _stops_the_hopeless(proposed)
            trial = results[label(changes)] = place.trial(changes, changed, watch)
            state = optuna.trial.TrialState.PRUNED if trial.loss is None else None
            study.tell(proposed, trial.loss, state=state)
        return _report(SWEEP, method, place, list(results.values()), own)


def _study(place: _Place, choices: Mapping[str, Sequence[Any]], seed: int) -> Study:
    """Return the study of these choices, opened or begun; what a killed call had under way is next.

    The first values of the choices are the recipe's own, which a new study asks first.
    """
    import optuna

    key = _digest(choices)
    study = optuna.create_study(
        study_name=key,
        storage=f"sqlite:///{place.folder / f'study-{key}.sqlite'}",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )
    count = len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed + count, n_startup_trials=3)
    for one in study.trials:
        if not one.state.is_finished() and one.params:
            study.tell(one.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(one.params)
    if not count:
        study.enqueue_trial({name: values[0] for name, values in choices.items()})
    return study


def _stops_the_hopeless(trial: Trial) -> TrainerCallback:
    """Return a callback that tells optuna each validation loss and heeds its word."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        stopped_at = 0

        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
        ) -> None:
            loss, step = (metrics or {}).get("eval_loss"), int(state.global_step)
            if loss is None or step >= state.max_steps:
                return
            trial.report(float(loss), step)
            if trial.should_prune():
                self.stopped_at, control.should_training_stop = step, True

    return Watch()


def _own_values(recipe: Recipe, space: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the recipe's own value of every field that is tried.

    Raises:
        UserError: It does not say one: there would be nothing to hold the others against.
    """
    data = recipe.model_dump(mode="json")
    values = {}
    for key in space:
        section, _, name = key.partition(".")
        fields = data.get(section)
        if not isinstance(fields, dict) or name not in fields:
            known = [f"{s}.{n}" for s in ("trainer", "lora") for n in (data.get(s) or {})]
            fix = f"one of {', '.join(known)}"
            raise UserError(f"the recipe does not say '{key}'", where="--try", fix=fix)
        values[key] = fields[name]
    return values


def _changed(context: RoundContext, method: Method, changes: Mapping[str, Any]) -> RoundContext:
    before = context.config.train.overrides
    own = {**before.get(method, {}), **changes}
    return context.with_settings("train", overrides={**before, method: own})


def run_bakeoff(context: RoundContext, models: Sequence[str], method: Method) -> SweepReport:
    """Train the same rows on several bases, and return which foretells validation answers best.

    Losses are of a hundred characters, since bases cut texts into other tokens. The first base is
    what the others are held against. A call that was killed goes on.

    Raises:
        UserError: Fewer than two bases, one that is nowhere to be had, no rows.
    """
    if len(set(models)) < 2:
        raise UserError("a bake-off takes two bases or more", where="--base", fix="name another")
    bases = {
        name: replace(context, config=context.config.model_copy(update={"model": name}))
        for name in models
    }
    for name in bases:
        resolve_model(name)  # all of them before any training
    with _place(bases[models[0]], method) as place:
        results = []
        for name, changed in bases.items():
            console.print(f"  bake-off: {name}", markup=False)
            own = replace(place, folder=place.folder / _digest(name))
            results.append(own.trial({"model": name}, changed, None))
        return _report(BAKEOFF, method, place, results, {"model": models[0]})


def _report(
    artifact: Document[SweepReport],
    method: Method,
    place: _Place,
    trials: list[SweepTrial],
    reference: Mapping[str, Any],
) -> SweepReport:
    """Return what the trainings amount to, and leave it in the round for the report."""
    done = [one for one in trials if one.loss is not None]
    stopped = [one for one in trials if one.loss is None]
    ordered = sorted(done, key=lambda one: one.loss or 0.0)
    own = next(one for one in ordered if one.changes == dict(reference))

    def with_gain(one: SweepTrial) -> SweepTrial:
        pairs = [(own.by_row[row], one.by_row[row]) for row in own.by_row if row in one.by_row]
        gain = None if one is own else paired_difference(pairs, place.context.config.seed)
        return one.model_copy(update={"gain": gain})

    report = SweepReport(
        method=method,
        rows=len(place.validation),
        trials=(*map(with_gain, ordered), *stopped),
        reference=dict(reference),
    )
    place.context.round.path(artifact).parent.mkdir(parents=True, exist_ok=True)
    write_json(place.context.round.path(artifact), report.model_dump(mode="json"))
    return report
