"""The commands of whole rounds: run one, watch it, plan the next, compare two."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.cli.data import EXIT_TOO_FEW, print_too_few
from app.cli.models import exit_on_failures
from app.cli.options import (
    FiniteRange,
    overlap_option,
    reopen,
    result_of,
    robustness_option,
    round_options,
    safety_option,
)
from app.cli.review_tables import progress_table
from generation.live_rows import LiveRow, RowCounts
from rounds.ablation import Ablation, ablate, as_made, parse_group
from rounds.comparison import RoundComparison, compare_rounds
from rounds.context import RoundContext
from rounds.foretelling import foretold_lines
from rounds.pipeline import stages_until
from rounds.planning.next_round import PAGE, last_evaluated, plan_next_round
from rounds.planning.page import render_page
from rounds.runner import Outcome
from rounds.stages.review import with_overlap
from rounds.status import RoundStatus, StageStatus, main_counts, round_status, rows_now
from rounds.training_seeds import run_with_seeds
from workbench.console import OLD, PublishedProgress, in_words
from workbench.errors import UserError
from workbench.stats import Difference
from workbench.text import counted

EVERY = 2.0
"""Seconds between two looks at a running round."""
_LAST_ROWS = 5
"""Rows that are printed of those that came before."""
_IDLE = 2
"""Looks at a round that nobody runs after which the run has ended: seeds are run one by one."""
_LISTED = 8
"""Rows of each kind of change that are printed."""


@click.command()
@round_options
@click.option("--force", multiple=True, metavar="STAGE", help="Do this stage again.")
@click.option(
    "--wait-for-people",
    is_flag=True,
    help="Stop for review: print address and logins, go on when enough is reviewed.",
)
@overlap_option
@robustness_option
@safety_option
@click.option("--until", metavar="STAGE", help="Stop after this stage.")
@click.option(
    "--seeds",
    type=click.IntRange(1, 20),
    help="Train with so many seeds; the verdict's interval then holds seeds and topics.",
)
def run(
    context: RoundContext,
    force: tuple[str, ...],
    wait_for_people: bool,
    reviewers_per_record: int | None,
    robustness: bool,
    safety: bool,
    until: str | None,
    seeds: int | None,
) -> None:
    """Run every stage in order; what is done already is not done again.

    \b
    Examples:
      persona run
      persona run --persona datasets/gym-trainer-ko --seed 1
      persona run --force sft
      persona run --until split
      persona run --seeds 3
      persona run --wait-for-people --reviewers-per-record 2
    """
    context = context.evaluating({}, robustness=robustness, safety=safety)
    context = context.with_settings("review", people=wait_for_people or None)
    context = with_overlap(context, reviewers_per_record).with_settings("train", seeds=seeds)
    names = stages_until(until, context.config.train.methods)
    outcomes = run_with_seeds(context, names, force=force)
    last = outcomes[-1].stage
    _print_summary(outcomes, "Report" if last == "report" else "Files", result_of(context, last))
    short = [print_too_few(context, one.manifest) for one in outcomes if one.stage == "generate"]
    for outcome in outcomes:
        exit_on_failures(context, outcome.manifest)
    if any(short):
        click.get_current_context().exit(EXIT_TOO_FEW)


def _print_summary(outcomes: list[Outcome], label: str, result: Path) -> None:
    """Print the closing table of stages, and where the result lies."""
    table = Table(title="Stages", title_justify="left")
    for name in ("stage", "state", "time (s)", "peak memory (MiB)"):
        table.add_column(name, justify="left" if name in ("stage", "state") else "right")
    for outcome in outcomes:
        manifest = outcome.manifest
        state = "done" if outcome.ran else "was done"
        table.add_row(outcome.stage, state, f"{manifest.seconds:.1f}", f"{manifest.peak_mib}")
    ran = [outcome.manifest for outcome in outcomes if outcome.ran]
    table.add_section()
    table.add_row(
        "all",
        f"{len(ran)} of {len(outcomes)} run now",
        f"{sum(manifest.seconds for manifest in ran):.1f}",
        f"{max((manifest.peak_mib for manifest in ran), default=0)}",
    )
    console = Console(soft_wrap=True)
    console.print(table)
    for line in foretold_lines(outcomes):
        console.print(line, highlight=False)
    console.print(f"{label}: {result}", highlight=False)


@click.command()
@click.option("--once", is_flag=True, help="Print the state once, and end.")
@click.option("--rows", is_flag=True, help="Show the generated rows as they come.")
@round_options
def watch(context: RoundContext, once: bool, rows: bool) -> None:
    """Show a round while it runs: stages, what the running one does, reviewers, losses, cost.

    It only reads: it may be started and stopped at any time. It ends when the run has, and names
    the report. With --rows it shows what the teacher writes, the share of each kind, and why rows
    were dropped.

    \b
    Example:
      persona watch
      persona watch --rows --once
    """
    context.round.check_there()
    console = Console(soft_wrap=True, highlight=False)
    status = round_status(context)
    if rows:
        _watch_rows(context, console, once or not console.is_terminal)
        return
    if once or not console.is_terminal:
        console.print(_status(status))
    else:
        with Live(_status(status), console=console, refresh_per_second=1) as live:
            for now in _looks(context, status):
                live.update(_status(now))
                status = now
    if status.report:
        console.print(f"Report: {status.report}", markup=False)


def _watch_rows(context: RoundContext, console: Console, once: bool) -> None:
    """Print the rows that came, then those that come, then their counts."""
    rows = rows_now(context)
    for row in rows[-_LAST_ROWS:]:
        console.print(_row_text(row))
    status = round_status(context, review=False)
    for now in () if once else _looks(context, status):
        generating = any(one.stage == "generate" and one.begun for one in now.stages)
        # A stage that is done counts by what it kept, not by what came.
        if len(newer := rows_now(context)) < len(rows) or not generating:
            break
        for row in newer[len(rows) :]:
            console.print(_row_text(row))
        rows = newer
    for line in RowCounts.of(rows_now(context)).lines():
        console.print(line, markup=False)


def _row_text(row: LiveRow) -> Text:
    """Return a row for people to read: what was asked and answered, or why it was dropped."""
    text = Text(" / ".join(filter(None, (row.kind, row.topic, row.teacher))), style="dim")
    if row.question:
        text.append(f"\n  ? {row.question}", style="not dim")
    if row.answer:
        text.append(f"\n  = {row.answer}", style="not dim bold")
    if row.dropped:
        text.append(f"\n  dropped: {row.dropped}", style="not dim")
    return text


def _looks(context: RoundContext, status: RoundStatus) -> Iterator[RoundStatus]:
    """Yield the state until a run that was seen has ended, or all is done."""
    seen, idle = status.is_running, 0
    while idle < _IDLE and not (status.report and not status.is_running):
        time.sleep(EVERY)
        # A stage that ends between two reads takes its files away: look again then.
        with suppress(FileNotFoundError):
            status = round_status(context)
            yield status
        seen |= status.is_running
        idle = idle + 1 if seen and not status.is_running else 0


def _status(status: RoundStatus) -> RenderableType:
    table = Table(title=f"{status.persona}: {status.folder}", title_justify="left")
    for name in ("stage", "state", "time (s)", "peak (MiB)", "what came out"):
        table.add_column(name, justify="right" if "(" in name else "left")
    for one in status.stages:
        table.add_row(*_stage_cells(one))
    if isinstance(status.review, UserError):
        return Group(table, f"reviewers: {status.review}")
    return Group(table, progress_table(status.review, "complete")) if status.review else table


def _stage_cells(one: StageStatus) -> tuple[str, ...]:
    if one.begun:
        doing = "begun; nothing is tracked now" if one.progress is None else _doing(one.progress)
        return f"[bold]{one.stage}[/bold]", doing, "", "", ""
    if one.manifest is None:
        return one.stage, "to do", "", "", ""
    done = one.manifest
    return one.stage, "done", f"{done.seconds:.0f}", str(done.peak_mib), _counts(done.counts)


def _doing(progress: PublishedProgress) -> str:
    """Return what a begun stage does now, in one line."""
    text = f"{progress.label}: {progress.done}"
    if progress.total:
        text += f"/{progress.total}, {in_words(progress.seconds)}"
    if progress.seconds_left is not None:
        text += f", about {in_words(progress.seconds_left)} left"
    text = f"{text} {progress.note}".strip()
    if progress.gpu_mib is not None:
        text += f", {progress.gpu_mib:.0f} MiB on the GPU"
    return f"{text}; silent for {in_words(progress.silent)}" if progress.silent > OLD else text


def _counts(counts: Mapping[str, object]) -> str:
    """Return the counts that a person asks after: rows, losses, cost."""
    parts = [f"{name} {value}" for name, value in main_counts(counts).items()]
    if "loss_first" in counts:
        parts.append(f"loss {counts['loss_first']:.2f} → {counts['loss_last']:.2f}")
    if counts.get("currency"):
        parts.append(f"{counts['spent']} {counts['currency']}")
    return ", ".join(parts)


@click.command("next")
@click.option(
    "--rows", type=click.IntRange(min=1), help="New rows to plan.  [default: as many as per_topic]"
)
@click.option(
    "--budget",
    type=FiniteRange(min=0),
    help="Plan no more than this pays for, in the currency of the teacher's price.",
)
@click.option(
    "--curve",
    is_flag=True,
    help="Train on parts of the rows, and foretell what twice the rows would gain.",
)
@click.option(
    "--quick", is_flag=True, help="Leave out the rows' losses: no model is loaded for them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the page.")
@round_options
def next_(
    context: RoundContext,
    rows: int | None,
    budget: float | None,
    curve: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Open the next round from the last evaluated one, or from --round.

    Writes config.yaml, next.json and next.md into the new round's folder: where the tuned model is
    weak, which rows need another look, and what to ask a teacher or people for. `persona run` with
    the new round's number then makes it.

    \b
    Examples:
      persona next
      persona next --round 2 --budget 5.00
      persona next --curve
    """
    if click.get_current_context().get_parameter_source("round_number") is ParameterSource.DEFAULT:
        context = reopen(last_evaluated(context.round).number)
    opened, proposal = plan_next_round(
        context, rows=rows, budget=budget, curve=curve, losses=not quick
    )
    if as_json:
        click.echo(proposal.model_dump_json(indent=1))
        return
    click.echo(render_page(context.persona, proposal))
    click.echo(opened.folder / PAGE)


