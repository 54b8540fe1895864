"""Rows of a round for other trainers, in the forms that they read.

In: a split round. Out: a folder of files by kind and split, with a line in the round that says
where it lies, so that ``persona forget`` finds it. ``persona export rows`` calls it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from generation.row_forms import KINDS, RowFormat, RowKind, WrittenRows, write_rows
from rounds.context import RoundContext
from rounds.layout import EXAMPLES, PREFERENCES, ROW_EXPORTS, RoundFolder
from rounds.stages.train import unpaired_rows
from workbench.errors import UserError
from workbench.records import SPLITS, Row, SplitName, UnpairedPreference
from workbench.store import read_json, read_json_lines, whole_folder, write_json

ABOUT = "manifest.json"
"""Of an export: its form, its files and the records in them."""
DEFAULT_KINDS: tuple[RowKind, ...] = ("sft", "preferences")


def split_rows(
    round_: RoundFolder, kinds: Sequence[RowKind] = KINDS
) -> dict[tuple[RowKind, SplitName], Sequence[Row]]:
    """Return the rows of a split round by kind and split.

    Raises:
        UserError: The round is not split.
    """
    return {(kind, split): _of_kind(round_, kind, split) for kind in kinds for split in SPLITS}


def _of_kind(round_: RoundFolder, kind: RowKind, split: SplitName) -> Sequence[Row]:
    if kind == "unpaired":
        return unpaired_rows(round_, split)
    if kind == "preferences":
        return round_.read(PREFERENCES[split])
    return round_.read(EXAMPLES[split])


def export_rows(
    context: RoundContext,
    form: RowFormat,
    *,
    kinds: Sequence[RowKind] = DEFAULT_KINDS,
    out: Path | None = None,
    ids: bool = True,
) -> tuple[Path, WrittenRows]:
    """Write the round's rows in a form, and return the folder and what is in it.

    ``out`` is a folder in the round by default; ``ids`` writes id, topic and kind beside each row.

    Raises:
        UserError: The round is not split, has no such rows, or one that the form has no place for.
    """
    one = context.round
    rows = split_rows(one, kinds)
    if not any(rows.values()):
        what = f"the round has no rows of {' or '.join(kinds)}"
        raise UserError(what, where=str(one.folder), fix="split a round with reviewed rows first")
    folder = out or one.stage("export") / f"rows-{form}"
    if folder.exists() and not (folder / ABOUT).exists():
        what = "is there already, and is no export of rows"
        raise UserError(what, where=str(folder), fix="name a new folder")
    with whole_folder(folder) as draft:
        written = write_rows(rows, form, draft, context.persona.id, ids=ids)
        _copy_pictures(one, rows.values(), draft)
        # An unpaired answer has an id of its own, and is forgotten with the row that it is of.
        records = {name for some in rows.values() for row in some for name in _names(row)}
        write_about(context, draft, records, format=form, files=written.files)
    log_export(one, folder)
    return folder, written


def write_about(
    context: RoundContext, draft: Path, records: Iterable[str], **about: object
) -> None:
    """Write what an export is and which records are in it, beside its files."""
    known = {"persona": context.persona.record_id, "round": context.round.name}
    write_json(draft / ABOUT, {**known, **about, "records": sorted(records)})


def log_export(round_: RoundFolder, folder: Path) -> None:
    """Write down where an export with :func:`write_about` lies, for :func:`row_exports`."""
    log = round_.path(ROW_EXPORTS)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"folder": str(folder.resolve())}) + "\n")


def record_names(*files: Path | None) -> set[str]:
    """Return the records that files of rows hold, and the rows that unpaired answers are of."""
    names: set[str] = set()
    for file in files:
        for _, row in read_json_lines(file) if file else ():
            name = str(row.get("id", ""))  # rows of the user's own need none
            unpaired = name.startswith(UnpairedPreference.prefix)
            names |= {name, *(row.get("parents", ()) if unpaired else ())} - {""}
    return names


def _names(row: Row) -> tuple[str, ...]:
    return (row.id, *row.parents) if isinstance(row, UnpairedPreference) else (row.id,)


def _copy_pictures(round_: RoundFolder, rows: Iterable[Sequence[Row]], out: Path) -> None:
    names = {image for some in rows for row in some for image in row.images}
    for name in names:
        target = out / "images" / Path(name).name
        target.parent.mkdir(exist_ok=True)
        # Rows name pictures from the folder of their stage.
        shutil.copyfile(round_.stage("split") / name, target)


def row_exports(round_: RoundFolder) -> dict[Path, set[str]]:
    """Return the exports of a round's rows that are still there, with the records in them."""
    log = round_.path(ROW_EXPORTS)
    lines = read_json_lines(log) if log.exists() else ()
    folders = dict.fromkeys(Path(line["folder"]) for _, line in lines)
    return {
        folder: set(read_json(about).get("records", ()))
        for folder in folders
        if (about := folder / ABOUT).exists()
    }
