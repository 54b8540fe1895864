"""The training stages, one a method: which recipe, which rows, and which adapter it goes on from.

In: the split, or rows of the user's own; the SFT adapter, or that of an earlier round. Out: an
adapter with its curve and recipe. What is trained how is :mod:`training`'s to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rounds import layout
from rounds.artifacts import Records
from rounds.context import RoundContext
from rounds.judging import reward_model_key, trusted_reward_model
from rounds.layout import RoundFolder, adapter, trained_rows, unpaired, write
from rounds.rehearsal import rehearsal_file, with_rehearsal
from rounds.runner import StageSpec, Work
from training.adapter_init import check_engine, check_tied
from training.data import draw_replay
from training.recipe import load_recipe
from training.recipe import recipe_path as find
from training.rewards import RewardSettings, make_rewards
from training.run import Recipe, TrainingRun
from workbench.config import METHODS, Method
from workbench.errors import UserError, UserErrors
from workbench.inference.base_models import has_gpu, resolve_model
from workbench.inference.reward_model import RewardModel
from workbench.records import Example, Preference, Record, SplitName, UnpairedPreference
from workbench.store import existing, read_records
from workbench.values import dumped
from workbench.yamlfile import read_yaml

Split = dict[SplitName, Records[Example]] | dict[SplitName, Records[Preference]]
_ROWS: dict[Method, tuple[Split, ...]] = {
    "sft": (layout.EXAMPLES,),
    "dpo": (layout.PREFERENCES,),
    "grpo": (layout.EXAMPLES,),
    "kto": (layout.EXAMPLES, layout.PREFERENCES),
    "sdft": (layout.EXAMPLES,),
}
"""Method → what of the split it is trained on."""
LEARNING: tuple[SplitName, ...] = ("train", "validation")
SFT_ADAPTER = adapter("sft")


def recipe_path(context: RoundContext, method: str) -> Path:
    """Return the recipe of a training stage; ``auto`` follows the device."""
    from importlib.resources import files

    named: str = getattr(context.config.train, method)
    if named != "auto":
        return find(named)
    suffix = "" if has_gpu() else "-embedded"
    return Path(str(files("training").joinpath(f"recipes/{method}{suffix}.yaml")))


def load(context: RoundContext, method: Method) -> Recipe:
    """Return the recipe of a training stage, with the configuration's overrides.

    Raises:
        UserErrors: Every mistake of the recipe and of the overrides, each with its file and line,
            or that it is for another method.
    """
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
    from training.launch import SINGLE, check_launch, recipe_per_process

    settings = context.config.train
    recipe = load(context, method)
    start_round(context, method)
    check_engine(recipe)
    check_tied(recipe, context.config.model)
    if settings.launch != SINGLE:
        recipe_per_process(
            recipe, settings.launch, check_launch(settings.launch, settings.processes)
        )
    if method == "grpo":
        rewards = recipe.rewards or RewardSettings()
        make_rewards(context.persona, rewards, context.config.seed, context.config.judge)
        _reward_model(context, recipe)


def _reward_model(context: RoundContext, recipe: Recipe) -> RewardModel | None:
    """Return the reviewers' reward model where a recipe rewards it.

    Raises:
        UserError: It gives it a weight, and no evaluation has one that passed the gate.
    """
    if not (recipe.rewards and recipe.rewards.reward_model):
        return None
    return trusted_reward_model(context, f"{recipe_path(context, recipe.method)}: rewards")


def training_stage(method: Method, context: RoundContext) -> StageSpec:
    """Return the stage of a method: on the curated training split, from the SFT adapter on."""
    own = context.config.train.files.get(method)
    outline = _outline(context, method)
    start = _start_of(context, method) if outline.starts_at_last else None
    trained = [some["train"] for some in _ROWS[method]]
    rows = () if own else tuple(some[split] for split in LEARNING for some in _ROWS[method])
    rehearsed = rehearsal_file(context) if outline.rehearses and not own else None
    goes_on = method != "sft" and not start and not outline.makes_adapter
    settings = context.config.train
    grpo, shared = method == "grpo", settings.launch != "single"
    reads_persona = grpo or method == "sdft"
    return StageSpec(
        method,
        partial(_train, context, method, start),
        inputs=(*rows, *((SFT_ADAPTER,) if goes_on else ())),
        # The adapter that it starts at, and the rows that this was trained on.
        earlier=tuple((start, one) for one in (adapter(method), *trained)) if start else (),
        files={
            "recipe": recipe_path(context, method),
            **({"rows": existing(own)} if own else {}),
            **({"rehearsal": rehearsed} if rehearsed else {}),
            **(context.persona_files("persona.yaml") if reads_persona else {}),
        },
        settings={
            "model": context.config.model,
            "base": context.base_key(method),
            "overrides": settings.overrides.get(method, {}),
            **({"judge": dumped(context.config.judge)} if grpo else {}),
            **({"reward_model": model} if grpo and (model := _heads_key(context)) else {}),
            # Where several processes share the training, sums are rounded otherwise.
            **({"launch": settings.launch, "processes": settings.processes} if shared else {}),
        },
        packages=("bitsandbytes", "peft", "torch", "transformers", "trl"),
        resumable=True,
    )


def reads_texts(context: RoundContext, name: str) -> bool:
    """Return whether a stage trains on raw text, for which a base needs no chat template."""
    return any(name == method and _outline(context, method).reads_texts for method in METHODS)


def _heads_key(context: RoundContext) -> str:
    """Return what tells the reward model of GRPO's recipe from others; empty where it has none."""
    recipe, _ = read_yaml(recipe_path(context, "grpo"))
    rewards = recipe.get("rewards")
    own = rewards.get("reward_model") if isinstance(rewards, dict) else None
    changed = context.config.train.overrides.get("grpo", {}).get("rewards.reward_model", own)
    return reward_model_key(context) if changed else ""


