"""``persona trace``, ``forget`` and ``document``: where records come from and what they touched."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.lineage.account import account
from rounds.lineage.audit import Audit, audit, draw
from rounds.lineage.documents import data_sheet, write_documents
from rounds.lineage.forget import forget_lines
from rounds.lineage.graph import read_lineage
from rounds.lineage.render import chain, chain_lines, draw_picture
from workbench.errors import UserError
from workbench.store import atomic_file

_LISTED = 20
"""Incomplete chains that are printed."""


@click.command()
@click.argument("record", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw it too.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Check the chains of N ids, drawn over all kinds with the seed; exit 1 on a gap.",
)
@click.option("--account", "of_rows", is_flag=True, help="What became of every row of the round.")
@round_options
def trace(
    context: RoundContext,
    record: str | None,
    as_json: bool,
    picture: Path | None,
    sample: int | None,
    of_rows: bool,
) -> None:
    """Walk a row, answer or score back to its sources, and on to what it touched.

    ID is a record's id, the beginning of one, or an adapter such as round-001/sft. All rounds of
    the persona are looked at.

    \b
    Examples:
      persona trace sc-10d6f1ce34d3e9e0
      persona trace round-001/dpo --picture dpo.svg
      persona trace --sample 1000
      persona trace --account
    """
    if of_rows:
        context.round.check_there()
        click.echo("\n".join(account(context.round).lines()))
        return
    if (record is None) == (sample is None):
        raise UserError("name an id, or how many to draw", fix="such as `persona trace --sample 9`")
    lineage = read_lineage(context.round.folder.parent)
    if record is None:
        seed = context.config.seed
        _print_audit(audit(lineage, draw(lineage, sample or 0, seed)), seed, as_json)
        return
    node = lineage.named(record)
    way = chain(lineage, node)
    click.echo(way.model_dump_json(indent=1) if as_json else "\n".join(chain_lines(way)))
    if picture:
        with atomic_file(picture) as file:
            file.write(draw_picture(lineage, node))


def _print_audit(result: Audit, seed: int, as_json: bool) -> None:
    """Print what became of the ids drawn, and exit 1 if a chain has a gap."""
    counts = {
        kind: {"there": result.there[kind], "drawn": drawn, "complete": result.complete(kind)}
        for kind, drawn in sorted(result.drawn.items())
    }
    total = sum(result.drawn.values())
    if as_json:
        click.echo(json.dumps({"kinds": counts, "gaps": result.gaps}, indent=1))
    else:
        table = Table(title=f"Chains of {total} ids (seed {seed})", title_justify="left")
        for name in ("kind", "in all rounds", "drawn", "complete"):
            table.add_column(name, justify="left" if name == "kind" else "right")
        for kind, numbers in counts.items():
            table.add_row(kind, *map(str, numbers.values()))
        Console(highlight=False).print(table)
        for node, gaps in list(result.gaps.items())[:_LISTED]:
            click.echo(f"gap: {node}: {'; '.join(gaps)}")
        click.echo(f"{total - len(result.gaps)} of {total} chains are complete")
    if result.gaps:
        click.get_current_context().exit(1)


@click.command()
@click.argument("records", nargs=-1, required=True, metavar="ID...")
@round_options
def forget(context: RoundContext, records: tuple[str, ...]) -> None:
    """Say what would have to go with these records: rows made of them, and trained adapters.

    ID may also be a source, such as seeds.jsonl:17 or a reviewer's name. Nothing is deleted: take
    the rows out of their source, then run the stages again that are named.

    \b
    Example:
      persona forget seeds.jsonl:17
    """
    for line in forget_lines(read_lineage(context.round.folder.parent), records):
        click.echo(line)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Folder; in the round by default.")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 where a required answer lacks.")
@round_options
def document(context: RoundContext, out: Path | None, check: bool) -> None:
    """Write what is handed on with the split's rows: a datasheet and a Croissant file.

    Both are filled from what the stages wrote down and from the persona's card (README.md, its
    front matter: license, creator, contact, consent, maintenance). A required answer that nobody
    knows is named, with the place where it can be given.

    \b
    Examples:
      persona document
      persona document --check
    """
    if check:
        sheet = data_sheet(context)
    else:
        folder, sheet = write_documents(context, out)
        click.echo(folder)
    for answer in sheet.missing:
        click.echo(f"not filled: {answer.question} ({answer.name}) — {answer.fix}")
    if check and not sheet.missing:
        click.echo("every required answer is filled")
    if check and sheet.missing:
        click.get_current_context().exit(1)
