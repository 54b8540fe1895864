"""The persona's probes in the split: held out beside the test rows, never kin to training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.context import RoundContext
from workbench.records import Drop, Example

if TYPE_CHECKING:
    from curation.split import Placed

IN_TRAINING = "probe_in_training"
"""Why a probe is dropped: an earlier round has trained on its kin."""


@dataclass(frozen=True)
class HeldProbes:
    """The probes that may be asked, and those that may not."""

    kept: list[Example]
    drops: list[Drop]
    gone: list[Example]
    """The probes of ``drops``, which no other file of a round holds."""

    def placed(self) -> list[Placed]:
        """Return the probes as rows of the test side, so that a new row kin to one goes there."""
        from curation.split import Placed

        return [Placed(probe, "test", "probes") for probe in self.kept]


def probe_file(context: RoundContext) -> Path | None:
    """Return the persona's file of probes, if it has one."""
    from evaluation.probes import FILE

    path = context.persona_folder / FILE
    return path if path.exists() else None


def hold_probes(context: RoundContext, placed: Sequence[Placed]) -> HeldProbes:
    """Return the persona's probes without those kin to rows that earlier rounds trained on.

    Raises:
        UserErrors: Every broken row of the persona's file.
    """
    from curation.leaks import Item, find_leaks
    from curation.related_rows import questions_of
    from evaluation.probes import read_probes

    path = probe_file(context)
    if path is None:
        return HeldProbes([], [], [])
    probes = {probe.id: probe for probe in read_probes(path, context.persona)}
    items = [Item(one.id, "test", questions_of(one), (one.id,)) for one in probes.values()]
    items += [
        Item(f"{one.round} {one.row.source or one.row.id}", one.side, questions_of(one.row))
        for one in placed
    ]
    alike = context.config.split.related
    drops = {}
    for leak in find_leaks(items, similarity=alike):
        probe = probes.get(leak.one.where)
        if probe is not None:
            drops[probe.id] = Drop(
                record=probe.id,
                stage="split",
                reason=IN_TRAINING,
                detail=f"{leak.why}: {leak.other.where} ({leak.other.side})",
                source=probe.source,
                parents=(probe.id,),
            )
    kept = [probe for probe in probes.values() if probe.id not in drops]
    return HeldProbes(kept, list(drops.values()), [probes[one] for one in drops])
