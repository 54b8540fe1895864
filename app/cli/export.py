"""``persona export``: an adapter in the form that serves it, proved to answer alike; and rows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from app.cli import ListedGroup
from app.cli.options import FiniteRange, round_options
from generation.row_forms import FORMATS, KINDS, RowFormat, RowKind
from rounds.context import RoundContext
from rounds.inspect_logs import write_inspect_logs
from rounds.lineage.documents import add_documents
from rounds.row_export import DEFAULT_KINDS, export_rows
from training.device import quiet
from training.export.eject import Engine
from training.export.formats import (
    Export,
    export_adapter,
    export_gguf,
    export_merged,
    export_ollama,
    export_vllm,
)
from training.export.gate import ParityReport
from training.export.hub import check_names, check_terms, push_folders, write_dataset
from workbench.console import console
from workbench.inference.hub import hub_offline
from workbench.text import counted

TYPES = ("f16", "q8_0", "q4_1", "q4_0")
_type = click.option(
    "--type", "kind", type=click.Choice(TYPES), default="q8_0", show_default=True,
    help="Of the weights in the file.",
)  # fmt: skip
_adapter = click.option("--adapter", is_flag=True, help="The adapter alone, for a base beside it.")
OpenExport = Callable[..., "Export"]
"""``open_export(form, **about)`` with what the command's options say."""
Write = Callable[["Export"], "ParityReport | None"]


def export_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of every export; it gets the round and an :data:`OpenExport`."""

    @round_options
    @click.option("--stage", help="Whose adapter; the last one trained by default.")
    @click.option("--arm", help="With its prompt, such as base+optimised, in place of a stage.")
    @click.option("--name", help="What the export calls itself; persona and arm by default.")
    @click.option("--out", type=click.Path(path_type=Path), help="Folder; in the round by default.")
    @click.option(
        "--prompts", type=click.IntRange(min=1), default=8, show_default=True,
        help="How many of the evaluation's prompts the gate asks.",
    )  # fmt: skip
    @click.option(
        "--strength", type=FiniteRange(min=0.01, max=2), default=1.0, show_default=True,
        help="Of the adapter: 0.5 adds half of it to the base.",
    )  # fmt: skip
    @click.option("--all", "every", is_flag=True, help="The gate asks all of them.")
    @functools.wraps(command)
    def wrapped(
        context: RoundContext, *args: Any, prompts: int, every: bool, **kwargs: Any
    ) -> None:
        from rounds.models import open_export

        about = {name: kwargs.pop(name) for name in ("stage", "arm", "name", "out", "strength")}
        count = None if every else prompts
        command(context, partial(open_export, context, prompts=count, **about), *args, **kwargs)

    return wrapped


def _make(export: Export, write: Write) -> None:
    """Write and check an export without a hub and without the libraries' notices; print it."""
    with hub_offline(), quiet():
        report = write(export)
    if report is not None:
        table = Table("parity", "", title=export.source.name, title_justify="left")
        for label, value in report.table().items():
            table.add_row(label, value)
        console.print(table)
    if export.licence.restricted:
        console.print(f"  licence: {export.licence.terms}")
    click.echo(export.out)


LINES = {
    "adapter": "The adapter in PEFT's own format, with its card.",
    "merged": "Adapter and base as one full-precision model.",
    "gguf": "One file for llama.cpp, LM Studio and Ollama.",
    "ollama": "The same with the Modelfile that Ollama takes.",
    "vllm": "The adapter with the command that serves it by vLLM.",
    "hub": "A folder for the Hub, with cards; --push sends it.",
    "rows": "The split's rows for another trainer, with ids.",
    "inspect": "Answers and scores as logs for `inspect view`.",
}
"""Command → its line in the list, in the order in which they are used."""


@click.group("export", cls=ListedGroup, lines=LINES)
def export() -> None:
    """Export a stage's adapter or an arm with its prompt; what answers otherwise is refused.

    \b
    Examples:
      persona export gguf --type q8_0
      persona export merged --stage sft --all
      persona export merged --strength 0.75
      persona export ollama --arm base+optimised
      persona export hub my-team/gym-trainer --push
    """


@export.command("adapter")
@export_options
def adapter(_: RoundContext, open_export: OpenExport) -> None:
    """Write the adapter in PEFT's own format, with its card.

    \b
    Example:
      persona export adapter --stage sft
    """
    _make(open_export("adapter"), export_adapter)


@export.command("merged")
@export_options
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
    show_default=True, help="Of the weights; float32 answers identically, the others nearly.",
)  # fmt: skip
def merged(_: RoundContext, open_export: OpenExport, dtype: str) -> None:
    """Merge the adapter into its full-precision base, file by file.

    \b
    Example:
      persona export merged --dtype bfloat16
    """
    form = "merged" if dtype == "float32" else f"merged-{dtype}"
    _make(open_export(form), partial(export_merged, dtype=dtype))


@export.command("gguf")
@export_options
@_type
@_adapter
def gguf(_: RoundContext, open_export: OpenExport, kind: str, adapter: bool) -> None:
    """Write a GGUF file for llama.cpp, LM Studio and Ollama; llama.cpp checks it.

    \b
    Example:
      persona export gguf --type q4_0
    """
    form = "gguf-adapter" if adapter else f"gguf-{kind}"
    _make(open_export(form), partial(export_gguf, kind=kind, adapter=adapter))


