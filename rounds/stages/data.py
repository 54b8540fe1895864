"""The stages of data: what each reads, depends on and runs."""

from __future__ import annotations

from functools import partial

from rounds.carry_over import (
    CarryOver,
    carry_over_files,
    collect_carry_over,
    read_carry_over,
)
from rounds.context import RoundContext
from rounds.layout import (
    ASSIGNMENTS,
    CARRIED_EXAMPLES,
    GENERATED,
    IMPORTED,
    IMPORTED_PREFERENCES,
    RESOLVED,
    RESOLVED_PREFERENCES,
)
from rounds.runner import StageSpec, Work
from rounds.split_files import earlier_rounds, placed_rows
from rounds.stages.resolve import resolve_stage
from rounds.stages.split_probes import hold_probes, probe_file
from workbench.records import Drop, Example, Preference
from workbench.store import existing, write_records

__all__ = ["filter_stage", "import_stage", "resolve_stage", "split_stage"]


def import_stage(context: RoundContext) -> StageSpec:
    """Rows of the persona's seed file, or of the files given; kept rows of earlier rounds."""
    taken = carry_over_files(context)
    return StageSpec(
        "import",
        partial(_import, context),
        files={"persona.yaml": context.persona_folder / "persona.yaml"}
        | {f"source:{path.name}": existing(path) for path in context.sources}
        | taken,
        settings={
            "rows": context.config.rows,
            **(
                {"again": context.config.review.again, "model": context.config.model}
                if taken
                else {}
            ),
        },
    )


def _import(context: RoundContext, work: Work) -> None:
    from generation.importing import import_rows
    from workbench.sampling import take_spread

    kept: list[Example] = []
    preferences: list[Preference] = []
    dropped: list[Drop] = []
    for path in context.sources:
        imported = import_rows(path, context.persona)
        kept += imported.kept
        preferences += imported.preferences
        dropped += imported.dropped
    carry_over = collect_carry_over(context.source_rounds, context.config.model)
    known = {record.id for record in (*carry_over.rows, *carry_over.preferences)}
    taken = take_spread([row for row in kept if row.id not in known], context.config.rows)
    preferences = [pair for pair in preferences if pair.id not in known]
    if context.config.review.again:
        taken, carry_over = [*carry_over.rows, *taken], CarryOver()
    work.counts.update(kept=len(taken), preferences=len(preferences), dropped=len(dropped))
    work.counts.update(carry_over.counts())
    if context.source_rounds:
        carry_over.write(work.out)
    write_records(work.out / IMPORTED.name, taken)
    write_records(work.out / "preferences.jsonl", preferences)
    write_records(work.out / "drops.jsonl", dropped)


def filter_stage(context: RoundContext) -> StageSpec:
    """Candidates without the rows that a rule can tell are faulty.

    Without a teacher there are no generated rows to wait for: what is imported can be reviewed at
    once, and the bare answers come when decisions need them.
    """
    generated = context.config.teacher or context.round.has(GENERATED)
    return StageSpec(
        "filter",
        partial(_filter, context),
        inputs=(
            IMPORTED,
            IMPORTED_PREFERENCES,
            *((CARRIED_EXAMPLES,) if context.source_rounds else ()),
            *((GENERATED,) if generated else ()),
        ),
        files={"persona.yaml": context.persona_folder / "persona.yaml"},
        settings=context.config.filter.model_dump(mode="json"),
        packages=("datasketch", "lingua-language-detector", "phonenumbers", "python-stdnum"),
    )


def _filter(context: RoundContext, work: Work) -> None:
    from curation.filters import filter_examples

    # First come those that are decided on: a new row that nearly repeats one is the one to go.
    carry_over = read_carry_over(context).rows
    rows = [*carry_over, *work.read(IMPORTED)]
    rows += work.read_if_input(GENERATED)
    pairs = work.read(IMPORTED_PREFERENCES)
    filtered = filter_examples(rows, context.persona, context.config.filter, preferences=pairs)
    work.counts.update(
        kept=len(filtered.kept),
        preferences=len(filtered.preferences),
        dropped=len(filtered.dropped),
        reasons=filtered.reasons,
    )
    write_records(work.out / "examples.jsonl", filtered.kept)
    write_records(work.out / "preferences.jsonl", filtered.preferences)
    write_records(work.out / "drops.jsonl", filtered.dropped)


def split_stage(context: RoundContext) -> StageSpec:
    """Train, validation and test, whole topic groups to one side each."""
    return StageSpec(
        "split",
        partial(_split, context),
        inputs=(RESOLVED, RESOLVED_PREFERENCES),
        # The ids of rows are hashes of their content, so the assignment stands for the rows too.
        earlier=tuple((one, ASSIGNMENTS) for one in earlier_rounds(context.round)),
        files={probes.name: probes} if (probes := probe_file(context)) else {},
        settings=context.config.split.model_dump(mode="json"),
        packages=("datasketch", "scipy"),
    )


def _split(context: RoundContext, work: Work) -> None:
    from curation.split import split_rows

    placed = placed_rows(context.round)
    probes = hold_probes(context, placed)
    sides = split_rows(
        work.read(RESOLVED),
        work.read(RESOLVED_PREFERENCES),
        seed=context.config.seed,
        settings=context.config.split,
        earlier=[*placed, *probes.placed()],
    )
    for side, examples in sides.examples.items():
        work.counts[side] = len(examples)
        work.counts[f"{side}_topics"] = sides.groups(side)
        write_records(work.out / f"{side}.jsonl", examples)
        write_records(work.out / f"preferences-{side}.jsonl", sides.preferences[side])
    drops = [*sides.drops, *probes.drops]
    work.counts.update(probes=len(probes.kept), dropped=len(drops))
    write_records(work.out / "probes.jsonl", probes.kept)
    write_records(work.out / "dropped-probes.jsonl", probes.gone)
    write_records(work.out / "splits.jsonl", sides.splits)
    write_records(work.out / "drops.jsonl", drops)
