"""The stage ``generate``: a teacher's rows where one is configured, and the baseline answers.

In: the imported rows, and those that were taken over. Out: new rows, pairs and scores of a judge,
and the base model's own answer to every row, which kept answers will be preferred to.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.machinery import PathFinder
from importlib.metadata import version
from pathlib import Path

from generation.baseline import baseline_answers
from generation.card import dataset_card
from generation.cost import TeacherPlan, account_lines, plan_teacher
from generation.prompts import prompt_versions
from generation.teacher import Taught, teacher_rows
from rounds import layout
from rounds.artifacts import Records
from rounds.carry_over import read_carry_over
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from rounds.runner import StageSpec, Work
from workbench.console import console
from workbench.dialogue.users import FILE as USERS
from workbench.dialogue.users import SimulatedUser, read_users
from workbench.errors import UserError
from workbench.inference.base_models import resolve_model
from workbench.inference.endpoint import Endpoint
from workbench.records import Example

STAGE = "generate"
HOW = frozenset({"budget", "min_share", "ray", "ray_workers"})
"""Settings that decide how far it goes or where it runs, and not which rows it makes."""
WHO = frozenset({"base_url", "model", "extra_body", "headers", "api_version", "max_tokens"})
"""What of an endpoint decides its answers."""


def generate_stage(context: RoundContext) -> StageSpec:
    """New rows from a teacher where there is one; the base model's own answer to every row."""
    user = context.config.simulated_user
    return StageSpec(
        STAGE,
        partial(_generate, context),
        inputs=(layout.IMPORTED,),
        optional=(layout.CARRY_OVER_EXAMPLES, layout.CARRY_OVER_BASELINE),
        files={
            **(context.persona_files(USERS) if _talks(context) else {}),
            **_step_files(context.config.generate.steps),
        },
        earlier=_earlier_rows(context),
        settings={
            "model": context.config.model,
            # A base that is served elsewhere is not looked at here.
            **({} if context.config.student else {"base": context.base_key(STAGE)}),
            "teacher": _teachers(context),
            "student": _who(context.config.student),
            "judge": _who(context.config.judge),
            **({"simulated_user": _who(user)} if user and _talks(context) else {}),
            **_rows_wanted(context),
        },
        packages=("distilabel", "openai", "torch", "transformers"),
        resumable=True,
    )


def _rows_wanted(context: RoundContext) -> dict[str, object]:
    """Return the settings that decide which rows are made; no plan leaves no trace."""
    settings = context.config.generate.model_dump(mode="json", exclude=set(HOW))
    unset = () if settings["conversations"] else ("conversations", "turn_fidelity")
    lists = [name for name in ("plan", "steps") if not settings[name]]
    for name in (*unset, *lists):
        del settings[name]
    return settings


def _step_files(steps: Sequence[str]) -> dict[str, Path]:
    """Return the modules of a user's own steps; one that is not there is told when it is used."""
    files = {name: _module_file(name.partition(":")[0]) for name in steps}
    return {name: file for name, file in files.items() if file}


def _module_file(name: str) -> Path | None:
    """Return where a module lies, one of a package too, without importing anything."""
    where, file = [str(Path.cwd()), *sys.path], None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, where)
        if spec is None:
            return None
        where, file = list(spec.submodule_search_locations or ()), spec.origin
    return Path(file) if file else None


def _talks(context: RoundContext) -> bool:
    """Return whether simulated users talk to a teacher."""
    return bool(context.config.teachers) and context.config.generate.conversations > 0


def _users(context: RoundContext) -> list[SimulatedUser]:
    """Return the persona's simulated users, where some talk.

    Raises:
        UserError: There is no file of them, or it has mistakes.
    """
    if not _talks(context):
        return []
    path = context.persona_folder / USERS
    if not path.exists():
        fix = "write one, or set generate.conversations to 0"
        raise UserError("conversations need simulated users", where=str(path), fix=fix)
    return read_users(path, context.persona.topics)


def _earlier_rows(context: RoundContext) -> tuple[tuple[RoundFolder, Records[Example]], ...]:
    """Return the rows of earlier rounds, which a teacher's new questions differ from."""
    if not context.config.teachers:
        return ()
    return tuple(
        (one, artifact)
        for one in context.round.earlier
        for artifact in (layout.IMPORTED, layout.GENERATED)
        if one.has(artifact)
    )


