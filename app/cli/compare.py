"""``persona compare``: what a change of data did, from one round to another."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from app.cli.options import round_options
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from workbench.errors import UserError

if TYPE_CHECKING:
    from rounds.lineage.rounds_diff import RoundsDiff

_SHOWN = 8


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
    from app.cli.reopen import as_made, reopen
    from rounds.ablation import print_without, without
    from rounds.comparison import evaluated_otherwise, score_differences
    from rounds.lineage.groups import parse_group
    from rounds.lineage.rounds_diff import diff_rounds

    asked = [parse_group(text) for text in groups]
    rounds = _round(context, before), _round(context, after)
    found = diff_rounds(*rounds)
    scores = score_differences(*rounds, context.config.seed)
    otherwise = evaluated_otherwise(*rounds)
    left_out = [without(as_made(reopen(after)), group) for group in asked]
    if as_json:
        said = found.model_dump(mode="json") | {
            "scores": [
                {"arm": arm, "metric": name, **difference.model_dump(mode="json")}
                for (arm, name), difference in scores.items()
            ],
            "evaluated_otherwise": otherwise,
            "without": [one.model_dump(mode="json") for one in left_out],
        }
        click.echo(json.dumps(said, ensure_ascii=False, indent=1))
        return
    console = Console(soft_wrap=True, highlight=False)
    _print_rows(console, found)
    _print_recipes(console, found)
    _print_scores(console, found, scores, metric)
    if scores and otherwise:
        told = ", ".join(otherwise)
        console.print(f"Evaluated otherwise ({told}): the difference may come of that as well.")
    for one in left_out:
        print_without(console, one, {trait.id: trait.name for trait in context.persona.traits})


def _round(context: RoundContext, number: int) -> RoundFolder:
    found = RoundFolder(context.round.folder.parent / f"round-{number:03d}")
    if not found.folder.is_dir():
        there = sorted(path.name for path in found.folder.parent.glob("round-*"))
        fix = f"there are {', '.join(there)}" if there else "`persona run` makes the first"
        raise UserError(f"there is no round {number}", where=str(found.folder), fix=fix)
    return found


def _print_rows(console: Console, found: RoundsDiff) -> None:
    console.print(f"[bold]Rows[/bold]: {found.rows[0]} in {found.before}, {found.rows[1]} after")
    listed: dict[str, list[str]] = {
        "added": [f"{one} {question}" for one, question in found.added.items()],
        "dropped": [f"{one}: {reason}" for one, reason in found.dropped.items()],
        "edited": [f"{edit.before} → {edit.after} {edit.question}" for edit in found.edited],
        "relabelled": [f"{m.id}: {m.before} → {m.after}" for m in found.relabelled],
        "moved to another side": [f"{m.id}: {m.before} → {m.after}" for m in found.moved],
    }
    for name, lines in listed.items():
        console.print(f"  {len(lines)} {name}")
        for line in lines[:_SHOWN]:
            console.print(f"    {line}", markup=False)
        if len(lines) > _SHOWN:
            console.print(f"    and {len(lines) - _SHOWN} more (--json lists all)")


def _print_recipes(console: Console, found: RoundsDiff) -> None:
    if not found.recipes:
        console.print("[bold]Recipes[/bold]: the same")
        return
    console.print("[bold]Recipes[/bold]")
    for method, keys in found.recipes.items():
        for key, (old, new) in keys.items():
            said = " → ".join("not said" if value is None else str(value) for value in (old, new))
            console.print(f"  {method} {key}: {said}", markup=False)


def _print_scores(
    console: Console, found: RoundsDiff, scores: dict[tuple[str, str], Any], metric: str
) -> None:
    known = sorted({name for _, name in scores})
    chosen = {arm: difference for (arm, name), difference in scores.items() if name == metric}
    if not chosen:
        why = f"of {metric}; there are {', '.join(known)}" if known else "that both rounds have"
        console.print(f"[bold]Scores[/bold]: none {why}")
        return
    table = Table(title=f"{metric}: {found.after} minus {found.before}", title_justify="left")
    for name in ("arm", "prompts of both", "difference", "95 % interval"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm, one in chosen.items():
        interval = "too few prompts" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
        table.add_row(arm, str(one.pairs), f"{one.mean:+.3f}", interval)
    console.print(table)
    changed = bool(found.added or found.dropped or found.edited)
    if changed and found.recipes:
        console.print("Rows and recipe both changed: the difference cannot be put down to one.")
