"""The training stages: one a method, with the recipe, the rows and the adapter that it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rounds.context import RoundContext
from rounds.layout import (
    EXAMPLES,
    PREFERENCES,
    PROGRESS,
    Artifact,
    Records,
    RoundFolder,
    adapter,
    trained_rows,
    unpaired,
    write,
)
from rounds.runner import StageSpec, Work
from workbench.config import Method, dumped
from workbench.errors import UserError, UserErrors
from workbench.inference.base_models import has_gpu
from workbench.records import Example, Preference, Record, SplitName, UnpairedPreference
from workbench.store import existing, read_records

if TYPE_CHECKING:
    from training.run import Recipe

Split = dict[SplitName, Records[Example]] | dict[SplitName, Records[Preference]]
_ROWS: dict[Method, tuple[Split, ...]] = {
    "sft": (EXAMPLES,),
    "dpo": (PREFERENCES,),
    "grpo": (EXAMPLES,),
    "kto": (EXAMPLES, PREFERENCES),
}
"""Method → what of the split it is trained on."""
LEARNING: tuple[SplitName, ...] = ("train", "validation")
_KINDS: dict[Method, type[Record]] = {
    "sft": Example,
    "dpo": Preference,
    "grpo": Example,
    "kto": UnpairedPreference,
}
SFT_ADAPTER = adapter("sft")


def recipe_path(context: RoundContext, method: str) -> Path:
    """Return the recipe of a training stage; ``auto`` follows the device."""
    from importlib.resources import files

    named: str = getattr(context.config.train, method)
    if named != "auto":
        from training.recipe import recipe_path as find

        return find(named)
    suffix = "" if has_gpu() else "-embedded"
    return Path(str(files("training").joinpath(f"recipes/{method}{suffix}.yaml")))


def load(context: RoundContext, method: Method) -> Recipe:
    """Return the recipe of a training stage, with the configuration's overrides.

    Raises:
        UserErrors: Every mistake of the recipe and of the overrides, each with its file and line,
            or that it is for another method.
    """
    from training.recipe import load_recipe

    overrides = context.config.train.overrides.get(method, {})
    try:
        recipe = load_recipe(recipe_path(context, method), overrides)
    except UserErrors as errors:
        raise UserErrors(_placed(context, method, error) for error in errors.errors) from None
    recipe.require(method)
    return recipe


def _placed(context: RoundContext, method: Method, error: UserError) -> UserError:
    """Return a mistake of an override with its place in the configuration."""
    if error.where != "train.overrides":
        return error
    key, _, what = error.what.partition(" ")
    return UserError(what, where=context.place("train", "overrides", method, key), fix=error.fix)


def recipe_checks(
    context: RoundContext, methods: Sequence[Method]
) -> Iterator[Callable[[], object]]:
    """Yield the checks of recipes, tracker, engine and launch that come before anything runs.

    They raise UserErrors: a recipe with its mistakes, a tracker, an engine or a launch that needs
    what is not here, rows that processes cannot share, or rewards that name what the persona does
    not have.
    """
    if not methods:
        return
    from training.callbacks import report_to
    from training.launch import check_launch

    settings = context.config.train
    yield partial(report_to, settings.tracker)
    yield partial(check_launch, settings.launch, settings.processes)
    yield from (partial(_check_method, context, method) for method in methods)


def _check_method(context: RoundContext, method: Method) -> None:
    from training.adapter_init import check_engine
    from training.launch import SINGLE, check_launch, shared_out

    settings = context.config.train
    recipe = load(context, method)
    start_round(context, method)
    check_engine(recipe)
    if settings.launch != SINGLE:
        shared_out(recipe, settings.launch, check_launch(settings.launch, settings.processes))
    if method == "grpo":
        from training.rewards import RewardSettings, make_rewards

        rewards = recipe.rewards or RewardSettings()
        make_rewards(context.persona, rewards, context.config.seed, context.config.judge)


def training_stage(method: Method, context: RoundContext) -> StageSpec:
    """Return the stage of a method: on the curated training side, from the SFT adapter on."""
    own = context.config.train.files.get(method)
    rows = [some[split] for split in LEARNING for some in _ROWS[method]]
    start = start_round(context, method)
    goes_on = method != "sft" and not start and not _makes_adapter(context, method)
    grpo = method == "grpo"
    persona = {"persona.yaml": context.persona_folder / "persona.yaml"} if grpo else {}
    return StageSpec(
        method,
        partial(_train, context, method),
        inputs=(*(() if own else rows), *((SFT_ADAPTER,) if goes_on else ())),
        files={"recipe": recipe_path(context, method)}
        | ({"rows": existing(own)} if own else {})
        | persona,
        earlier=_start_files(start, method) if start else (),
        settings={
            "model": context.config.model,
            "overrides": context.config.train.overrides.get(method, {}),
            **({"judge": dumped(context.config.judge)} if grpo else {}),
            **_launch(context),
        },
        packages=("bitsandbytes", "peft", "torch", "transformers", "trl"),
        resumable=True,
    )


def _launch(context: RoundContext) -> dict[str, Any]:
    """Return how processes share the training, where they do: sums are rounded otherwise then."""
    settings = context.config.train
    if settings.launch == "single":
        return {}
    return {"launch": settings.launch, "processes": settings.processes}


def _makes_adapter(context: RoundContext, method: Method) -> bool:
    return any(_says(context, method).get(name) is not None for name in ("lora", "osf"))


def _says(context: RoundContext, method: Method) -> dict[str, Any]:
    """Return what a recipe says, overrides on top; without the libraries that check it."""
    from workbench.yamlfile import read_yaml

    recipe, _ = read_yaml(recipe_path(context, method))
    return recipe | context.config.train.overrides.get(method, {})


def start_round(context: RoundContext, method: Method) -> RoundFolder | None:
    """Return the earlier round whose adapter a recipe goes on from; None where it does not.

    Raises:
        UserError: The recipe goes on from one, and there is none, or it is of another base.
    """
    says = _says(context, method)
    given = says.get("rounds")
    last = given.get("start") if isinstance(given, dict) else None
    if says.get("rounds.start", last) != "last":
        return None
    done = (one for one in context.round.earlier if one.done(method))
    trained = [one for one in done if one.has(adapter(method))]
    where = str(recipe_path(context, method))
    if not trained:
        fix = "give rounds: {start: base}, or train an earlier round first"
        what = (
            f"starts at the last {method} adapter, but no round before {context.round.name} has one"
        )
        raise UserError(what, where=where, fix=fix)
    manifest = trained[-1].manifest(method)
    made_for = manifest.settings["model"] if manifest else None
    if made_for != context.config.model:
        what = (
            f"{trained[-1].name}/{method} was trained on {made_for}, not on {context.config.model}"
        )
        raise UserError(what, where=where, fix="give rounds: {start: base}, or the earlier --model")
    return trained[-1]


def _start_files(start: RoundFolder, method: Method) -> tuple[tuple[RoundFolder, Artifact], ...]:
    """Return the adapter that a run starts at, and the rows that it was trained on."""
    rows = [some["train"] for some in _ROWS[method]]
    return tuple((start, one) for one in (adapter(method), *rows))


def _train(context: RoundContext, method: Method, work: Work) -> None:
    from training.launch import launched
    from training.run import TrainingRun
    from workbench.inference.base_models import resolve_model

    recipe = load(context, method)
    start = start_round(context, method)
    goes_on = None if recipe.makes_adapter else work.path(SFT_ADAPTER)
    train, validation = learning_files(
        context.round, method, context.config.train.files.get(method), work.out
    )
    if start and not context.config.train.files.get(method):
        train = _drawn(recipe, start, train, work, context.config.seed)
    run = TrainingRun(
        recipe=recipe,
        model=resolve_model(context.config.model),
        adapter=start.path(adapter(method)) if start else goes_on,
        train=train,
        validation=validation,
        out=work.out,
        seed=context.config.seed,
        base_name=context.config.model,
        tracker=context.config.train.tracker,
        persona=context.persona if method == "grpo" else None,
        judge=context.config.judge if method == "grpo" else None,
    )
    settings = context.config.train
    news = work.round.folder / PROGRESS
    summary = launched(run, settings.launch, settings.processes, news)
    work.counts.update(summary.model_dump(mode="json"))


def _drawn(recipe: Recipe, start: RoundFolder, train: Path, work: Work, seed: int) -> Path:
    """Write the rows of a run that goes on from an earlier round, and return their file."""
    from training.data import draw_replay

    known = {row.id for row in _rows_of(start, recipe.method)}
    rows: list[Record] = list(read_records(train, _KINDS[recipe.method]))
    drawn = draw_replay(rows, known, recipe.rounds.replay, seed)
    work.counts.update(
        start=f"{start.name}/{recipe.method}",
        new=drawn.new,
        replayed=drawn.replayed,
        earlier=drawn.earlier,
    )
    return work.write(trained_rows(recipe.method), drawn.rows)


def _rows_of(start: RoundFolder, method: Method) -> Sequence[Record]:
    """Return the rows that a round's adapter was trained on."""
    if method == "kto":
        return _unpaired(start, "train")
    return start.read(_ROWS[method][0]["train"])