class _Outline(NamedTuple):
    """What of a recipe decides the inputs of its stage."""

    makes_adapter: bool
    starts_at_last: bool
    reads_texts: bool
    rehearses: bool


def _outline(context: RoundContext, method: Method) -> _Outline:
    """Return it, overrides on top, without the libraries that check a recipe."""
    recipe, _ = read_yaml(recipe_path(context, method))
    recipe |= context.config.train.overrides.get(method, {})
    rounds = recipe.get("rounds")
    start = rounds.get("start") if isinstance(rounds, dict) else None
    rehearsal = recipe.get("rehearsal")
    rehearsal = rehearsal if isinstance(rehearsal, dict) else {}
    return _Outline(
        any(recipe.get(name) is not None for name in ("lora", "osf")),
        recipe.get("rounds.start", start) == "last",
        recipe.get("data") == "text",
        bool(recipe.get("rehearsal.rows", rehearsal.get("rows"))),
    )


def start_round(context: RoundContext, method: Method) -> RoundFolder | None:
    """Return the earlier round whose adapter a recipe goes on from; None where it does not.

    Raises:
        UserError: The recipe goes on from one, and there is none, or it is of another base.
    """
    return _start_of(context, method) if _outline(context, method).starts_at_last else None


def _start_of(context: RoundContext, method: Method) -> RoundFolder:
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
    base = manifest.settings["model"] if manifest else None
    if base != context.config.model:
        what = f"{trained[-1].name}/{method} was trained on {base}, not on {context.config.model}"
        raise UserError(what, where=where, fix="give rounds: {start: base}, or the earlier --model")
    return trained[-1]


