"""``persona split``: whole groups to one side each, and the proof that nothing leaks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.layout import SPLITS, RoundFolder
from rounds.stages.split import LeakCheck, check_leaks, split_files, split_rounds
from workbench.errors import UserError
from workbench.records import Drop, Example, SplitAssignment, SplitName
from workbench.store import read_records


def _of_round(
    context: RoundContext, check: bool, similarity: float | None, most: int, force: bool
) -> None:
    """Split a round, or check what it and the persona's other rounds have split."""
    from rounds.pipeline import run_stages

    if not check:
        run_stages(context, ["split"], force=["split"] if force else [])
        _print_sizes(context)
        click.echo(context.round.stage("split"))
        return

    rounds = split_rounds(context.round)
    if not rounds:
        raise UserError(
            "no round of this persona is split yet",
            where=str(context.round.folder.parent),
            fix="run `persona split` first, or name the files to compare",
        )
    settings = context.config.split
    alike = similarity or settings.related
    files = [file for one in rounds for file in split_files(one)]
    _tell(check_leaks(files, alike, topics=settings.topics == "apart"), most, rounds)


_round_options = round_options(_of_round)


def _params_of(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the options of another one."""

    def give(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__click_params__ = list(command.__click_params__)  # type: ignore[attr-defined]
        return function

    return give


# The round is opened only where no files are named: those may be of any project.
@click.command("split")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--check", is_flag=True, help="Look for leaks instead of splitting.")
@click.option("--side", multiple=True, metavar="SIDE=FILE", help="Say which side a file is on.")
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1, min_open=True),
    help="Jaccard similarity from which two questions are siblings; that of the split by default.",
)
@click.option("--most", type=int, default=100, show_default=True, help="Pairs to print at most.")
@click.option("--force", is_flag=True, help="Do it again although it is done.")
@_params_of(_round_options)
def split(files: tuple[Path, ...], side: tuple[str, ...], **options: Any) -> None:
    """Make train, validation and test: whole groups of kin go to one side each.

    Kin are rows of one topic (unless the configuration says ``split: {topics: spread}``), rows made
    of one another, and rows whose questions are near duplicates or paraphrases. A group stays on
    its side in later rounds; a new row that is kin to rows on two sides is dropped as
    joins_two_sides.

    With --check nothing is split. It compares the FILES named, else all rounds of the persona with
    their evaluation prompts, prints every pair of kin on two sides, and exits 1 if there is any.
    A file's side is read off its name (train, validation, test, ...) or given by --side.

    \b
    Examples:
      persona split --seed 1
      persona split --check
      persona split --check train.jsonl my-questions.jsonl --side test=my-questions.jsonl
    """
    if not (files or side):
        _round_options(**options)
        return
    if not options["check"]:
        where = str(files[0]) if files else "--side"
        raise UserError("files are compared, not split", where=where, fix="add --check")
    from curation.related_rows import SIMILARITY

    named = _with_sides(files, side)
    if len({its for _, its in named}) < 2:
        raise UserError(
            f"all files are on the side '{named[0][1]}', so nothing can leak",
            where=", ".join(str(path) for path, _ in named),
            fix="name files of two sides; --side says which side a file is on",
        )
    found = check_leaks(named, options["similarity"] or SIMILARITY, topics=False)
    _tell(found, options["most"])


def _with_sides(files: Sequence[Path], sides: Sequence[str]) -> list[tuple[Path, SplitName]]:
    from curation.leaks import named_side, side_of
    from workbench.store import existing

    given: dict[Path, SplitName] = {}
    for text in sides:
        name, _, path = text.partition("=")
        if not path:
            raise UserError(f"'{text}' names no file", where="--side", fix="such as train=FILE")
        given[Path(path)] = named_side(name)
    paths = dict.fromkeys([*files, *given])
    return [(existing(path), given.get(path) or side_of(path)) for path in paths]


def _tell(found: LeakCheck, most: int, rounds: Sequence[RoundFolder] = ()) -> None:
    """Print the leaks and exit 1, or say in one line what was compared."""
    sizes = Counter(item.side for item in found.items)
    told = ", ".join(f"{side} {sizes[side]}" for side in SPLITS)
    where = f"{found.files} files" + (f" of {', '.join(r.name for r in rounds)}" if rounds else "")
    compared = f"{len(found.items)} rows in {where} ({told}), similarity {found.similarity:.2f}"
    if not found.leaks:
        click.echo(f"no leak: {compared}")
        return
    table = Table(title=f"Kin on two sides: {len(found.leaks)} pairs", title_justify="left")
    for name in ("row", "side", "kin to", "on side", "why"):
        table.add_column(name, overflow="fold")
    table.add_column("similarity", justify="right")
    for leak in found.leaks[:most]:
        one, other = leak.one, leak.other
        alike = f"{leak.similarity:.2f}"
        table.add_row(one.where, one.side, other.where, other.side, leak.why, alike)
    # As wide as its rows: a path is copied whole, in a narrow log too.
    width = max(80, *(2 * len(leak.one.where + leak.other.where) for leak in found.leaks[:most]))
    Console(width=width, highlight=False).print(table)
    if len(found.leaks) > most:
        click.echo(f"{len(found.leaks) - most} more pairs; --most shows more")
    click.echo(f"{len(found.leaks)} leaks: {compared}")
    click.get_current_context().exit(1)


def _print_sizes(context: RoundContext) -> None:
    """Print how many rows and pairs of each topic are on each side."""
    folder = context.round.stage("split")
    rows: dict[str, Counter[SplitName]] = defaultdict(Counter)
    topics = {
        row.id: row.topic
        for side in SPLITS
        for row in read_records(folder / f"{side}.jsonl", Example)
    }
    groups: dict[SplitName, set[str]] = defaultdict(set)
    for split in read_records(folder / "splits.jsonl", SplitAssignment):
        groups[split.split].add(split.group)
        if split.record in topics:
            rows[topics[split.record]][split.split] += 1
    table = Table(title="Rows by topic and side", title_justify="left")
    table.add_column("topic")
    for side in SPLITS:
        table.add_column(side, justify="right")
    # The rows of one side stand together, as a topic is on one side.
    for topic, counts in sorted(rows.items(), key=lambda e: (min(map(SPLITS.index, e[1])), e[0])):
        name = context.persona.topic_name(topic) if topic else "(no topic)"
        table.add_row(name, *(str(counts[side] or "") for side in SPLITS))
    table.add_section()
    table.add_row("rows", *(str(sum(c[side] for c in rows.values())) for side in SPLITS))
    pairs = (_lines(folder / f"preferences-{side}.jsonl") for side in SPLITS)
    table.add_row("preference pairs", *(str(count) for count in pairs))
    table.add_row("groups", *(str(len(groups[side])) for side in SPLITS))
    Console(soft_wrap=True).print(table)
    for drop in read_records(folder / "drops.jsonl", Drop):
        click.echo(f"dropped {drop.source or drop.record}: {drop.reason}, {drop.detail}")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
