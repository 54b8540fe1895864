"""What has to go when somebody's rows or reviews are taken back.

In: a lineage, and names of records, sources or reviewers. Out: lines that say what was made of
them; nothing is deleted. ``persona forget`` prints them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from rounds.layout import TRAIN, RoundFolder
from rounds.lineage.graph import Lineage, kind_of
from rounds.row_export import row_exports
from workbench.errors import UserError
from workbench.store import read_json_lines
from workbench.text import counted

_HEAVY = ("adapter", "answer", "score")
_LOOKS = (f".ablation/*/round-*/{TRAIN.path}", ".next.scratch/curve-*/rows.jsonl")
"""Rows of the trainings of ``persona compare --without`` and ``persona next --curve``."""


def forget_lines(lineage: Lineage, names: Sequence[str]) -> list[str]:
    """Return in lines what was made of the named records, and what to do about it.

    ``names`` are ids, sources of rows (file and line), or names of reviewers.

    Raises:
        UserError: A name that nothing has.
    """
    start = {node for name in names for node in _meant(lineage, name)}
    touched = {node for one in start for node in lineage.after(one)} - start
    adapters = sorted(node for node in touched if kind_of(node) == "adapter")
    lines = [f"{counted(len(start), 'record')} meant: {', '.join(sorted(start)[:6])}"]
    rows = start | {node for node in touched if kind_of(node) not in _HEAVY}
    for round_name, files in _files(lineage, rows):
        lines += [
            f"{round_name}/{file}: {counted(count, 'record')}"
            for file, count in sorted(files.items())
        ]
    lines += _exported(lineage, start | touched)
    if not adapters:
        return [*lines, "no adapter was trained on them"]
    lines += [_trained(lineage, adapter, start | touched) for adapter in adapters]
    rounds = sorted({adapter.split("/")[0] for adapter in adapters})
    lines += _besides(lineage, adapters, start | touched)
    return [*lines, f"answers, scores and reports of {', '.join(rounds)} come from those adapters"]


def _exported(lineage: Lineage, touched: set[str]) -> Iterator[str]:
    """Yield the exports and documents of rows that hold some of the records, wherever they lie."""
    for one in RoundFolder.open(lineage.folder, 1).all_rounds:
        for folder, records in row_exports(one).items():
            if count := len(records & touched):
                what = f"an export of {one.name} with {counted(count, 'record')} of these"
                yield f"{folder}: {what}; remove it, and copies of it, and make it anew"


def _trained(lineage: Lineage, adapter: str, touched: set[str]) -> str:
    """Return whether an adapter was trained on them itself, or has them from where it started."""
    before = touched.intersection(lineage.graph.predecessors(adapter))
    starts = sorted(node for node in before if kind_of(node) == "adapter")
    if len(starts) < len(before):
        return f"{adapter}: its adapter was trained on them; train it again"
    through = " and ".join(starts)
    return f"{adapter}: its adapter was also trained on them, through {through}; train it again"


def _besides(lineage: Lineage, adapters: Sequence[str], touched: set[str]) -> Iterator[str]:
    """Yield what lies beside the stages: exports, and adapters that were trained for a look."""
    for adapter in adapters:
        round_name, stage = adapter.split("/")
        for path in sorted((lineage.folder / round_name / "export").glob(f"{stage}-*")):
            what = f"was made of {adapter}; remove it, and copies of it"
            yield f"{round_name}/export/{path.name}: {what}"
    for name in _LOOKS:
        for path in sorted(lineage.folder.glob(f"round-*/{name}")):
            folder = path.parent if path.parent.name != "split" else path.parent.parent
            if folder.is_symlink() or not path.stat().st_size:
                continue
            if any(row.get("id") in touched for _, row in read_json_lines(path)):
                where = folder.relative_to(lineage.folder)
                yield f"{where}: an adapter there was trained on them, for a look; remove it"


def _meant(lineage: Lineage, name: str) -> set[str]:
    by_source: set[str] = set()
    for node, places in lineage.places.items():
        if kind_of(node) in ("row", "pair", "review") and places:
            by_source.add(f"{places[0].round}/{places[0].file}")
    ids = {
        str(row["id"])
        for path in sorted(by_source)
        for _, row in read_json_lines(lineage.folder / path)
        if name in (row.get("source"), row.get("reviewer")) or _of_file(row, name)
    }
    if ids:
        return ids
    try:
        return {lineage.named(name)}
    except UserError as error:
        raise UserError(
            f"no record, source or reviewer is called '{name}'",
            where=str(lineage.folder),
            fix="give an id, a source such as seeds.jsonl:17, or a reviewer's name",
        ) from error


def _of_file(row: dict[str, object], name: str) -> bool:
    """Return whether a row came from the file ``name``, on whatever line."""
    return str(row.get("source", "")).rpartition(":")[0] == name


def _files(lineage: Lineage, nodes: set[str]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield round → file → how many of the nodes stand in it."""
    rounds: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for node in nodes:
        for place in lineage.places.get(node, ()):
            rounds[place.round][place.file] += 1
    yield from sorted(rounds.items())