def _train(context: RoundContext, method: Method, start: RoundFolder | None, work: Work) -> None:
    from training.launch import run_training

    settings = context.config.train
    recipe, own = load(context, method), settings.files.get(method)
    sft = work.path(SFT_ADAPTER) if SFT_ADAPTER in work.inputs else None
    train, validation = learning_files(work.round, method, own, work.out)
    if start and not own:
        train = _with_replay(recipe, start, train, work, context.config.seed)
    if not own:
        scratch = work.round.scratch(method)
        train, rehearsed = with_rehearsal(context, recipe.rehearsal, train, work.out, scratch)
        work.counts.update({"rehearsed": rehearsed} if rehearsed else {})
    run = training_run(
        context,
        recipe,
        train,
        work.out,
        adapter=start.path(adapter(method)) if start else sft,
        validation=validation,
        tracker=settings.tracker,
        persona=context.persona if recipe.samples else None,
        judge=context.config.judge if method == "grpo" else None,
        reward_model=_reward_model(context, recipe),
    )
    progress = work.round.folder / layout.PROGRESS
    summary = run_training(run, settings.launch, settings.processes, progress)
    work.counts.update(summary.model_dump(mode="json"))


def training_run(
    context: RoundContext,
    recipe: Recipe,
    train: Path,
    out: Path,
    *,
    weights: bool = True,
    **more: object,
) -> TrainingRun:
    """Return a run on the round's base with its seed; ``more`` are further fields of it.

    Without ``weights`` those of the base need not be there.
    """
    return TrainingRun(
        recipe=recipe,
        model=resolve_model(context.config.model, weights=weights),
        base_name=context.config.model,
        train=train,
        out=out,
        seed=context.config.seed,
        **more,
    )


def _with_replay(recipe: Recipe, start: RoundFolder, train: Path, work: Work, seed: int) -> Path:
    """Write the rows of a run that goes on from an earlier round, and return their file."""
    method = recipe.method
    known = {row.id for row in _rows_of(start, method)}
    rows: list[Record] = list(read_records(train, trained_rows(method).model))
    replay = draw_replay(rows, known, recipe.rounds.replay, seed)
    work.counts.update(
        start=f"{start.name}/{method}",
        new=replay.new,
        replayed=replay.replayed,
        earlier=replay.earlier,
    )
    return work.write(trained_rows(method), replay.rows)


def _rows_of(start: RoundFolder, method: Method) -> Sequence[Record]:
    """Return the rows that a round's adapter was trained on."""
    if method == "kto":
        return unpaired_rows(start, "train")
    return start.read(_ROWS[method][0]["train"])


def learning_files(
    round_: RoundFolder, method: Method, own: Path | None, out: Path
) -> tuple[Path, Path | None]:
    """Return the files of training and validation rows, ``own`` or those of the split.

    ``own`` is a file that the configuration names in place of the split's. KTO's rows, which the
    split does not hold as they are, are written into ``out``.
    """
    if own:
        return own, None
    if method != "kto":
        train, validation = (round_.path(_ROWS[method][0][split]) for split in LEARNING)
        return train, _filled(validation)
    rows = {split: unpaired_rows(round_, split) for split in LEARNING}
    train, validation = (write(out, unpaired(split), rows[split]) for split in LEARNING)
    # A loss on rows of one kind would be held against nothing.
    both = {row.label for row in rows["validation"]} == {True, False}
    return train, validation if both else None


def unpaired_rows(round_: RoundFolder, split: SplitName) -> list[UnpairedPreference]:
    """Return KTO's rows of a split.

    A desirable answer for every row that reviewers took, an undesirable one for every rejected one.
    """
    return [
        UnpairedPreference(
            prompt=row.prompt, answer=row.answer, label=True, topic=row.topic, parents=(row.id,)
        )
        for row in round_.read(layout.EXAMPLES[split])
    ] + [
        UnpairedPreference(
            prompt=pair.prompt,
            answer=pair.rejected,
            label=False,
            topic=pair.topic,
            parents=(pair.id,),
        )
        for pair in round_.read(layout.PREFERENCES[split])
    ]


def _filled(path: Path) -> Path | None:
    """Return a file of rows, None where it is empty: a small round may have no validation pairs."""
    return path if path.exists() and path.stat().st_size else None