def learning_files(
    round_: RoundFolder, method: Method, own: Path | None, out: Path
) -> tuple[Path, Path | None]:
    """Return the files of training and validation rows, ``own`` or those of the split.

    Args:
        round_: The round, which is split.
        method: The training stage.
        own: A file that the configuration names in place of the split's.
        out: Where KTO's rows are written, which the split does not hold as they are.
    """
    if own:
        return own, None
    if method != "kto":
        train, validation = (round_.path(_ROWS[method][0][split]) for split in LEARNING)
        return train, _filled(validation)
    rows = {split: _unpaired(round_, split) for split in LEARNING}
    train, validation = (write(out, unpaired(split), rows[split]) for split in LEARNING)
    # A loss on rows of one kind would be held against nothing.
    both = {row.label for row in rows["validation"]} == {True, False}
    return train, validation if both else None


def _unpaired(round_: RoundFolder, split: SplitName) -> list[UnpairedPreference]:
    """Return a desirable answer for every row that reviewers took, an undesirable one else."""
    return [
        UnpairedPreference(
            prompt=row.prompt, answer=row.answer, label=True, topic=row.topic, parents=(row.id,)
        )
        for row in round_.read(EXAMPLES[split])
    ] + [
        UnpairedPreference(
            prompt=pair.prompt,
            answer=pair.rejected,
            label=False,
            topic=pair.topic,
            parents=(pair.id,),
        )
        for pair in round_.read(PREFERENCES[split])
    ]


def _filled(path: Path) -> Path | None:
    """Return a file of rows, None where it is empty: a small round may have no validation pairs."""
    return path if path.exists() and path.stat().st_size else None
