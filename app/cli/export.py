"""``persona export``: a stage's adapter in the form that serves it, proved to answer alike."""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.models import open_export
from workbench.console import console
from workbench.prompts import system_prompt

if TYPE_CHECKING:
    from training.export.formats import Export
    from training.export.gate import ParityReport

TYPES = ("f16", "q8_0", "q4_1", "q4_0")
_type = click.option(
    "--type", "kind", type=click.Choice(TYPES), default="q8_0", show_default=True,
    help="Of the weights in the file.",
)  # fmt: skip
_adapter = click.option("--adapter", is_flag=True, help="The adapter alone, for a base beside it.")


def export_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of every export, and pass it a function that opens the export."""

    @round_options
    @click.option("--stage", help="Whose adapter; the last one trained by default.")
    @click.option("--name", help="What the export calls itself; persona and stage by default.")
    @click.option("--out", type=click.Path(path_type=Path), help="Folder; in the round by default.")
    @click.option(
        "--prompts", type=click.IntRange(min=1), default=8, show_default=True,
        help="How many of the evaluation's prompts the gate asks.",
    )  # fmt: skip
    @click.option("--all", "every", is_flag=True, help="The gate asks all of them.")
    @functools.wraps(command)
    def wrapped(
        context: RoundContext,
        *args: Any,
        stage: str | None,
        name: str | None,
        out: Path | None,
        prompts: int,
        every: bool,
        **kwargs: Any,
    ) -> None:
        def opened(form: str, **about: Any) -> Export:
            count = None if every else prompts
            return open_export(
                context, form, stage=stage, name=name, out=out, prompts=count, **about
            )

        command(context, opened, *args, **kwargs)

    return wrapped


Opened = Callable[..., "Export"]
Write = Callable[["Export"], "ParityReport | None"]


def _make(work: Export, write: Write) -> None:
    """Write and check an export without a hub and without the libraries' notices."""
    from training.device import quiet
    from workbench.inference.hub import hub_offline

    with hub_offline(), quiet():
        report = write(work)
    if report is not None:
        _show(work.source.name, report)
    if work.licence.restricted:
        console.print(f"  licence: {work.licence.terms}")
    click.echo(work.out)


def _show(name: str, report: ParityReport) -> None:
    from rich.table import Table

    table = Table("parity", "", title=name, title_justify="left")
    for label, value in report.table().items():
        table.add_row(label, value)
    console.print(table)


@click.group("export")
def export() -> None:
    """Export the adapter of a stage; what does not answer like it is refused.

    \b
    Examples:
      persona export gguf --type q8_0
      persona export merged --stage sft --all
      persona export hub my-team/gym-trainer --push
    """


@export.command("adapter")
@export_options
def adapter(context: RoundContext, opened: Opened) -> None:
    """Write the adapter in PEFT's own format, with its card."""
    from training.export.formats import export_adapter

    work = opened("adapter")
    _make(work, export_adapter)


@export.command("merged")
@export_options
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32",
    show_default=True, help="Of the weights; float32 answers identically, the others nearly.",
)  # fmt: skip
def merged(context: RoundContext, opened: Opened, dtype: str) -> None:
    """Merge the adapter into its full-precision base, file by file."""
    from training.export.formats import export_merged

    work = opened("merged" if dtype == "float32" else f"merged-{dtype}")
    _make(work, partial(export_merged, dtype=dtype))


@export.command("gguf")
@export_options
@_type
@_adapter
def gguf(context: RoundContext, opened: Opened, kind: str, adapter: bool) -> None:
    """Write a GGUF file for llama.cpp, LM Studio and Ollama; llama.cpp checks it."""
    from training.export.formats import export_gguf

    work = opened("gguf-adapter" if adapter else f"gguf-{kind}")
    _make(work, partial(export_gguf, kind=kind, adapter=adapter))


@export.command("ollama")
@export_options
@_type
@_adapter
@click.option("--system", is_flag=True, help="Put the persona's system prompt into the Modelfile.")
def ollama(context: RoundContext, opened: Opened, kind: str, adapter: bool, system: bool) -> None:
    """Write a GGUF file and the Modelfile that `ollama create` takes."""
    from training.export.formats import export_ollama

    work = opened("ollama-adapter" if adapter else f"ollama-{kind}")
    text = system_prompt(context.persona) if system else ""
    _make(work, partial(export_ollama, kind=kind, adapter=adapter, system=text))


@export.command("vllm")
@export_options
def vllm(context: RoundContext, opened: Opened) -> None:
    """Write the adapter with the command that serves it on its base with vLLM."""
    from training.export.formats import export_vllm

    work = opened("vllm")
    _make(work, export_vllm)


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
    opened: Opened,
    repository: str,
    form: str,
    kind: str,
    dataset: str,
    push: bool,
    public: bool,
    accept_licence: bool,
) -> None:
    """Make a folder for the Hub, with model card and dataset card, and --push it if asked."""
    from training.export import formats
    from training.export.hub import check_names, check_terms, push_folders, write_dataset

    check_names(repository, dataset)
    work = opened(f"hub-{form}", dataset=dataset)
    if push:
        check_terms(work.source.base_name, work.licence, accept_licence)
    rows = (
        write_dataset(context.round.stage("split"), context.persona, work.out, repository)
        if dataset
        else None
    )
    write: dict[str, Write] = {
        "adapter": formats.export_adapter,
        "merged": partial(formats.export_merged, dtype="float32"),
        "gguf": partial(formats.export_gguf, kind=kind),
    }
    _make(work, write[form])
    if push:
        for url in push_folders(work.out, repository, rows, dataset, public=public):
            click.echo(url)
