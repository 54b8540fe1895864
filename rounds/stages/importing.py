"""The stage ``import``: rows that people bring, and what earlier rounds decided or said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from generation.importing import Imported, import_rows
from rounds.carry_over import CarryOver, carry_over_inputs, collect_carry_over
from rounds.context import SEEDS, RoundContext
from rounds.layout import IMPORT_DROPS, IMPORTED, IMPORTED_PREFERENCES, PICTURES
from rounds.notes import carried_files, carried_rows
from rounds.runner import StageSpec, Work
from rounds.served import candidates_of
from workbench.errors import UserError, every_mistake
from workbench.records import Drop, Example, Preference, take_spread
from workbench.store import disk_errors, existing


def import_stage(context: RoundContext) -> StageSpec:
    """Rows of the persona's seed file, or of the files named; kept rows of earlier rounds."""
    earlier = carry_over_inputs(context)
    again = {"again": context.config.review.again, "model": context.config.model}
    again |= {"base": context.base_key("import")} if earlier else {}
    return StageSpec(
        "import",
        partial(_import, context),
        earlier=earlier,
        files={
            "persona.yaml": context.persona_folder / "persona.yaml",
            **carried_files(context.round),
            **{
                f"source:{_key(context, path)}": _content(context, path) for path in context.sources
            },
        },
        settings={
            "rows": context.config.rows,
            **({"columns": context.config.columns} if context.config.columns else {}),
            **({"skip_bad": context.config.skip_bad} if context.config.skip_bad else {}),
            **_served_settings(context),
            **(again if earlier else {}),
        },
    )


def _served_settings(context: RoundContext) -> dict[str, object]:
    """Return what decides of a served model's log, where there is one."""
    config = context.config
    if not config.served:
        return {}
    policy = {"personal_data": config.filter.personal_data, "related": config.split.related}
    return {"served": sorted(map(str, config.served)), **policy}


def read_sources(
    context: RoundContext, *, missing: bool = False
) -> Iterator[tuple[Path, Imported]]:
    """Yield every source of a round with its rows; all mistakes of all files are told at once.

    ``missing`` passes over files that are not there.

    Raises:
        UserError: A file cannot be read, or rows are wrong and ``skip_bad`` is not set.
    """
    labels = source_labels(context)
    imported: dict[Path, Imported] = {}

    def read(path: Path) -> None:
        served = path in context.config.served
        rows = import_rows(
            _existing(context, path),
            context.persona,
            origin="seed" if _own(context, path) else "imported",
            columns=context.config.columns_of(path),
            skip_bad=served or context.config.skips_bad(path),
            label=labels[path],
            pictures=f"../{PICTURES.path}",
            served=served,
        )
        imported[path] = candidates_of(context, rows) if served else rows

    there = (path for path in labels if not missing or path.exists())
    every_mistake(partial(read, path) for path in there)
    yield from imported.items()


def keep_upload(context: RoundContext, name: str, content: bytes) -> Path:
    """Keep a file of rows that somebody brought in the persona's folder ``rows/``, once it is read.

    Another file of the same name stays: the new one gets a number.

    Raises:
        UserError: The name is none of a file, or the rows are wrong; nothing is kept then.
    """
    bare = Path(name.replace("\\", "/")).name.strip().lstrip(".")
    if not bare or not bare.isprintable():
        raise UserError(f"'{name}' is no name of a file", fix="rename it")
    folder = context.persona_folder / "rows"
    path = folder / bare
    number = 1
    while path.exists() and path.read_bytes() != content:
        number += 1
        path = folder / f"{Path(bare).stem}-{number}{Path(bare).suffix}"
    with TemporaryDirectory() as temporary:
        draft = Path(temporary) / bare
        draft.write_bytes(content)
        for _ in read_sources(context.importing((draft,), {}, replace=True)):
            pass  # every mistake is told, or none
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{path.name}.new"
        draft.write_bytes(content)
        draft.replace(path)
    return path


