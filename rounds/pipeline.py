"""The stages of a round in their order, and how they are run.

In: a round with its configuration, and the names of stages. Out: how each ended. Commands, the
ablation and :class:`rounds.Round` run stages through here alone; the order itself is that of
:data:`rounds.layout.STAGES`, since readers of a finished round need it too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from curation.argilla.dataset import check_guide
from curation.review.resolve import check_policy
from rounds.arms import check_arms, check_primary, own_arms
from rounds.context import RoundContext
from rounds.foretelling import foretell, foretold_line
from rounds.layout import IMPORTED, STAGES
from rounds.order import not_yet
from rounds.review_server import ReviewServer
from rounds.runner import Outcome, StageSpec, run_stage
from rounds.stages.evaluate import evaluate_stage
from rounds.stages.filter import filter_stage
from rounds.stages.generate import generate_stage
from rounds.stages.importing import import_stage
from rounds.stages.report import report_stage
from rounds.stages.resolve import resolve_stage
from rounds.stages.review import review_stage
from rounds.stages.split import split_stage
from rounds.stages.train import reads_texts, recipe_checks, training_stage
from workbench.config import METHODS
from workbench.console import console, in_words
from workbench.errors import UserError, every_mistake, nearest
from workbench.inference.base_models import examine_model, has_gpu, resolve_model
from workbench.inference.hub import hub_offline
from workbench.inference.processor import processor, using
from workbench.meter import give_memory_back
from workbench.store import MIB, check_space

_SPECS: dict[str, Callable[[RoundContext], StageSpec]] = {
    "import": import_stage,
    "generate": generate_stage,
    "filter": filter_stage,
    "review": review_stage,
    "resolve": resolve_stage,
    "split": split_stage,
    **{method: partial(training_stage, method) for method in METHODS},
    "evaluate": evaluate_stage,
    "report": report_stage,
}
_WITH_MODEL = {"generate", "evaluate", *METHODS}
# It says at every start on a CPU that a faster kernel is on a hub; it works without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
# PEFT looks for the base under the name that adapters give it, not in the cache, and misses it.
warnings.filterwarnings("ignore", "Could not find a config file in")
# PEFT asks transformers by the old name.
warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
_MANY = 2
SPACE = 300 * MIB
"""Free bytes that a round needs at the least: adapters, caches, the review server's database."""


def run_stages(
    context: RoundContext, names: Iterable[str], *, force: Sequence[str] = ()
) -> list[Outcome]:
    """Run the named stages in the order given; those already done are skipped with a line.

    Raises:
        UserError: An unknown stage, every mistake that can be seen before anything runs, or what
            a stage says.
    """
    names = [_known(name, "") for name in names]
    for name in force:
        _known(name, "--force")
    check_space(context.runs, SPACE, "a round", "--runs")
    _check_order(context, names)
    with context.round.locked():
        if any(context.round.manifest(name) is None for name in names):
            every_mistake(_checks(context, names))
        foretold = _foretold(context, names, force)
        outcomes = []
        for name in names:
            again = name in force or _unfinished(context, name)
            with context.remembered(undo=name == IMPORTED.stage):
                spec = replace(_SPECS[name](context), foretold=foretold.get(name))
                outcomes.append(_run(context, spec, again))
        return outcomes


def _foretold(
    context: RoundContext, names: Sequence[str], force: Sequence[str]
) -> dict[str, float | None]:
    """Say what the stages that are not done will take, where several run; return it by stage.

    One alone says its progress soon enough.
    """
    to_do = [name for name in names if name in force or context.round.manifest(name) is None]
    if len(to_do) < _MANY or not _WITH_MODEL & set(to_do) or has_gpu():
        return {}
    with using(context.config.processor):
        own = processor()
    console.print(f"  {own.line}", markup=False)
    if foretold := foretell(context, to_do, own):
        console.print(f"  {foretold_line(foretold)}", markup=False)
    return foretold


