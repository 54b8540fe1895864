"""The stage of candidates: a teacher's rows where one is configured, and the baseline answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rounds.carry_over import read_carry_over
from rounds.context import RoundContext
from rounds.layout import (
    CARRIED_BASELINE,
    CARRIED_EXAMPLES,
    GENERATED,
    IMPORTED,
    Records,
    RoundFolder,
)
from rounds.runner import StageSpec, Work
from workbench.console import console
from workbench.inference.endpoint import Endpoint
from workbench.records import Drop, Example, Preference, Record, Score
from workbench.store import atomic_file, write_json, write_records

if TYPE_CHECKING:
    from generation.cost import TeacherPlan
    from generation.teacher import Taught

HOW = frozenset({"budget", "min_share", "ray", "ray_workers"})
"""Settings that decide how far the job goes or where it runs, and not which rows it makes."""
WHO = frozenset({"base_url", "model", "extra_body"})
"""What of an endpoint decides its answers."""


def generate_stage(context: RoundContext) -> StageSpec:
    """New rows from a teacher where there is one; the base model's own answer to every row."""
    return StageSpec(
        "generate",
        partial(_generate, context),
        inputs=(IMPORTED,),
        optional=(CARRIED_EXAMPLES, CARRIED_BASELINE),
        earlier=_earlier_rows(context),
        settings={
            "model": context.config.model,
            "teacher": _who(context.config.teacher),
            "student": _who(context.config.student),
            "judge": _who(context.config.judge),
            **_rows_wanted(context),
        },
        packages=("distilabel", "openai", "torch", "transformers"),
        resumable=True,
    )


def _rows_wanted(context: RoundContext) -> dict[str, Any]:
    """Return the settings that decide which rows are made; no plan leaves no trace."""
    settings = context.config.generate.model_dump(mode="json", exclude=set(HOW))
    if not settings["plan"]:
        del settings["plan"]
    return settings


def _earlier_rows(context: RoundContext) -> tuple[tuple[RoundFolder, Records[Example]], ...]:
    """Return the rows of earlier rounds, which a teacher's new questions differ from."""
    if context.config.teacher is None:
        return ()
    return tuple(
        (one, artifact)
        for one in context.round.earlier
        for artifact in (IMPORTED, GENERATED)
        if one.has(artifact)
    )


def _who(endpoint: Endpoint | None) -> dict[str, Any] | None:
    # What nobody set leaves no trace.
    return endpoint.model_dump(include=set(WHO), exclude_defaults=True) if endpoint else None


def teacher_plan(context: RoundContext, seeds: list[Example]) -> TeacherPlan | None:
    """Return what the teacher will be asked; None where no teacher is configured."""
    from generation.cost import plan_teacher

    if context.config.teacher is None:
        return None
    return plan_teacher(
        context.persona,
        seeds,
        context.config.teacher,
        context.config.generate,
        judge=context.config.judge,
        seed=context.config.seed,
    )


def _generate(context: RoundContext, work: Work) -> None:
    from generation.baseline import baseline_answers
    from generation.prompts import prompt_versions
    from workbench.inference.base_models import resolve_model

    settings = context.config.generate
    seeds = work.read(IMPORTED)
    taught: list[Example] = []
    preferences: list[Preference] = []
    scores: list[Score] = []
    dropped: list[Drop] = []
    scratch = work.round.folder / ".generate.scratch"
    carry_over = read_carry_over(work)
    shown = [*carry_over.rows, *seeds]
    if (plan := teacher_plan(context, shown)) is not None:
        answered = _teach(context, work, shown, plan)
        taught, dropped = answered.examples, answered.dropped
        preferences, scores = answered.preferences, answered.scores
    baseline = baseline_answers(
        [*seeds, *taught],
        context.config.student or resolve_model(context.config.model),
        settings,
        workdir=scratch / "baseline",
        seed=context.config.seed,
    )
    dropped = [*dropped, *baseline.dropped]
    work.counts.update(taught=len(taught), baseline=len(baseline.responses), dropped=len(dropped))
    work.counts["prompts"] = prompt_versions(context.persona)
    write_records(work.out / "examples.jsonl", taught)
    write_records(work.out / "preferences.jsonl", preferences)
    write_records(work.out / "scores.jsonl", scores)
    write_records(work.out / "baseline.jsonl", [*carry_over.baseline, *baseline.responses])
    write_records(work.out / "drops.jsonl", dropped)
    if taught:
        made: dict[str, Sequence[Record]] = {"examples": taught, "preferences": preferences}
        _write_card(context, work, {name: len(records) for name, records in made.items()})


def _write_card(context: RoundContext, work: Work, records: Mapping[str, int]) -> None:
    from generation.card import dataset_card

    facts = {
        "counts": work.counts,
        "settings": {"teacher": _who(context.config.teacher), "judge": _who(context.config.judge)},
        "outputs": {f"{name}.jsonl": {"records": count} for name, count in records.items()},
        "versions": {"distilabel": version("distilabel")},
        "seed": context.config.seed,
        "started": datetime.now(UTC).date().isoformat(),
    }
    with atomic_file(work.out / "README.md") as file:
        file.write(dataset_card(context.persona, facts))


def _teach(context: RoundContext, work: Work, seeds: list[Example], plan: TeacherPlan) -> Taught:
    """Return the teacher's rows; tell and keep what became of each and what it cost."""
    from generation.cost import account_lines
    from generation.teacher import teacher_rows

    assert context.config.teacher is not None
    taught = teacher_rows(
        context.persona,
        seeds,
        context.config.teacher,
        context.config.generate,
        workdir=work.round.folder / ".generate.scratch" / "teacher",
        judge=context.config.judge,
        seed=context.config.seed,
        earlier=[row for one, rows in _earlier_rows(context) for row in one.read(rows)],
    )
    for line in account_lines(plan, taught):
        console.print(f"  {line}")
    price = plan.price
    write_json(work.out / "coverage.json", taught.coverage.to_dict())
    work.counts.update(
        taught.usage,
        planned=taught.planned,
        lost={**taught.failed, **taught.filtered},
        missing=taught.missing,
        share=round(taught.share, 4),
        steps=taught.steps,
        judged=taught.judged,
        unjudged=taught.unjudged,
        paid={step: paid._asdict() for step, paid in taught.paid.items()},
        estimate=plan.summary(),
        spent=round(taught.spent, 6),
        currency=price.currency if price else None,
    )
    return taught
