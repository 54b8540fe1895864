"""A round's methods trained with several seeds: how far another training would have moved it.

In: a trained and evaluated round. Out: the stage ``seeds``: the last arm's difference to the base
over all trainings. Each further training and its evaluation lie in a folder of their own inside the
round, as those of an ablation do. ``persona run --seeds 3`` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rounds import ablation
from rounds.ablation import prepare_again, unprompted
from rounds.arms import own_arms
from rounds.comparison import counted_traits
from rounds.context import RoundContext
from rounds.layout import COMPARISON, RESPONSES, SCORES, SEEDS, TEST, TRAIN, RoundFolder
from rounds.pipeline import run_spec, run_stages
from rounds.runner import Outcome, StageSpec, Work
from workbench.stats.training_seeds import SeedsReport, crossed_mean, differences_by_prompt
from workbench.values import dumped

FOLDER = ".seeds"
_QUICK: dict[str, object] = dict.fromkeys(
    ("probes", "conversations", "drift", "safety", "requests"), 0
)
"""Of a further training only the held-out questions are asked."""


def run_with_seeds(
    context: RoundContext, names: Sequence[str], *, force: Sequence[str] = ()
) -> list[Outcome]:
    """Run stages in order, and after the evaluation the further trainings, where some are wanted.

    Raises:
        UserError: What a stage says.
    """
    if context.config.train.seeds < 2 or "evaluate" not in names:
        return run_stages(context, names, force=force)
    rest = list(names)[names.index("evaluate") + 1 :]
    outcomes = run_stages(context, names[: len(names) - len(rest)], force=force)
    outcomes.append(run_spec(context, seeds_stage(context)))
    return outcomes + (run_stages(context, rest, force=force) if rest else [])


def seeds_stage(context: RoundContext) -> StageSpec:
    """Return the stage: trained again with further seeds, and all trainings taken together."""
    return StageSpec(
        SEEDS.stage,
        partial(_train_again, context),
        inputs=(TRAIN, TEST, RESPONSES, SCORES, COMPARISON),
        settings={"seeds": context.config.train.seeds, "train": dumped(context.config.train)},
        packages=("scipy",),
    )


def _train_again(context: RoundContext, work: Work) -> None:
    one, plain = context.round, unprompted(context, **_QUICK)
    arm = own_arms(plain)[-1].name
    first = context.config.seed
    trained = {first: one}
    for seed in range(first + 1, first + context.config.train.seeds):
        again = RoundFolder(one.folder / FOLDER / f"seed-{seed}" / one.name)
        prepare_again(one, again)
        config = plain.config.model_copy(update={"seed": seed})
        run_stages(replace(plain, round=again, config=config), [*config.train.methods, "evaluate"])
        trained[seed] = again
    report = taken_together(trained, arm)
    work.write(SEEDS, report)
    work.counts.update(trainings=len(trained), seeds=list(trained))


def taken_together(trained: dict[int, RoundFolder], arm: str) -> SeedsReport:
    """Return an arm's differences to the base over trainings by their seeds."""
    base = next(iter(trained.values())).read(COMPARISON).base
    traits = counted_traits(trained.values())
    topics: dict[str, str] = {}
    changes: dict[str, dict[int, dict[str, float]]] = {}
    values: dict[str, list[float]] = {}
    for seed, one in trained.items():
        responses = one.read(RESPONSES)
        topics |= {response.prompt_id: response.topic for response in responses}
        own = differences_by_prompt(one.read(SCORES), responses, arm, base, traits)
        for metric, (change, value) in own.items():
            changes.setdefault(metric, {})[seed] = change
            values.setdefault(metric, []).append(value)
    means = {
        metric: mean
        for metric, by_seed in changes.items()
        if len(by_seed) == len(trained) and (mean := crossed_mean(by_seed, topics))
    }
    return SeedsReport(
        arm=arm,
        seeds=tuple(trained),
        measures=means,
        values={metric: sum(values[metric]) / len(values[metric]) for metric in means},
    )


def trainings(one: RoundFolder) -> dict[str, RoundFolder]:
    """Return every evaluated training of a round: itself, with further seeds, without rows.

    Returns:
        Empty for the round itself, ``seed-43``, ``topic-soreness`` → where it lies.
    """
    folders = [
        own
        for name in (FOLDER, ablation.FOLDER)
        for own in sorted((one.folder / name).glob(f"*/{one.name}"))
    ]
    own = {"": one} | {folder.parent.name: RoundFolder(folder) for folder in folders}
    return {name: training for name, training in own.items() if training.has(SCORES)}
