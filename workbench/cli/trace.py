"""``persona trace`` and ``persona forget``: any record walked back, and on to what it touched."""

from __future__ import annotations

import json
from pathlib import Path

import click

from workbench.cli.job import Job, round_options


@click.command()
@click.argument("record", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE.svg", help="Draw it too.")
@round_options
def trace(job: Job, record: str, as_json: bool, picture: Path | None) -> None:
    """Walk a row, answer or score back to its sources, and on to what it touched.

    ID is a record's id, the beginning of one, or an adapter such as round-001/sft. All rounds of
    the persona are looked at.

    \b
    Examples:
      persona trace sc-10d6f1ce34d3e9e0
      persona trace round-001/dpo --picture dpo.svg
    """
    from workbench.lineage import graph, tell
    from workbench.store import atomic_file

    lineage = graph.read_lineage(job.round.folder.parent)
    node = lineage.named(record)
    if as_json:
        click.echo(json.dumps(tell.chain(lineage, node), ensure_ascii=False, indent=1))
    else:
        click.echo("\n".join(tell.lines(lineage, node)))
    if picture:
        with atomic_file(picture) as file:
            file.write(tell.picture(lineage, node))


@click.command()
@click.argument("records", nargs=-1, required=True, metavar="ID...")
@round_options
def forget(job: Job, records: tuple[str, ...]) -> None:
    """Say what would have to go with these records: rows made of them, and trained adapters.

    ID may also be a source, such as seeds.jsonl:17 or a reviewer's name. Nothing is deleted: take
    the rows out of their source, then run the stages again that are named.

    \b
    Example:
      persona forget seeds.jsonl:17
    """
    from workbench.lineage import graph
    from workbench.lineage.forget import forgotten

    lineage = graph.read_lineage(job.round.folder.parent)
    for line in forgotten(lineage, records):
        click.echo(line)