def _who(endpoint: Endpoint | None) -> dict[str, object] | None:
    # What nobody set leaves no trace.
    return endpoint.model_dump(include=set(WHO), exclude_defaults=True) if endpoint else None


def _teachers(context: RoundContext) -> dict[str, object] | list[dict[str, object]] | None:
    """Return what of the teachers decides the rows; of several their shares as well."""
    teachers = context.config.teachers
    several = [{**(_who(one) or {}), "share": one.share} for one in teachers]
    return several if teachers[1:] else _who(teachers[0]) if teachers else None


def teacher_plan(context: RoundContext, seeds: list[Example]) -> TeacherPlan | None:
    """Return what the teacher will be asked; None where no teacher is configured."""
    if not context.config.teachers:
        return None
    own = context.config.generate.steps
    if own:
        # Distilabel takes seconds to import.
        from generation.pipelines.own_steps import check_steps

        own = check_steps(own)
    return plan_teacher(
        context.persona,
        seeds,
        context.config.teachers,
        context.config.generate,
        judge=context.config.judge,
        seed=context.config.seed,
        users=_users(context),
        user=context.config.simulated_user,
        own=own,
    )


def _generate(context: RoundContext, work: Work) -> None:
    seeds, carry_over = work.read(layout.IMPORTED), read_carry_over(work)
    scratch = work.round.scratch(STAGE)
    taught = _teach(context, work, [*carry_over.rows, *seeds], scratch / layout.TEACHER_JOB)
    rows = taught.rows if taught else []
    baseline = baseline_answers(
        [*seeds, *rows],
        context.config.student or resolve_model(context.config.model),
        context.config.generate,
        workdir=scratch / "baseline",
        seed=context.config.seed,
    )
    drops = [*(taught.dropped if taught else ()), *baseline.dropped]
    preferences = taught.preferences if taught else []
    work.counts.update(taught=len(rows), baseline=len(baseline.responses), dropped=len(drops))
    work.counts["prompts"] = prompt_versions(context.persona)
    work.write(layout.GENERATED, rows)
    work.write(layout.GENERATED_PREFERENCES, preferences)
    work.write(layout.GENERATED_SCORES, taught.scores if taught else [])
    work.write(layout.BASELINE, [*carry_over.baseline, *baseline.responses])
    work.write(layout.GENERATE_DROPS, drops)
    if taught and taught.talks.conversations:
        work.write(layout.CONVERSATIONS, taught.talks.conversations)
        work.write(layout.CRITIQUES, taught.talks.critiques)
    if rows:
        counts = {
            layout.GENERATED.name: len(rows),
            layout.GENERATED_PREFERENCES.name: len(preferences),
        }
        _write_card(context, work, counts)


def _write_card(context: RoundContext, work: Work, records: Mapping[str, int]) -> None:
    facts = {
        "counts": work.counts,
        "settings": {"teacher": _teachers(context), "judge": _who(context.config.judge)},
        "outputs": {name: {"records": count} for name, count in records.items()},
        "versions": {"distilabel": version("distilabel")},
        "seed": context.config.seed,
        "started": datetime.now(UTC).date().isoformat(),
    }
    work.write(layout.DATASET_CARD, dataset_card(context.persona, facts))


def _teach(context: RoundContext, work: Work, seeds: list[Example], workdir: Path) -> Taught | None:
    """Return the teacher's rows, with a line and counts of what became of each and what it cost.

    None where no teacher is configured.
    """
    plan = teacher_plan(context, seeds)
    if plan is None:
        return None
    taught = teacher_rows(
        context.persona,
        seeds,
        context.config.teachers,
        context.config.generate,
        workdir=workdir,
        judge=context.config.judge,
        seed=context.config.seed,
        earlier=[row for one, rows in _earlier_rows(context) for row in one.read(rows)],
        users=_users(context),
        user=context.config.simulated_user,
    )
    if taught.talks.conversations:
        work.counts["turns"] = {"planned": taught.talks.planned, **taught.talks.fates}
    for line in account_lines(plan, taught):
        console.print(f"  {line}")
    work.write(layout.COVERAGE, taught.coverage.to_dict())
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
        **({"teachers": [one._asdict() for one in taught.teachers]} if taught.teachers[1:] else {}),
        currency=plan.price.currency if plan.price else None,
    )
    return taught