def source_labels(context: RoundContext) -> dict[Path, str]:
    """Return what the rows of each source name as their file.

    Its name, or as much of its path as tells it from another source of the same name; the
    persona's own seeds keep theirs.
    """
    paths = list(dict.fromkeys(context.sources))
    labels: dict[Path, str] = {}
    for path in paths:
        parts = path.resolve().parts
        others = [one.resolve().parts for one in paths if one != path and not _own(context, path)]
        depth = 1
        while depth < len(parts) and any(one[-depth:] == parts[-depth:] for one in others):
            depth += 1
        labels[path] = "/".join(parts[-depth:])
    return labels


def _own(context: RoundContext, path: Path) -> bool:
    return path.resolve() == (context.persona_folder / SEEDS).resolve()


def _key(context: RoundContext, path: Path) -> str:
    """Return the whole path: two files of one name are two sources."""
    return SEEDS if _own(context, path) else str(path.resolve())


def _content(context: RoundContext, path: Path) -> Path | str:
    """Return a source, or the hash of one that is gone: the rows that it gave stay."""
    manifest = context.round.manifest("import")
    before = manifest.inputs.get(f"source:{_key(context, path)}") if manifest else None
    return before if before and not path.exists() else _existing(context, path)


def _existing(context: RoundContext, path: Path) -> Path:
    if _own(context, path) and not path.exists():
        what = "the persona has no rows of its own, and the round has none yet"
        raise UserError(what, where=str(path), fix="`persona import FILE` comes first")
    return existing(path, folder=True)


def _import(context: RoundContext, work: Work) -> None:
    rows: list[Example] = []
    preferences: list[Preference] = []
    drops: list[Drop] = []
    shapes: Counter[str] = Counter()
    for _, imported in read_sources(context):
        rows += imported.examples
        preferences += imported.preferences
        drops += imported.dropped
        shapes += imported.shapes
        _write_pictures(work, imported)
    read = len(rows) + len(preferences) + len(drops)
    carry_over = collect_carry_over(
        context.source_rounds, context.config.model, context.base_key("generate")
    )
    known = {record.id for record in (*carry_over.rows, *carry_over.preferences)}
    new = [row for row in rows if row.id not in known]
    kept_rows = take_spread(new, context.config.rows)
    new_pairs = [pair for pair in preferences if pair.id not in known]
    decided = len(rows) - len(new) + len(preferences) - len(new_pairs)
    over = len(new) - len(kept_rows)
    if read != len(kept_rows) + len(new_pairs) + len(drops) + decided + over:
        raise AssertionError(f"{read} rows were read, and some of them went without a reason")
    work.counts.update(read=read, **({"decided_before": decided} if decided else {}))
    work.counts.update({"not_drawn": over} if over else {})
    if context.config.review.again:
        kept_rows, carry_over = [*carry_over.rows, *kept_rows], CarryOver()
    candidates = [row for row in carried_rows(context.round) if row.id not in known]
    candidates = [row for row in candidates if row.id not in {own.id for own in kept_rows}]
    work.counts.update({"candidates": len(candidates)} if candidates else {})
    kept_rows = [*kept_rows, *candidates]
    work.counts.update(kept=len(kept_rows), preferences=len(new_pairs), dropped=len(drops))
    if drops:
        work.counts["reasons"] = dict(Counter(drop.reason for drop in drops).most_common())
    work.counts["shapes"] = dict(shapes)
    work.counts.update(carry_over.counts())
    if context.source_rounds:
        carry_over.write(work.out)
    work.write(IMPORTED, kept_rows)
    work.write(IMPORTED_PREFERENCES, new_pairs)
    work.write(IMPORT_DROPS, drops)


def _write_pictures(work: Work, imported: Imported) -> None:
    """Put pictures where rows of every stage name them from: by their content, beside the rows."""
    for name, picture in imported.pictures.items():
        file = work.out / PICTURES.name / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture if isinstance(picture, bytes) else picture.read_bytes())
