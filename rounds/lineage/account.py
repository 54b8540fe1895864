"""What became of every row that went into a round: nothing is lost without a reason.

In: a round, at whatever stage it stands. Out: an :class:`Account`: a fate for each row that was
imported, generated or taken over. ``persona trace --account`` prints it, and two rounds are
compared by it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

from rounds import layout
from rounds.artifacts import Records
from rounds.layout import RoundFolder
from workbench.records import SPLITS, Preference, Row
from workbench.store import file_hash
from workbench.text import counted

State = Literal["kept", "held_out", "dropped", "waiting", "lost"]
_CAME: tuple[Records[Any], ...] = (
    layout.CARRY_OVER_EXAMPLES,
    layout.CARRY_OVER_PREFERENCES,
    layout.IMPORTED,
    layout.IMPORTED_PREFERENCES,
    layout.GENERATED,
)
_AFTER = ("filter", "review", "resolve", "split")
"""Stages that a row goes through, in order."""


@dataclass(frozen=True)
class Fate:
    """What became of one row."""

    record: str
    """Id of the row; of one that could not be read, of what was read."""
    source: str
    state: State
    why: str
    """The split, the reason of the drop, or what it waits for."""


@dataclass(frozen=True)
class Account:
    """Every row that went into a round, once for each time that it did."""

    fates: list[Fate]
    not_drawn: int
    """Rows that ``rows`` of the configuration left in their file."""

    @property
    def counts(self) -> dict[State, int]:
        """State → rows."""
        return Counter(fate.state for fate in self.fates)

    def lines(self) -> Iterator[str]:
        """Yield the account as text: in = kept + held out + dropped + waiting."""
        counts = Counter((fate.state, fate.why) for fate in self.fates)
        pairs = sum(fate.record.startswith(f"{Preference.prefix}-") for fate in self.fates)
        beside = f" and {counted(pairs, 'preference pair')}" if pairs else ""
        yield f"{counted(len(self.fates) - pairs, 'row')}{beside} went in"
        for (state, why), count in sorted(counts.items()):
            yield f"  {count} {state.replace('_', ' ')}: {why}"
        if self.not_drawn:
            yield f"{self.not_drawn} more were not drawn: `rows` of the configuration"
        yield from (f"lost: {one.record} {one.source}" for one in self.fates if one.state == "lost")


def account(one: RoundFolder) -> Account:
    """Return what became of every row that went into a round."""
    manifest = one.manifest("import")
    return Account(_Accountant(one).fates(), manifest.counts.get("not_drawn", 0) if manifest else 0)


class _Accountant:
    """The files of a round, each read once."""

    def __init__(self, one: RoundFolder) -> None:
        self._one = one
        self._rows: dict[str, Row] = {row.id: row for row in self._read(*_CAME)}

    def _read(self, *artifacts: Records[Any]) -> list[Any]:
        return [*chain.from_iterable(self._one.read_if_there(one) for one in artifacts)]

    def fates(self) -> list[Fate]:
        drops = self._read(layout.IMPORT_DROPS)
        # A teacher's row that was turned down; a base that gave no answer to a row drops nothing.
        drops += [
            drop
            for drop in self._read(layout.GENERATE_DROPS)
            if drop.record.startswith("ex-") and drop.record not in self._rows
        ]
        turned_down = [Fate(one.record, one.source, "dropped", one.reason) for one in drops]
        return [self._fate(row) for row in self._rows.values()] + turned_down

    def _fate(self, row: Row) -> Fate:
        ids = self._made_of(row.id)
        for table in (self._placed, self._queued, self._dropped):
            if known := next((table[one] for one in ids if one in table), None):
                return Fate(row.id, row.source, *known)
        if self._waits_for:
            return Fate(row.id, row.source, "waiting", self._waits_for)
        return Fate(row.id, row.source, "lost", "it stands in no file of the split and has no drop")

    def _made_of(self, record: str) -> list[str]:
        """Return a row's id and those of what it became: masked, corrected, shown as a pair."""
        ids = [record]
        for one in ids:
            ids += [child for child in self._became.get(one, ()) if child not in ids]
        return ids

    @cached_property
    def _became(self) -> dict[str, list[str]]:
        became: dict[str, list[str]] = defaultdict(list)
        before = set(self._rows)

        def link(rows: Iterable[Row], *, new: bool) -> None:
            for row in rows:
                if row.parents and not (new and row.id in before):
                    became[row.parents[0]].append(row.id)

        filtered = self._read(layout.FILTERED, layout.FILTERED_PREFERENCES)
        pairs = self._read(layout.REVIEWED_PAIRS)
        link(filtered, new=True)
        link(pairs, new=False)
        before.update(row.id for row in (*filtered, *pairs))
        link(self._read(layout.RESOLVED), new=True)
        return became

    @cached_property
    def _placed(self) -> dict[str, tuple[State, str]]:
        placed: dict[str, tuple[State, str]] = {}
        for split in SPLITS:
            state: State = "kept" if split == "train" else "held_out"
            rows = self._read(layout.EXAMPLES[split], layout.PREFERENCES[split])
            placed |= {row.id: (state, split) for row in rows}
        return placed

    @cached_property
    def _queued(self) -> dict[str, tuple[State, str]]:
        """Rows that an adjudicator has still to decide on; an unattended round drops them."""
        queued = (one.record for one in self._read(layout.DECISIONS) if one.outcome == "queue")
        why: tuple[State, str] = ("waiting", "an adjudicator")
        return {record: why for record in queued if record not in self._dropped}

    @cached_property
    def _dropped(self) -> dict[str, tuple[State, str]]:
        drops = self._read(layout.FILTER_DROPS, layout.RESOLVE_DROPS, layout.SPLIT_DROPS)
        return {drop.record: ("dropped", drop.reason) for drop in drops}

    @cached_property
    def _waits_for(self) -> str:
        """The first stage that is not done, or was done with other rows; empty where all are."""
        for stage in _AFTER:
            manifest = self._one.manifest(stage)
            if manifest is None:
                return stage
            for name, digest in manifest.inputs.items():
                path = self._one.folder / name
                if path.suffix == ".jsonl" and path.exists() and file_hash(path) != digest:
                    return stage
        return ""
