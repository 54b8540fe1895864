"""``persona split``: whole groups to one split each, and the proof that nothing leaks."""

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
from rounds.layout import RoundFolder
from rounds.stages.split import LeakCheck, check_leaks, split_files, split_rounds
from workbench.errors import UserError
from workbench.records import SPLITS, Drop, Example, SplitAssignment, SplitName
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
@click.option(
    "--split", "named", multiple=True, metavar="NAME=FILE", help="Say which split a file is of."
)
@click.option(
    "--similarity",
    type=click.FloatRange(0, 1, min_open=True),
    help="Jaccard similarity from which two questions are related; that of the split by default.",
)
@click.option("--most", type=int, default=100, show_default=True, help="Pairs to print at most.")
@click.option("--force", is_flag=True, help="Do it again although it is done.")
@_params_of(_round_options)
def split(files: tuple[Path, ...], named: tuple[str, ...], **options: Any) -> None:
    """Make train, validation and test: whole groups of related rows go to one split each.

    Related are rows of one topic (unless the configuration says ``split: {topics: spread}``), rows
    made of one another, and rows whose questions are near duplicates or paraphrases. A group keeps
    its split in later rounds; a new row that is related to rows in two splits is dropped as
    joins_two_splits.

    With --check nothing is split. It compares the FILES named, else all rounds of the persona with
    their evaluation prompts, prints every pair of related rows in two splits, and exits 1 if there
    is any. A file's split is read off its name (train, validation, test, ...) or given by --split.

    \b
    Examples:
      persona split --seed 1
      persona split --check
      persona split --check train.jsonl my-questions.jsonl --split test=my-questions.jsonl
    """
    if not (files or named):
        _round_options(**options)
        return
    if not options["check"]:
        where = str(files[0]) if files else "--split"
        raise UserError("files are compared, not split", where=where, fix="add --check")
    from curation.related_rows import SIMILARITY

    compared = _with_splits(files, named)
    if len({name for _, name in compared}) < 2:
        raise UserError(
            f"all files are of the split '{compared[0][1]}', so nothing can leak",
            where=", ".join(str(path) for path, _ in compared),
            fix="name files of two splits; --split says which split a file is of",
        )
    leaks = check_leaks(compared, options["similarity"] or SIMILARITY, topics=False)
    _tell(leaks, options["most"])


def _with_splits(files: Sequence[Path], named: Sequence[str]) -> list[tuple[Path, SplitName]]:
    from curation.leaks import named_split, split_of
    from workbench.store import existing

    splits: dict[Path, SplitName] = {}
    for text in named:
        name, _, path = text.partition("=")
        if not path:
            raise UserError(f"'{text}' names no file", where="--split", fix="such as train=FILE")
        splits[Path(path)] = named_split(name)
    paths = dict.fromkeys([*files, *splits])
    return [(existing(path), splits.get(path) or split_of(path)) for path in paths]


def _tell(found: LeakCheck, most: int, rounds: Sequence[RoundFolder] = ()) -> None:
    """Print the leaks and exit 1, or say in one line what was compared."""
    sizes = Counter(item.split for item in found.items)
    by_split = ", ".join(f"{name} {sizes[name]}" for name in SPLITS)
    where = f"{found.files} files" + (f" of {', '.join(r.name for r in rounds)}" if rounds else "")
    compared = f"{len(found.items)} rows in {where} ({by_split}), similarity {found.similarity:.2f}"
    if not found.leaks:
        click.echo(f"no leak: {compared}")
        return
    table = Table(
        title=f"Related rows in two splits: {len(found.leaks)} pairs", title_justify="left"
    )
    for name in ("row", "split", "related to", "in split", "why"):
        table.add_column(name, overflow="fold")
    table.add_column("similarity", justify="right")
    for leak in found.leaks[:most]:
        one, other = leak.one, leak.other
        alike = f"{leak.similarity:.2f}"
        table.add_row(one.where, one.split, other.where, other.split, leak.why, alike)
    # As wide as its rows: a path is copied whole, in a narrow log too.
    width = max(80, *(2 * len(leak.one.where + leak.other.where) for leak in found.leaks[:most]))
    Console(width=width, highlight=False).print(table)
    if len(found.leaks) > most:
        click.echo(f"{len(found.leaks) - most} more pairs; --most shows more")
    click.echo(f"{len(found.leaks)} leaks: {compared}")
    click.get_current_context().exit(1)


def _print_sizes(context: RoundContext) -> None:
    """Print how many rows and pairs of each topic are in each split."""
    folder = context.round.stage("split")
    rows: dict[str, Counter[SplitName]] = defaultdict(Counter)
    topics = {
        row.id: row.topic
        for name in SPLITS
        for row in read_records(folder / f"{name}.jsonl", Example)
    }
    groups: dict[SplitName, set[str]] = defaultdict(set)
    for split in read_records(folder / "splits.jsonl", SplitAssignment):
        groups[split.split].add(split.group)
        if split.record in topics:
            rows[topics[split.record]][split.split] += 1
    table = Table(title="Rows by topic and split", title_justify="left")
    table.add_column("topic")
    for name in SPLITS:
        table.add_column(name, justify="right")
    # The rows of one split stand together, as a topic is in one split.
    for topic, counts in sorted(rows.items(), key=lambda e: (min(map(SPLITS.index, e[1])), e[0])):
        title = context.persona.topic_name(topic) if topic else "(no topic)"
        table.add_row(title, *(str(counts[name] or "") for name in SPLITS))
    table.add_section()
    table.add_row("rows", *(str(sum(c[name] for c in rows.values())) for name in SPLITS))
    pairs = (_lines(folder / f"preferences-{name}.jsonl") for name in SPLITS)
    table.add_row("preference pairs", *(str(count) for count in pairs))
    table.add_row("groups", *(str(len(groups[name])) for name in SPLITS))
    Console(soft_wrap=True).print(table)
    for drop in read_records(folder / "drops.jsonl", Drop):
        click.echo(f"dropped {drop.source or drop.record}: {drop.reason}, {drop.detail}")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