def stages_until(last: str | None, methods: Sequence[str] = ("sft", "dpo")) -> list[str]:
    """Return the names of the stages up to ``last``, in order; all by default.

    Of the training stages, only those of ``methods`` and ``last`` itself are among them.
    """
    names = [name for name in STAGES if name not in METHODS or name in (*methods, last)]
    return names[: names.index(_known(last, "--until")) + 1] if last else names


def _known(name: str, where: str) -> str:
    if name not in STAGES:
        fix = nearest(name, STAGES) or f"one of {', '.join(STAGES)}"
        raise UserError(f"there is no stage '{name}'", where=where, fix=fix)
    return name


def _checks(context: RoundContext, names: Sequence[str]) -> Iterator[Callable[[], object]]:
    """Yield what is checked before anything runs, as far as the named stages need it."""
    yield partial(check_policy, context.config.review.policy, context.persona)
    yield from recipe_checks(context, [method for method in METHODS if method in names])
    if "review" in names:
        yield partial(check_guide, context.persona)
    if "evaluate" in names:
        yield partial(own_arms, context)
        yield partial(check_primary, context)
        yield partial(check_arms, context)
    if _WITH_MODEL & set(names):
        yield partial(_check_base, context, names)


def _check_order(context: RoundContext, names: Sequence[str]) -> None:
    """Raise a UserError where the first stage cannot run yet: it says what comes first of all.

    A stage that is named later is made by then, or says itself what it misses.
    """
    name = names[0]
    if first := _first_missing(context, name):
        what = f"{name} needs {first}, which is not done yet"
        rows = all(path.exists() for path in context.sources)
        raise not_yet(what, first, context.round.folder, has_rows=rows)


def _first_missing(context: RoundContext, name: str) -> str:
    """Return the first stage in order that ``name`` needs and that is not done; empty for none."""
    spec = _SPECS[name](context)
    missing = {one.stage for one in spec.inputs if not context.round.has(one)}
    return min(
        (_first_missing(context, stage) or stage for stage in missing), key=STAGES.index, default=""
    )


def _check_base(context: RoundContext, names: Sequence[str]) -> None:
    """Get the base ready, and examine its chat template where a stage chats with it.

    Raises:
        UserError: The base is nowhere to be had, or its template cannot be bridged.
    """
    chats = [name for name in names if name in _WITH_MODEL and not reads_texts(context, name)]
    if chats:
        for line in examine_model(resolve_model(context.config.model, weights=False)).bridged():
            console.print(f"  {context.config.model}: {line}", markup=False)
    resolve_model(context.config.model)


def run_spec(context: RoundContext, spec: StageSpec) -> Outcome:
    """Run one stage of a round anew, whatever its manifest says."""
    with context.round.locked():
        context.remember()
        return _run(context, spec, force=True)


def _run(context: RoundContext, spec: StageSpec, force: bool) -> Outcome:
    console.print(f"[bold]{spec.name}[/bold]")
    pids = ReviewServer.of(context).pids
    with hub_offline(), using(context.config.processor):
        outcome = run_stage(context.round, spec, seed=context.config.seed, force=force, others=pids)
    give_memory_back()  # stages share one process
    console.print(f"  {_summary(outcome)}")
    return outcome


def _unfinished(context: RoundContext, name: str) -> bool:
    """Return whether a stage was pulled before people had finished."""
    manifest = context.round.manifest(name) if name == "review" else None
    return bool(manifest and not manifest.counts.get("complete", True))


def _summary(outcome: Outcome) -> str:
    counts = {k: v for k, v in outcome.manifest.counts.items() if isinstance(v, int)}
    text = ", ".join(f"{key} {value}" for key, value in counts.items())
    if not outcome.ran:
        return f"already done ({text})" if text else "already done"
    return f"{text + '; ' if text else ''}{in_words(outcome.manifest.seconds)}"
