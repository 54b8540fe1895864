"""The stage ``import``: rows that people bring, and what earlier rounds have decided on."""

from __future__ import annotations

from functools import partial

from rounds.carry_over import CarryOver, carry_over_inputs, collect_carry_over
from rounds.context import SEEDS, RoundContext
from rounds.layout import IMPORT_DROPS, IMPORTED, IMPORTED_PREFERENCES
from rounds.runner import StageSpec, Work
from workbench.records import Drop, Example, Preference
from workbench.store import existing


def import_stage(context: RoundContext) -> StageSpec:
    """Rows of the persona's seed file, or of the files named; kept rows of earlier rounds."""
    earlier = carry_over_inputs(context)
    again = {"again": context.config.review.again, "model": context.config.model}
    return StageSpec(
        "import",
        partial(_import, context),
        earlier=earlier,
        files={
            "persona.yaml": context.persona_folder / "persona.yaml",
            **{f"source:{path.name}": existing(path) for path in context.sources},
        },
        settings={"rows": context.config.rows, **(again if earlier else {})},
    )


def _import(context: RoundContext, work: Work) -> None:
    from generation.importing import import_rows
    from workbench.records import take_spread

    rows: list[Example] = []
    preferences: list[Preference] = []
    drops: list[Drop] = []
    for path in context.sources:
        own = path.resolve() == (context.persona_folder / SEEDS).resolve()
        imported = import_rows(path, context.persona, origin="seed" if own else "imported")
        rows += imported.examples
        preferences += imported.preferences
        drops += imported.dropped
    carry_over = collect_carry_over(context.source_rounds, context.config.model)
    known = {record.id for record in (*carry_over.rows, *carry_over.preferences)}
    rows = take_spread([row for row in rows if row.id not in known], context.config.rows)
    preferences = [pair for pair in preferences if pair.id not in known]
    if context.config.review.again:
        rows, carry_over = [*carry_over.rows, *rows], CarryOver()
    work.counts.update(kept=len(rows), preferences=len(preferences), dropped=len(drops))
    work.counts.update(carry_over.counts())
    if context.source_rounds:
        carry_over.write(work.out)
    work.write(IMPORTED, rows)
    work.write(IMPORTED_PREFERENCES, preferences)
    work.write(IMPORT_DROPS, drops)
