"""The stage ``split``, with the persona's probes held out; and the proof that nothing leaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curation.leaks import Item, find_leaks
from curation.related_rows import Placed, questions_of
from curation.split import split_rows
from evaluation.probes import FILE, read_probes, user_probes
from rounds import layout
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from rounds.runner import StageSpec, Work
from rounds.splits import split_rounds
from workbench.config import SplitSettings
from workbench.dialogue.users import FILE as USERS
from workbench.dialogue.users import read_users
from workbench.paraphrases import PACKAGES, Meaning, meaning_settings
from workbench.persona import Persona
from workbench.records import SPLITS, Drop, Example, Preference, ProbePrompt
from workbench.values import dumped

IN_TRAINING = "probe_in_training"
"""Why a probe is dropped: an earlier round has trained on a row that is related to it."""


def split_stage(context: RoundContext) -> StageSpec:
    """Train, validation and test, whole topic groups to one split each."""
    files = context.persona_files(FILE, USERS)
    return StageSpec(
        "split",
        partial(_split, context, files),
        inputs=(layout.RESOLVED, layout.RESOLVED_PREFERENCES),
        # The ids of rows are hashes of their content, so the assignment stands for the rows too.
        earlier=tuple((one, layout.ASSIGNMENTS) for one in _earlier(context.round)),
        files=files,
        settings=dumped(context.config.split)
        | {"train_only": list(context.persona.train_only)}
        | meaning_settings(context.meaning(context.config.split.meaning)),
        packages=("datasketch", "scipy", *PACKAGES),
    )


def _split(context: RoundContext, files: Mapping[str, Path], work: Work) -> None:
    settings = context.config.split
    meaning = context.meaning(settings.meaning)
    placed = [row for one in _earlier(context.round) for row in _placed_rows(one)]
    asked = _probes(files, context.persona)
    probes = hold_probes(asked, placed, settings, meaning)
    rows = split_rows(
        work.read(layout.RESOLVED),
        work.read(layout.RESOLVED_PREFERENCES),
        seed=context.config.seed,
        settings=settings,
        earlier=[*placed, *probes.placed()],
        meaning=meaning,
        train_only=context.persona.train_only,
    )
    for split, examples in rows.examples.items():
        work.counts[split] = len(examples)
        work.counts[f"{split}_topics"] = rows.groups(split)
        work.write(layout.EXAMPLES[split], examples)
        work.write(layout.PREFERENCES[split], rows.preferences[split])
    drops = [*rows.drops, *probes.drops]
    work.counts.update(probes=len(probes.asked), dropped=len(drops))
    work.write(layout.PROBES, probes.asked)
    work.write(layout.DROPPED_PROBES, probes.dropped)
    work.write(layout.ASSIGNMENTS, rows.assignments)
    work.write(layout.SPLIT_DROPS, drops)


def _earlier(round_: RoundFolder) -> list[RoundFolder]:
    """Return the split rounds that come before ``round_``; their rows stay where they are."""
    return [one for one in split_rounds(round_) if one.number < round_.number]


def _placed_rows(round_: RoundFolder) -> Iterator[Placed]:
    """Yield the rows of a round with the split that each is in."""
    for split in SPLITS:
        rows: list[Example | Preference] = [
            *round_.read(layout.EXAMPLES[split]),
            *round_.read(layout.PREFERENCES[split]),
        ]
        yield from (Placed(row, split, round_.name) for row in rows)


@dataclass(frozen=True)
class HeldProbes:
    """The probes that may be asked, and those that may not."""

    asked: list[ProbePrompt]
    drops: list[Drop]
    dropped: list[ProbePrompt]
    """The probes of ``drops``, which no other file of a round holds."""

    def placed(self) -> list[Placed]:
        """Return the probes as rows of the test split: a new row related to one goes there."""
        return [Placed(probe, "test", "probes") for probe in self.asked]


def own_probes(context: RoundContext) -> list[ProbePrompt]:
    """Return a persona's probes as they are before any is left out.

    Raises:
        UserErrors: Every mistake of a file.
    """
    return _probes(context.persona_files(FILE, USERS), context.persona)


def _probes(files: Mapping[str, Path], persona: Persona) -> list[ProbePrompt]:
    """Return a persona's probes, and the conversations of its held-out simulated users.

    Raises:
        UserErrors: Every mistake of a file.
    """
    probes = read_probes(files[FILE], persona) if FILE in files else []
    users = read_users(files[USERS], persona.topics) if USERS in files else []
    return [*probes, *user_probes(users, persona)]


def hold_probes(
    asked: Sequence[ProbePrompt],
    placed: Sequence[Placed],
    settings: SplitSettings,
    meaning: Meaning | None,
) -> HeldProbes:
    """Return a persona's probes without those related to rows that earlier rounds trained on."""
    if not asked:
        return HeldProbes([], [], [])
    probes = {probe.id: probe for probe in asked}
    items = [Item(one.id, "test", questions_of(one), (one.id,)) for one in probes.values()]
    items += [
        Item(f"{one.round} {one.row.source or one.row.id}", one.split, questions_of(one.row))
        for one in placed
    ]
    drops = {}
    for leak in find_leaks(items, similarity=settings.related, meaning=meaning):
        probe = probes.get(leak.one.where)
        if probe is not None:
            detail = f"{leak.why}: {leak.other.where} ({leak.other.split})"
            drops[probe.id] = Drop.of(probe, "split", IN_TRAINING, detail)
    held = [probe for probe in probes.values() if probe.id not in drops]
    return HeldProbes(held, list(drops.values()), [probes[one] for one in drops])
