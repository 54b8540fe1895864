"""The commands of data: rows in, candidates, filters, decisions, splits, and rows to the Hub."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import (
    FiniteRange,
    force_option,
    reopen,
    round_options,
    round_params,
    run_one,
    stage_command,
)
from curation.leaks import named_split, split_of
from generation.row_columns import COLUMNS, parse_map
from rounds import models
from rounds.context import RoundContext
from rounds.estimates import estimate_generation, prompt_for_rows
from rounds.layout import SPLIT_DROPS, Manifest
from rounds.pipeline import run_stages
from rounds.splits import LeakCheck, check_files, check_rounds, split_sizes
from rounds.stages.importing import read_sources
from workbench.config import LOCAL
from workbench.errors import UserError
from workbench.records import SPLITS, SplitName
from workbench.store import existing
from workbench.text import counted

EXIT_TOO_FEW = 3
"""Exit code when fewer of the planned rows came than ``--min-share`` asks for."""


@click.command("import")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Which column is which, such as instruction=질문; may be given repeatedly, or several"
    " in one. An empty THEIRS leaves a column out.",
)
@click.option("--skip-bad", is_flag=True, help="Drop wrong rows, each with its reason.")
@click.option("--served", is_flag=True, help="FILE is a log of a served model.")
@click.option("--replace", is_flag=True, help="Leave out what the round had imported before.")
@click.option("--dry-run", is_flag=True, help="Show what would come of it, and write nothing.")
@round_options
@force_option
def import_(
    context: RoundContext,
    files: tuple[Path, ...],
    maps: tuple[str, ...],
    skip_bad: bool,
    served: bool,
    replace: bool,
    dry_run: bool,
    force: bool,
) -> None:
    """Read rows of any FILE into the round, beside those it has; the persona's seeds without any.

    Formats: JSON and JSONL, CSV, TSV, Excel, Parquet, Markdown tables, a chat's whole reply, .gz of
    any, and folders of the library datasets. Shapes: {instruction, output} and relatives of Alpaca,
    chats of OpenAI and ShareGPT, preferences {prompt, chosen, rejected}, and rows of our own
    stages. Every mistake is told with file and line, and nothing is imported then, unless
    --skip-bad drops the wrong rows.

    With --served FILE is what an OpenAI-compatible server or proxy wrote down, a request with its
    answer a line (LiteLLM's logs too). Its rows become candidates: personal data goes by the
    filters' policy before anything is written, what the evaluation asks is kept out, and each line
    that gives no row is dropped with its reason.

    \b
    Examples:
      persona import rows.jsonl --persona datasets/gym-trainer
      persona import survey.xlsx --map instruction=질문 output=답변
      persona import --dry-run chats.json
      persona import --served requests.jsonl --round 2
    """
    # A shell hands the second pair of `--map a=b c=d` over as a file.
    pairs = [str(f) for f in files if str(f).split("=")[0] in COLUMNS and not f.exists()]
    paths = tuple(file for file in files if str(file) not in pairs) if maps else files
    columns = parse_map([*maps, *(pairs if maps else ())])
    if served and not paths:
        raise UserError("names no log", where="--served", fix="persona import --served LOG")
    context = context.importing(paths, columns, skip_bad=skip_bad, replace=replace, served=served)
    if dry_run:
        _print_preview(context)
        return
    run_one(context, "import", force)


def _print_preview(context: RoundContext) -> None:
    """Print what an import would read: formats, shapes, columns, counts, and three rows of it."""
    for path, imported in read_sources(context):
        columns = imported.columns
        used = ", ".join(f"{theirs} → {ours}" for theirs, ours in columns.used.items())
        table = Table(title=str(path), title_justify="left", show_header=False)
        table.add_row("format", ", ".join(dict.fromkeys(imported.formats)))
        table.add_row("shape", ", ".join(f"{n} {one}" for one, n in imported.shapes.items()))
        table.add_row("columns", used)
        table.add_row("passed over", ", ".join(columns.passed_over()))
        table.add_row("rows read", str(imported.rows))
        pairs = counted(len(imported.preferences), "pair")
        table.add_row("kept", f"{len(imported.examples)}, {pairs}")
        drops = Counter(drop.reason for drop in imported.dropped)
        table.add_row("dropped", ", ".join(f"{n} {reason}" for reason, n in drops.items()) or "0")
        output = Console(soft_wrap=True, highlight=False, markup=False)
        output.print(table)
        for record in (*imported.examples, *imported.preferences)[:3]:
            keep = {"prompt", "answer", "chosen", "rejected", "topic", "images", "source"}
            shown = record.model_dump(mode="json", include=keep, exclude_defaults=True)
            click.echo(json.dumps(shown, ensure_ascii=False, indent=2))
        for error in imported.mistakes:
            click.echo(f"dropped: {error.line()}")
    click.echo("dry run: nothing is written")


@click.command("prompt")
@round_options
@click.option("--count", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--topic", "topics", multiple=True, help="Only this topic; may be given repeatedly.")
def prompt(context: RoundContext, count: int, topics: tuple[str, ...]) -> None:
    """Print a prompt for any chat, in the persona's language, that brings COUNT rows of JSONL.

    Save the chat's whole reply as a file; `persona import` finds the rows in it, also in a code
    fence and amid prose. Chats cut long replies off, so better ask ten rows at a time.

    \b
    Examples:
      persona prompt --count 10 --topic squat_form
      persona import reply.txt
    """
    click.echo(prompt_for_rows(context, count=count, topics=topics))


@click.command("generate")
@round_options
@click.option("--plan", is_flag=True, help="Only tell requests, tokens and money; ask nothing.")
@click.option(
    "--budget",
    type=FiniteRange(min=0),
    help="Stop before more is spent in all, in the currency of the teacher's price; resumable.",
)
@click.option(
    "--min-share",
    type=FiniteRange(0, 1),
    help="Least share of the planned rows that must come; exit code 3 below it.  [default: 0.9]",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value=LOCAL,
    metavar="[ADDRESS]",
    help="Ask from a Ray cluster that this machine is a node of; without an address from one of"
    " its own, on this machine.",
)
@click.option("--force", is_flag=True, help="Do it again; only what failed is asked again.")
def generate(
    context: RoundContext,
    plan: bool,
    budget: float | None,
    min_share: float | None,
    ray: str | None,
    force: bool,
) -> None:
    """Ask the teacher for rows where one is configured, and the base for its baseline answers.

    Killed or stopped at any moment, the same command goes on, and no answer is paid for twice. At
    the budget it ends with the rows that were paid for.

    \b
    Exit codes:
      0  done, with enough of the planned rows
      2  a mistake to mend: endpoint, key, a budget that pays for no row; nothing is half written
      3  done, but fewer rows came than --min-share asks for

    \b
    Examples:
      persona generate --plan
      persona generate --budget 5.00 --min-share 0.95
      persona generate --ray 10.0.0.1:6379
    """
    context = context.with_settings("generate", budget=budget, min_share=min_share, ray=ray)
    if plan:
        _print_plan(context)
        return
    (outcome,) = run_stages(context, ["generate"], force=["generate"] if force else [])
    click.echo(context.round.stage("generate"))
    if print_too_few(context, outcome.manifest):
        click.get_current_context().exit(EXIT_TOO_FEW)


def print_too_few(context: RoundContext, manifest: Manifest) -> bool:
    """Return whether fewer of the planned rows came than are asked for, and say so in one line."""
    share, least = manifest.counts.get("share", 1.0), context.config.generate.min_share
    if share >= least:
        return False
    click.echo(
        f"persona: {share:.1%} of the planned rows came, {least:.1%} are asked for"
        f" — drops.jsonl says why; `{context.options.command('generate --force')}` asks again for"
        " what failed",
        err=True,
    )
    return True


def _print_plan(context: RoundContext) -> None:
    estimate = estimate_generation(context)
    baseline = f"baseline answers: {estimate.imported} of the imported rows"
    if estimate.teacher is None:
        click.echo(f"no teacher is configured: no new rows\n{baseline}")
        return
    for line in estimate.teacher.lines():
        click.echo(line)
    click.echo(f"{baseline}, and one for each new row")
    if estimate.may_exceed_budget:
        click.echo(
            f"the budget of {estimate.budget:.2f} may not be enough: it then stops, resumable"
        )


filter_ = stage_command(
    "filter", "Drop rows that a rule can tell are faulty, each with one named reason."
)
resolve = stage_command(
    "resolve", "Turn the reviews into a decision for every row, by the configured policy."
)


# The round is opened only where no files are named: those may be of any project.
@click.command("split")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--check", is_flag=True, help="Look for leaks instead of splitting.")
@click.option(
    "--split", "named", multiple=True, metavar="NAME=FILE", help="Say which split a file is of."
)
@click.option(
    "--similarity",
    type=FiniteRange(0, 1, min_open=True),
    help="Jaccard similarity from which two questions are related; that of the split by default.",
)
@click.option("--most", type=int, default=100, show_default=True, help="Pairs to print at most.")
@force_option
@round_params
def split(
    files: tuple[Path, ...],
    named: tuple[str, ...],
    check: bool,
    similarity: float | None,
    most: int,
    force: bool,
    round_number: int,
    **_: object,
) -> None:
    """Make train, validation and test: whole groups of related rows go to one split each.

    Related are rows of one topic (unless the configuration says ``split: {topics: spread}``), rows
    made of one another, and rows whose questions are near duplicates. A group keeps its split in
    later rounds; a new row that is related to rows in two splits is dropped as joins_two_splits. A
    row that asks in other words what a row of another split asks is dropped as asks_the_same.

    With --check nothing is split. It compares the FILES named, else all rounds of the persona with
    their evaluation prompts, prints every pair of related rows in two splits, and exits 1 if there
    is any. A file's split is read off its name (train, validation, test, ...) or given by --split.

    \b
    Examples:
      persona split --seed 1
      persona split --check
      persona split --check train.jsonl my-questions.jsonl --split test=my-questions.jsonl
    """
    if (files or named) and not check:
        where = str(files[0]) if files else "--split"
        raise UserError("files are compared, not split", where=where, fix="add --check")
    if files or named:
        _print_leaks(check_files(_with_splits(files, named), similarity), most)
        return
    context = reopen(round_number)
    if check:
        _print_leaks(check_rounds(context, similarity), most)
        return
    run_stages(context, ["split"], force=["split"] if force else [])
    _print_sizes(context)
    click.echo(context.round.stage("split"))


def _with_splits(files: Sequence[Path], named: Sequence[str]) -> list[tuple[Path, SplitName]]:
    splits: dict[Path, SplitName] = {}
    for text in named:
        name, _, path = text.partition("=")
        if not path:
            raise UserError(f"'{text}' names no file", where="--split", fix="such as train=FILE")
        splits[Path(path)] = named_split(name)
    paths = dict.fromkeys([*files, *splits])
    return [(existing(path, folder=True), splits.get(path) or split_of(path)) for path in paths]


def _print_leaks(check: LeakCheck, most: int) -> None:
    """Print the leaks and exit 1, or say in one line what was compared."""
    sizes = Counter(item.split for item in check.items)
    counts = ", ".join(f"{split} {sizes[split]}" for split in SPLITS)
    of = f" of {', '.join(check.rounds)}" if check.rounds else ""
    where = counted(check.files, "file") + of
    compared = f"{counted(len(check.items), 'row')} in {where} ({counts}),"
    compared += f" similarity {check.similarity:.2f}, meaning by {check.compared}"
    if not check.leaks:
        click.echo(f"no leak: {compared}")
        return
    title = f"Related rows in two splits: {counted(len(check.leaks), 'pair')}"
    table = Table(title=title, title_justify="left")
    for name in ("row", "split", "related to", "in split", "why"):
        table.add_column(name, overflow="fold")
    table.add_column("similarity", justify="right")
    for leak in check.leaks[:most]:
        one, other = leak.one, leak.other
        similarity = f"{leak.similarity:.2f}"
        table.add_row(one.where, one.split, other.where, other.split, leak.why, similarity)
    # As wide as its rows: a path is copied whole, in a narrow log too.
    width = max(80, *(2 * len(leak.one.where + leak.other.where) for leak in check.leaks[:most]))
    Console(width=width, highlight=False).print(table)
    if len(check.leaks) > most:
        click.echo(f"{len(check.leaks) - most} more pairs; --most shows more")
    click.echo(f"{counted(len(check.leaks), 'leak')}: {compared}")
    click.get_current_context().exit(1)


def _print_sizes(context: RoundContext) -> None:
    """Print how many rows and pairs of each topic are in each split."""
    sizes = split_sizes(context.round)
    table = Table(title="Rows by topic and split", title_justify="left")
    table.add_column("topic")
    for split in SPLITS:
        table.add_column(split, justify="right")
    for topic, counts in sizes.topics.items():
        name = context.persona.topic_name(topic) if topic else "(no topic)"
        table.add_row(name, *(str(counts.get(split) or "") for split in SPLITS))
    table.add_section()
    table.add_row("rows", *(str(sizes.rows[split]) for split in SPLITS))
    table.add_row("preference pairs", *(str(sizes.pairs[split]) for split in SPLITS))
    table.add_row("groups", *(str(sizes.groups[split]) for split in SPLITS))
    Console(soft_wrap=True).print(table)
    drops = context.round.read(SPLIT_DROPS)
    lines = (f"{drop.source or drop.record}: {drop.reason}, {drop.detail}" for drop in drops)
    for line in dict.fromkeys(lines):  # a row's pairs go with it, for the same reason
        click.echo(f"dropped {line}")


@click.command("push-dataset")
@round_options
@click.argument("repository", metavar="OWNER/NAME")
@click.option("--public", is_flag=True, help="Make the dataset public; private by default.")
def push_dataset(context: RoundContext, repository: str, public: bool) -> None:
    """Send the round's generated rows to the Hub as OWNER/NAME, with a card.

    The token is the one of `hf auth login`, or HF_TOKEN. It is never written anywhere.

    \b
    Example:
      persona push-dataset my-team/gym-trainer-rows
    """
    click.echo(models.push_dataset(context, repository, public=public))
