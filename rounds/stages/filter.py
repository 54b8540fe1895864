"""The stage ``filter``: candidates without the rows that a rule can tell are faulty."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from curation.filters import filter_examples
from rounds import layout
from rounds.context import RoundContext
from rounds.notes import contested_rows
from rounds.runner import StageSpec, Work
from workbench.config import FilterSettings
from workbench.paraphrases import PACKAGES, Meaning, meaning_settings
from workbench.persona import Persona
from workbench.values import dumped


def filter_stage(context: RoundContext) -> StageSpec:
    """All rows of the round, through the filters.

    Without a teacher there are no generated rows to wait for: what is imported can be reviewed at
    once, and the baseline answers come when decisions need them.
    """
    inputs = (layout.IMPORTED, layout.IMPORTED_PREFERENCES)
    meaning = context.meaning(context.config.filter.meaning)
    contested = contested_rows(context.round)
    return StageSpec(
        "filter",
        partial(_filter, context.persona, context.config.filter, meaning, contested),
        inputs=(*inputs, layout.GENERATED) if context.config.teacher else inputs,
        optional=(layout.CARRY_OVER_EXAMPLES,)
        if context.config.teacher
        else (layout.CARRY_OVER_EXAMPLES, layout.GENERATED),
        files=context.persona_files("persona.yaml"),
        settings={
            **dumped(context.config.filter),
            **meaning_settings(meaning),
            **({"contested": contested} if contested else {}),
        },
        packages=(
            *("datasketch", "lingua-language-detector", "phonenumbers", "python-stdnum"),
            *PACKAGES,
        ),
    )


def _filter(
    persona: Persona,
    settings: FilterSettings,
    meaning: Meaning | None,
    contested: Sequence[str],
    work: Work,
) -> None:
    # First come those that are decided on: a new row that nearly repeats one is the one to go.
    rows = [
        *work.read_if_there(layout.CARRY_OVER_EXAMPLES),
        *work.read(layout.IMPORTED),
        *work.read_if_there(layout.GENERATED),
    ]
    pairs = work.read(layout.IMPORTED_PREFERENCES)
    filtered = filter_examples(
        rows, persona, settings, preferences=pairs, meaning=meaning, contested=contested
    )
    work.counts.update(
        kept=len(filtered.examples),
        preferences=len(filtered.preferences),
        dropped=len(filtered.drops),
        reasons=filtered.reasons,
    )
    work.write(layout.FILTERED, filtered.examples)
    work.write(layout.FILTERED_PREFERENCES, filtered.preferences)
    work.write(layout.FILTER_DROPS, filtered.drops)
