"""``persona trace`` and ``persona forget``: any record walked back, and on to what it touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from workbench.errors import UserError

if TYPE_CHECKING:
    from rounds.lineage.graph import Lineage

_SHOWN = 20
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
@round_options
def trace(
    context: RoundContext,
    record: str | None,
    as_json: bool,
    picture: Path | None,
    sample: int | None,
) -> None:
    """Walk a row, answer or score back to its sources, and on to what it touched.

    ID is a record's id, the beginning of one, or an adapter such as round-001/sft. All rounds of
    the persona are looked at.

    \b
    Examples:
      persona trace sc-10d6f1ce34d3e9e0
      persona trace round-001/dpo --picture dpo.svg
      persona trace --sample 1000
    """
    from rounds.lineage import graph
    from rounds.lineage import render as tell
    from workbench.store import atomic_file

    if (record is None) == (sample is None):
        raise UserError("name an id, or how many to draw", fix="such as `persona trace --sample 9`")
    lineage = graph.read_lineage(context.round.folder.parent)
    if record is None:
        _check(lineage, sample or 0, context.config.seed, as_json)
        return
    node = lineage.named(record)
    if as_json:
        click.echo(json.dumps(tell.chain(lineage, node), ensure_ascii=False, indent=1))
    else:
        click.echo("\n".join(tell.lines(lineage, node)))
    if picture:
        with atomic_file(picture) as file:
            file.write(tell.picture(lineage, node))


def _check(lineage: Lineage, count: int, seed: int, as_json: bool) -> None:
    """Print what became of the ids drawn, and exit 1 if a chain has a gap."""
    from rich.console import Console
    from rich.table import Table

    from rounds.lineage.audit import audit, draw

    nodes = draw(lineage, count, seed)
    found = audit(lineage, nodes)
    if as_json:
        kinds = {
            kind: {"there": found.there[kind], "drawn": drawn, "complete": found.complete(kind)}
            for kind, drawn in sorted(found.drawn.items())
        }
        click.echo(json.dumps({"kinds": kinds, "gaps": found.gaps}, indent=1))
    else:
        table = Table(title=f"Chains of {len(nodes)} ids (seed {seed})", title_justify="left")
        for name in ("kind", "in all rounds", "drawn", "complete"):
            table.add_column(name, justify="left" if name == "kind" else "right")
        for kind, drawn in sorted(found.drawn.items()):
            told = (found.there[kind], drawn, found.complete(kind))
            table.add_row(kind, *map(str, told))
        Console(highlight=False).print(table)
        for node, gaps in list(found.gaps.items())[:_SHOWN]:
            click.echo(f"gap: {node}: {'; '.join(gaps)}")
        click.echo(f"{len(nodes) - len(found.gaps)} of {len(nodes)} chains are complete")
    if found.gaps:
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
    from rounds.lineage import graph
    from rounds.lineage.forget import forgotten

    lineage = graph.read_lineage(context.round.folder.parent)
    for line in forgotten(lineage, records):
        click.echo(line)
