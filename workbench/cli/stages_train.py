"""The training stages: one a method, with the recipe, the rows and the adapter that it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli.job import Job
from workbench.config import METHODS, Method, dumped
from workbench.models import has_gpu
from workbench.records import Example, Preference, Thumb
from workbench.rounds import StageSpec, Work
from workbench.store import existing, read_records, write_records

if TYPE_CHECKING:
    from training.recipe import Recipe

_PAIRS = ("preferences-",)
_ROWS: dict[Method, tuple[str, ...]] = {
    "sft": ("",),
    "dpo": _PAIRS,
    "grpo": ("",),
    "kto": ("", *_PAIRS),
}
"""Method → prefixes of the split's files that it is trained on."""
SFT_ADAPTER = "sft/adapter"


def recipe_path(job: Job, method: str) -> Path:
    """Return the recipe of a training stage; ``auto`` follows the device."""
    from importlib.resources import files

    named: str = getattr(job.config.train, method)
    if named != "auto":
        from training.recipe import recipe_path as find

        return find(named)
    suffix = "" if has_gpu() else "-embedded"
    return Path(str(files("training").joinpath(f"recipes/{method}{suffix}.yaml")))


def load(job: Job, method: str) -> Recipe:
    """Return the recipe of a training stage, with the configuration's overrides.

    Raises:
        UserErrors: Every mistake of the recipe, each with its line.
    """
    from training.recipe import load_recipe

    return load_recipe(recipe_path(job, method), job.config.train.overrides.get(method, {}))


def check_recipes(job: Job, names: Sequence[str]) -> None:
    """Check the recipes, the tracker and the engine of the named stages before anything runs.

    Raises:
        UserError: A recipe with its mistakes, a tracker or an engine that is not installed, or
            rewards that name what the persona does not have.
    """
    methods = [method for method in METHODS if method in names]
    if not methods:
        return
    from training.engine import check_engine
    from training.tracking import report_to

    report_to(job.config.train.tracker)
    for method in methods:
        recipe = load(job, method)
        check_engine(recipe)
        if method == "grpo":
            from training.rewards import RewardSettings, make_rewards

            settings = RewardSettings.model_validate(recipe.rewards or {})
            make_rewards(job.persona, settings, job.config.seed, job.config.judge)


def training_stage(method: Method, job: Job) -> StageSpec:
    """Return the stage of a method: on the curated training side, from the SFT adapter on."""
    own = job.config.train.files.get(method)
    sides = [f"split/{p}{side}.jsonl" for side in ("train", "validation") for p in _ROWS[method]]
    goes_on = method != "sft" and not _makes_adapter(job, method)
    grpo = method == "grpo"
    persona = {"persona.yaml": job.persona_folder / "persona.yaml"} if grpo else {}
    return StageSpec(
        method,
        partial(_train, job, method),
        inputs=(*(() if own else sides), *((SFT_ADAPTER,) if goes_on else ())),
        files={"recipe": recipe_path(job, method)}
        | ({"rows": existing(own)} if own else {})
        | persona,
        settings={
            "model": job.config.model,
            "overrides": job.config.train.overrides.get(method, {}),
            **({"judge": dumped(job.config.judge)} if grpo else {}),
        },
        packages=("bitsandbytes", "peft", "torch", "transformers", "trl"),
        resumable=True,
    )


def _makes_adapter(job: Job, method: Method) -> bool:
    """Return whether the recipe makes a new adapter; without the libraries that check it."""
    from workbench.yamlfile import read_yaml

    recipe, _ = read_yaml(recipe_path(job, method))
    recipe |= job.config.train.overrides.get(method, {})
    return any(recipe.get(name) is not None for name in ("lora", "osf"))


def _train(job: Job, method: Method, work: Work) -> None:
    from workbench.models import resolve_model

    recipe = load(job, method)
    model = resolve_model(job.config.model)
    train, validation = sides(job, method, work)
    adapter = None if recipe.fresh else work.input(SFT_ADAPTER)
    always: dict[str, Any] = {
        "seed": job.config.seed,
        "base_name": job.config.model,
        "tracker": job.config.train.tracker,
    }
    rows = (train, validation, work.out)
    if method == "sft":
        from training.sft import train_sft

        summary = train_sft(recipe, model, *rows, **always)
    elif method == "dpo":
        from training.dpo import train_dpo

        assert adapter is not None
        summary = train_dpo(recipe, model, adapter, *rows, **always)
    elif method == "grpo":
        from training.grpo import train_grpo

        always |= {"persona": job.persona, "judge": job.config.judge}
        summary = train_grpo(recipe, model, adapter, *rows, **always)
    else:
        from training.kto import train_kto

        summary = train_kto(recipe, model, adapter, *rows, **always)
    work.counts.update(summary.model_dump(mode="json"))


def sides(job: Job, method: Method, work: Work) -> tuple[Path, Path | None]:
    """Return the files of rows: those of the configuration, else of the split."""
    if own := job.config.train.files.get(method):
        return own, None
    if method != "kto":
        train, validation = (
            work.input(f"split/{_ROWS[method][0]}{side}.jsonl") for side in ("train", "validation")
        )
        return train, _filled(validation)
    for side in ("train", "validation"):
        write_records(work.out / f"thumbs-{side}.jsonl", _thumbs(work, side))
    return work.out / "thumbs-train.jsonl", None


def _thumbs(work: Work, side: str) -> Iterator[Thumb]:
    """Yield a thumb up for every row that reviewers took, down for every answer turned down."""
    for row in read_records(work.input(f"split/{side}.jsonl"), Example):
        yield Thumb(
            prompt=row.prompt, answer=row.answer, good=True, topic=row.topic, parents=(row.id,)
        )
    for pair in read_records(work.input(f"split/preferences-{side}.jsonl"), Preference):
        yield Thumb(
            prompt=pair.prompt,
            answer=pair.rejected,
            good=False,
            topic=pair.topic,
            parents=(pair.id,),
        )


def _filled(path: Path) -> Path | None:
    """Return a file of rows, None where it is empty: a small round may have no validation pairs."""
    return path if path.exists() and path.stat().st_size else None