@click.command()
@click.argument("before", type=click.IntRange(min=1), metavar="ROUND")
@click.argument("after", type=click.IntRange(min=1), metavar="ROUND")
@click.option("--metric", default="fidelity", show_default=True, help="Which score is compared.")
@click.option(
    "--without",
    "groups",
    multiple=True,
    metavar="GROUP",
    help="Train the second round again without these rows, to see what they gave:"
    " topic=…, origin=…, source=…, reviewer=…, or random=NUMBER to compare with.",
)
@click.option(
    "--arms",
    nargs=2,
    metavar="FIRST SECOND",
    help="Hold an arm of the first round against one of the second, which may be the same round.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@round_options
def compare(
    context: RoundContext,
    before: int,
    after: int,
    metric: str,
    arms: tuple[str, str] | None,
    groups: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare two rounds: their rows, their recipes, and each arm on the prompts that both asked.

    A difference of scores is the second round minus the first, paired by prompt, with a 95 %
    bootstrap interval; several seeds of a prompt are averaged, and fidelity is made of the traits
    that count in both rounds. What caused it is not known from this alone where rows and recipe
    both changed, and that is said.

    \b
    Examples:
      persona compare 1 2
      persona compare 1 1 --arms sft sft+dpo
      persona compare 1 2 --without topic=soreness
    """
    parsed = [parse_group(text) for text in groups]
    first, second = (context.round.numbered(number) for number in (before, after))
    comparison = compare_rounds(first, second, context.config.seed, arms)
    ablations = [ablate(as_made(reopen(after)), group) for group in parsed]
    if as_json:
        data = comparison.model_dump(mode="json")
        data["without"] = [one.model_dump(mode="json") for one in ablations]
        click.echo(json.dumps(data, ensure_ascii=False, indent=1))
        return
    console = Console(soft_wrap=True, highlight=False)
    _print_rows(console, comparison)
    _print_recipes(console, comparison)
    _print_scores(console, comparison, metric, arms)
    for ablation in ablations:
        _print_ablation(console, ablation, {one.id: one.name for one in context.persona.traits})


def _print_rows(console: Console, comparison: RoundComparison) -> None:
    old, new = comparison.rows
    console.print(f"[bold]Rows[/bold]: {old} in {comparison.before}, {new} after")
    lists: dict[str, list[str]] = {
        "added": [f"{one} {question}" for one, question in comparison.added.items()],
        "added and left out": [f"{one}: {why}" for one, why in comparison.left_out.items()],
        "dropped": [f"{one}: {reason}" for one, reason in comparison.dropped.items()],
        "edited": [f"{edit.before} → {edit.after} {edit.question}" for edit in comparison.edited],
        "relabelled": [f"{m.id}: {m.before} → {m.after}" for m in comparison.relabelled],
        "moved to another split": [f"{m.id}: {m.before} → {m.after}" for m in comparison.moved],
    }
    for name, lines in lists.items():
        console.print(f"  {len(lines)} {name}")
        for line in lines[:_LISTED]:
            console.print(f"    {line}", markup=False)
        if len(lines) > _LISTED:
            console.print(f"    and {len(lines) - _LISTED} more (--json lists all)")


def _print_recipes(console: Console, comparison: RoundComparison) -> None:
    if not comparison.recipes:
        console.print("[bold]Recipes[/bold]: the same")
        return
    console.print("[bold]Recipes[/bold]")
    for method, keys in comparison.recipes.items():
        for key, values in keys.items():
            change = " → ".join("not set" if value is None else str(value) for value in values)
            console.print(f"  {method} {key}: {change}", markup=False)


def _print_scores(
    console: Console, comparison: RoundComparison, metric: str, arms: tuple[str, str] | None
) -> None:
    scores = [one for one in comparison.scores if one.metric == metric]
    if scores:
        title = f"{metric}: {comparison.after} minus {comparison.before}"
        if arms:
            title = f"{metric}: {comparison.after}/{arms[1]} minus {comparison.before}/{arms[0]}"
        table = Table(title=title, title_justify="left")
        for name in ("arm", "prompts of both", "difference", "95 % interval"):
            table.add_column(name, justify="left" if name == "arm" else "right")
        for one in scores:
            table.add_row(one.arm, str(one.pairs), f"{one.mean:+.3f}", _interval(one))
        console.print(table)
        if comparison.has_two_causes:
            console.print("Rows and recipe both changed: the difference cannot be put down to one.")
    else:
        known = ", ".join(sorted({one.metric for one in comparison.scores}))
        why = f"of {metric}; there are {known}" if known else "that both rounds have"
        console.print(f"[bold]Scores[/bold]: none {why}")
    if comparison.scores and comparison.evaluated_otherwise:
        what = ", ".join(comparison.evaluated_otherwise)
        console.print(f"Evaluated otherwise ({what}): the difference may come of that as well.")


def _print_ablation(console: Console, ablation: Ablation, names: dict[str, str]) -> None:
    """Print what a group gave, and how far that can be said."""
    title = f"{ablation.arm} with {ablation.group} minus without it"
    table = Table(title=title, title_justify="left")
    for name in ("metric", "prompts", "difference", "95 % interval", "effect"):
        table.add_column(name, justify="left" if name in ("metric", "effect") else "right")
    for metric, one in ablation.differences.items():
        effect = ("gave" if one.mean > 0 else "cost") if one.is_sure else "not distinguishable"
        cells = (str(one.pairs), f"{one.mean:+.3f}", _interval(one), effect)
        table.add_row(names.get(metric, metric), *cells)
    console.print(table)
    console.print(
        f"Left out: {counted(ablation.rows_out, 'row')} and"
        f" {counted(ablation.pairs_out, 'pair')}; {ablation.rows_left}"
        " rows were left. One training each, of the same recipes and seed: how far another seed"
        " would move these is not in the intervals, and fewer rows alone move them too (--without"
        f" random={ablation.rows_out} shows by how much).",
        markup=False,
    )


def _interval(one: Difference) -> str:
    return "too few prompts" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
