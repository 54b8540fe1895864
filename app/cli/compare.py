"""``persona compare``: what a change of data did, from one round to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import reopen, round_options
from rounds.context import RoundContext

if TYPE_CHECKING:
    from rounds.ablation import Ablation
    from rounds.comparison import RoundComparison
    from workbench.stats import Difference

_LISTED = 8


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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@round_options
def compare(
    context: RoundContext,
    before: int,
    after: int,
    metric: str,
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
      persona compare 1 2 --without topic=soreness
    """
    from rounds.ablation import ablate, as_made, parse_group
    from rounds.comparison import compare_rounds

    parsed = [parse_group(text) for text in groups]
    first, second = (context.round.numbered(number) for number in (before, after))
    comparison = compare_rounds(first, second, context.config.seed)
    ablations = [ablate(as_made(reopen(after)), group) for group in parsed]
    if as_json:
        data = comparison.model_dump(mode="json")
        data["without"] = [one.model_dump(mode="json") for one in ablations]
        click.echo(json.dumps(data, ensure_ascii=False, indent=1))
        return
    console = Console(soft_wrap=True, highlight=False)
    _print_rows(console, comparison)
    _print_recipes(console, comparison)
    _print_scores(console, comparison, metric)
    for ablation in ablations:
        _print_ablation(console, ablation, {one.id: one.name for one in context.persona.traits})


def _print_rows(console: Console, comparison: RoundComparison) -> None:
    old, new = comparison.rows
    console.print(f"[bold]Rows[/bold]: {old} in {comparison.before}, {new} after")
    lists: dict[str, list[str]] = {
        "added": [f"{one} {question}" for one, question in comparison.added.items()],
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


def _print_scores(console: Console, comparison: RoundComparison, metric: str) -> None:
    scores = [one for one in comparison.scores if one.metric == metric]
    if scores:
        title = f"{metric}: {comparison.after} minus {comparison.before}"
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
        f"Left out: {ablation.rows_out} rows and {ablation.pairs_out} pairs; {ablation.rows_left}"
        " rows were left. One training each, of the same recipes and seed: how far another seed"
        " would move these is not in the intervals, and fewer rows alone move them too (--without"
        f" random={ablation.rows_out} shows by how much).",
        markup=False,
    )


def _interval(one: Difference) -> str:
    return "too few prompts" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
