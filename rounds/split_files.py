"""The files that hold rows on sides: of earlier rounds, of all rounds, and any that are named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rounds.layout import MANIFEST, Round
from workbench.records import Example, Preference, SplitName
from workbench.store import read_records

if TYPE_CHECKING:
    from curation.leaks import Item, Leak
    from curation.split import Placed

SIDES: tuple[SplitName, ...] = get_args(SplitName)


def all_rounds(round_: Round) -> list[Round]:
    """Return the rounds of the same persona that were split, first ones first."""
    found = sorted(round_.folder.parent.glob("round-*"))
    return [Round(folder) for folder in found if (folder / "split" / MANIFEST).exists()]


def earlier_rounds(round_: Round) -> list[Round]:
    """Return the split rounds that come before ``round_``; their sides stand."""
    return [one for one in all_rounds(round_) if one.name < round_.name]


def placed_rows(round_: Round) -> list[Placed]:
    """Return the rows of all earlier rounds with their sides."""
    from curation.split import Placed

    placed: list[Placed] = []
    for one in earlier_rounds(round_):
        for side in SIDES:
            folder = one.stage("split")
            rows: list[Example | Preference] = [
                *read_records(folder / f"{side}.jsonl", Example),
                *read_records(folder / f"preferences-{side}.jsonl", Preference),
            ]
            placed += [Placed(row, side, one.name) for row in rows]
    return placed


def side_files(round_: Round) -> Iterator[tuple[Path, SplitName]]:
    """Yield every file of a round that holds rows on a side, evaluation prompts among them."""
    for side in SIDES:
        for name in (f"{side}.jsonl", f"preferences-{side}.jsonl"):
            yield round_.stage("split") / name, side
    for asked in (
        round_.stage("split") / "probes.jsonl",
        round_.stage("evaluate") / "responses.jsonl",
    ):
        if asked.exists():
            yield asked, "test"


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