@export.command("ollama")
@export_options
@_type
@_adapter
@click.option("--system", is_flag=True, help="Of the persona, where the arm has no prompt yet.")
def ollama(
    _: RoundContext, open_export: OpenExport, kind: str, adapter: bool, system: bool
) -> None:
    """Write a GGUF file and the Modelfile that `ollama create` takes.

    The arm's system prompt, with the examples of base+few-shot in it, is the Modelfile's SYSTEM.

    \b
    Examples:
      persona export ollama --system
      persona export ollama --arm base+few-shot
    """
    form = "ollama-adapter" if adapter else f"ollama-{kind}"
    opened = open_export(form, prompted=system)
    _make(opened, partial(export_ollama, kind=kind, adapter=adapter))


@export.command("vllm")
@export_options
def vllm(_: RoundContext, open_export: OpenExport) -> None:
    """Write the adapter with the command that serves it on its base with vLLM.

    \b
    Example:
      persona export vllm --out exports/gym-trainer
    """
    _make(open_export("vllm"), export_vllm)


@export.command("inspect")
@round_options
@click.option("--out", type=click.Path(path_type=Path), help="Folder; in the round by default.")
def inspect_(context: RoundContext, out: Path | None) -> None:
    """Write answers and scores as Inspect's logs, one an arm, for `inspect view`.

    \b
    Example:
      persona export inspect --out logs
    """
    for path in write_inspect_logs(context, out):
        click.echo(path)


@export.command("rows")
@round_options
@click.option(
    "--format", "form", type=click.Choice(FORMATS), default="trl", show_default=True,
    help="Whose form the rows have.",
)  # fmt: skip
@click.option(
    "--rows", "kinds", type=click.Choice(KINDS), multiple=True, default=DEFAULT_KINDS,
    show_default=True, help="Which rows; may be given repeatedly.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="Folder; in the round by default.")
@click.option("--no-ids", is_flag=True, help="Leave out id, topic and kind, which some refuse.")
def rows(
    context: RoundContext,
    form: RowFormat,
    kinds: tuple[RowKind, ...],
    out: Path | None,
    no_ids: bool,
) -> None:
    """Write the split's rows for another trainer, with ids.

    `persona import` reads each form back to the same ids. Beside forms that LLaMA-Factory reads
    lies its dataset_info.json, beside those that axolotl reads a block for its configuration.

    \b
    Examples:
      persona export rows --format sharegpt
      persona export rows --format csv --rows unpaired --out for-colleagues
    """
    folder, written = export_rows(context, form, kinds=kinds, out=out, ids=not no_ids)
    for file, count in written.files.items():
        click.echo(f"{file}: {counted(count, 'row')}")
    if written.changed:
        some = ", ".join(written.changed[:3])
        click.echo(f"an import would straighten {counted(len(written.changed), 'row')}: {some}")
    click.echo(folder)


@export.command("hub")
@export_options
@click.argument("repository", metavar="OWNER/NAME")
@click.option(
    "--format", "form", type=click.Choice(["adapter", "merged", "gguf"]), default="adapter",
    show_default=True, help="What is put into the repository.",
)  # fmt: skip
@_type
@click.option("--dataset", default="", metavar="OWNER/NAME", help="Push the rows there, linked.")
@click.option("--push", is_flag=True, help="Send it; without it only the folder is made.")
@click.option("--public", is_flag=True, help="Public repositories; private by default.")
@click.option("--accept-licence", is_flag=True, help="The base's terms are heeded.")
def hub(
    context: RoundContext,
    open_export: OpenExport,
    repository: str,
    form: str,
    kind: str,
    dataset: str,
    push: bool,
    public: bool,
    accept_licence: bool,
) -> None:
    """Make a folder for the Hub, with model card and dataset card, and --push it if asked.

    With --dataset the rows go along with their datasheet and Croissant file.

    \b
    Example:
      persona export hub my-team/gym-trainer --dataset my-team/gym-trainer-rows --push
    """
    check_names(repository, dataset)
    opened = open_export(f"hub-{form}", dataset=dataset)
    if push:
        check_terms(opened.source.base_name, opened.licence, accept_licence)
    rows = (
        write_dataset(context.round.stage("split"), context.persona, opened.out, repository)
        if dataset
        else None
    )
    if rows:
        add_documents(context, rows, f"https://huggingface.co/datasets/{dataset}")
    write: dict[str, Write] = {
        "adapter": export_adapter,
        "merged": partial(export_merged, dtype="float32"),
        "gguf": partial(export_gguf, kind=kind),
    }
    _make(opened, write[form])
    if push:
        for url in push_folders(opened.out, repository, rows, dataset, public=public):
            click.echo(url)


@click.command("eject")
@round_options
@click.option("--stage", help="Whose training; the last one by default.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder; in the round by default.")
@click.option(
    "--engine", type=click.Choice(["trl", "unsloth"]), default="trl", show_default=True,
    help="Whose model class the script loads; Unsloth's needs a GPU.",
)  # fmt: skip
def eject(context: RoundContext, stage: str | None, out: Path | None, engine: Engine) -> None:
    """Write a stage's training as one plain script with its rows, for those who leave.

    The script is TRL's and PEFT's own words and nothing of this project; it trains the same adapter
    with the same losses where the versions in its requirements.txt are there.

    \b
    Example:
      persona eject --stage sft --out gym-trainer-script
    """
    from rounds.models import eject_stage

    with quiet():
        script = eject_stage(context, stage=stage, out=out, engine=engine)
    click.echo(script)
