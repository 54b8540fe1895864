"""The files that hold rows on sides: of earlier rounds, of all rounds, and any that are named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rounds.layout import EXAMPLES, PREFERENCES, PROBES, RESPONSES, SPLITS, Artifact, RoundFolder
from workbench.records import Example, Preference, SplitName

if TYPE_CHECKING:
    from curation.leaks import Item, Leak
    from curation.split import Placed

SIDES = SPLITS


def all_rounds(round_: RoundFolder) -> list[RoundFolder]:
    """Return the rounds of the same persona that were split, first ones first."""
    return [one for one in round_.all_rounds if one.done("split")]


def earlier_rounds(round_: RoundFolder) -> list[RoundFolder]:
    """Return the split rounds that come before ``round_``; their sides stand."""
    return [one for one in round_.earlier if one.done("split")]


def placed_rows(round_: RoundFolder) -> list[Placed]:
    """Return the rows of all earlier rounds with their sides."""
    from curation.split import Placed

    placed: list[Placed] = []
    for one in earlier_rounds(round_):
        for side in SIDES:
            rows: list[Example | Preference] = [
                *one.read(EXAMPLES[side]),
                *one.read(PREFERENCES[side]),
            ]
            placed += [Placed(row, side, one.name) for row in rows]
    return placed


def side_files(round_: RoundFolder) -> Iterator[tuple[Path, SplitName]]:
    """Yield every file of a round that holds rows on a side, evaluation prompts among them."""
    for side in SIDES:
        pair: tuple[Artifact, ...] = (EXAMPLES[side], PREFERENCES[side])
        for artifact in pair:
            yield round_.path(artifact), side
    for artifact in (PROBES, RESPONSES):
        if round_.has(artifact):
            yield round_.path(artifact), "test"


@dataclass(frozen=True)
class Compared:
    """What a leak check looked at, and what it found."""

    items: list[Item]
    files: int
    leaks: list[Leak]
    similarity: float


def compare(
    files: Sequence[tuple[Path, SplitName]], similarity: float, *, topics: bool
) -> Compared:
    """Look for kin on two sides in ``files``; empty ones are fine.

    Raises:
        UserError: A file that cannot be read, or whose rows hold no question.
    """
    from curation.leaks import find_leaks, read_items

    filled = [(path, side) for path, side in files if not _is_empty(path)]
    items = [item for path, side in filled for item in _once(read_items(path, side))]
    leaks = find_leaks(items, similarity=similarity, topics=topics)
    return Compared(items, len(files), leaks, similarity)


def _once(items: Iterable[Item]) -> Iterator[Item]:
    """Yield a file's rows; of several answers to one row of ours, such as the arms', the first."""
    seen = set()
    for item in items:
        if not item.ids or (item.ids, item.questions) not in seen:
            seen.add((item.ids, item.questions))
            yield item


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
