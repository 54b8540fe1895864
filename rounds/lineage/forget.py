"""What has to go when somebody's rows or reviews are taken back.

In: a lineage, and names of records, sources or reviewers. Out: lines that say what was made of
them; nothing is deleted. ``persona forget`` prints them. Links lead to records; what holds the
words without a link, such as caches, scratch of a sweep, notes of a chat or the log that rows came
from, is found by the words.
"""

from __future__ import annotations

import html
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from rounds.layout import CONFIG, REVIEWS, TRAIN, RoundFolder
from rounds.lineage.graph import Lineage, kind_of
from rounds.row_export import row_exports
from workbench.errors import UserError
from workbench.persona import persona_file
from workbench.store import read_json_lines
from workbench.text import counted
from workbench.yamlfile import read_yaml

_HEAVY = ("adapter", "answer", "score")
_LOOKS = (f".ablation/*/round-*/{TRAIN.path}", ".next.scratch/curve-*/rows.jsonl")
"""Rows of the trainings of ``persona compare --without`` and ``persona next --curve``."""
_TEXTS = ("answer", "chosen", "rejected", "corrected")
"""Fields of a record with words of somebody's; its prompt's turns are others."""
_BEGINNING = 60
"""Characters of a text that it is looked for by: pages and databases cut longer ones in pieces."""
_FEWEST = 12
"""Characters of a text below which others say the same by chance."""
_WEIGHTS = frozenset({".safetensors", ".gguf", ".bin", ".pt", ".pth", ".so"})
_READ_AT_ONCE = 1 << 24


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
    lines += _unlinked(lineage, rows, lines)
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


def _unlinked(lineage: Lineage, nodes: set[str], named: Sequence[str]) -> Iterator[str]:
    """Yield the files that hold the records' words and that no line names yet."""
    needles = _needles(lineage, nodes)
    heads = {Path(line.split(": ")[0]) for line in named}
    for path in sorted(lineage.folder.rglob("*")):
        name = path.relative_to(lineage.folder)
        if not heads.isdisjoint((name, *name.parents, *path.resolve().parents)):
            continue
        if _is_text(path) and _holds(path, needles):
            yield f"{name}: holds their words; remove it, or the stage that wrote it does it anew"
    for path in sorted(_sources(lineage)):
        if lines := _lines_with(path, needles):
            where = ", ".join(map(str, lines))
            yield f"{path}: they came from there; take out line {where}, which nothing here does"
    for one in RoundFolder.open(lineage.folder, 1).all_rounds:
        touched = any(head.parts[:1] == (one.name,) for head in heads)
        if touched and one.path(REVIEWS).exists():
            yield f"{one.name}: its dataset in Argilla holds them too; delete them there"


def _needles(lineage: Lineage, nodes: set[str]) -> tuple[bytes, ...]:
    """Return how the beginnings of the records' texts stand in files of any kind."""
    records = (lineage.record(node) for node in nodes if lineage.places.get(node))
    texts = {text.strip()[:_BEGINNING] for record in records for text in _texts(record)}
    forms = {
        form
        for text in texts
        if len(text) >= _FEWEST
        for form in (
            text,
            json.dumps(text, ensure_ascii=False)[1:-1],
            json.dumps(text)[1:-1],
            html.escape(text),
            html.escape(text).replace("&#x27;", "&#39;"),
        )
    }
    return tuple(sorted(form.encode() for form in forms))


def _texts(record: dict[str, Any]) -> Iterator[str]:
    answers = record.get("answers") or {}
    yield from (str(record.get(field) or answers.get(field) or "") for field in _TEXTS)
    turns = (turn for turn in record.get("prompt", ()) if turn.get("role") != "system")
    yield from (str(turn.get("content") or "") for turn in turns)


def _sources(lineage: Lineage) -> set[Path]:
    """Return the files from outside that the rounds' rows came from, where they still are.

    The persona's own rows are named without its folder, which the round's configuration names.
    """
    paths: set[Path] = set()
    for one in RoundFolder.open(lineage.folder, 1).all_rounds:
        manifest, config = one.manifest("import"), one.folder / CONFIG
        persona = read_yaml(config)[0].get("persona") if config.exists() else None
        folder = persona_file(Path(str(persona))).parent if persona else None
        for name in manifest.inputs if manifest else ():
            kind, _, path = name.partition(":")
            if kind == "source" and (folder or Path(path).is_absolute()):
                paths.add((folder or Path()) / path)
    return {path for path in paths if path.is_file()}


def _is_text(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.suffix not in _WEIGHTS


def _holds(path: Path, needles: Collection[bytes]) -> bool:
    if not needles:
        return False
    longest, before = max(map(len, needles)), b""
    with path.open("rb") as file:
        while block := file.read(_READ_AT_ONCE):
            block = before + block
            if any(needle in block for needle in needles):
                return True
            before = block[-longest:]
    return False


def _lines_with(path: Path, needles: Collection[bytes]) -> list[int]:
    with path.open("rb") as file:
        return [n for n, line in enumerate(file, 1) if any(needle in line for needle in needles)]
