"""``persona compare``: what a change of data did, from one round to another."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from workbench.cli.job import Job, round_options
from workbench.errors import UserError
from workbench.records import Example, Response, Score
from workbench.rounds import Round
from workbench.store import read_records

if TYPE_CHECKING:
    from evaluation.statistics import Difference
    from workbench.lineage.rounds_diff import RoundsDiff

_SHOWN = 8
Values = dict[tuple[str, str], dict[str, float]]
"""(arm, metric) → prompt as text → value."""


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
    job: Job, before: int, after: int, metric: str, groups: tuple[str, ...], as_json: bool
) -> None:
    """Compare two rounds: their rows, their recipes, and each arm on the prompts that both asked.

    A difference of scores is the second round minus the first, paired by prompt, with a 95 %
    bootstrap interval. What caused it is not known from this alone where rows and recipe both
    changed, and that is said.

    \b
    Examples:
      persona compare 1 2
      persona compare 1 2 --without topic=soreness
    """
    from workbench.cli.reopen import reopen
    from workbench.cli.without import print_without, without
    from workbench.lineage.groups import parse_group
    from workbench.lineage.rounds_diff import diff_rounds

    asked = [parse_group(text) for text in groups]
    rounds = _round(job, before), _round(job, after)
    found = diff_rounds(*rounds)
    scores = _score_differences(*rounds, job.config.seed)
    left_out = [without(reopen(after), group) for group in asked]
    if as_json:
        said = found.model_dump(mode="json") | {
            "scores": [
                {"arm": arm, "metric": name, **difference.model_dump(mode="json")}
                for (arm, name), difference in scores.items()
            ],
            "without": [one.model_dump(mode="json") for one in left_out],
        }
        click.echo(json.dumps(said, ensure_ascii=False, indent=1))
        return
    console = Console(soft_wrap=True, highlight=False)
    _print_rows(console, found)
    _print_recipes(console, found)
    _print_scores(console, found, scores, metric)
    for one in left_out:
        print_without(console, one, {trait.id: trait.name for trait in job.persona.traits})


def _round(job: Job, number: int) -> Round:
    found = Round(job.round.folder.parent / f"round-{number:03d}")
    if not found.folder.is_dir():
        there = sorted(path.name for path in found.folder.parent.glob("round-*"))
        fix = f"there are {', '.join(there)}" if there else "`persona run` makes the first"
        raise UserError(f"there is no round {number}", where=str(found.folder), fix=fix)
    return found


def _score_differences(a: Round, b: Round, seed: int) -> dict[tuple[str, str], Difference]:
    """Return (arm, metric) → difference on the prompts that both rounds asked of that arm."""
    from evaluation.statistics import paired_difference

    old, new = values_of(a), values_of(b)
    found = {}
    for key, column in new.items():
        pairs = [
            (value, old[key][prompt])
            for prompt, value in column.items()
            if prompt in old.get(key, ())
        ]
        difference = paired_difference(pairs, seed) if pairs else None
        if difference:
            found[key] = difference
    return found


def values_of(round_: Round) -> Values:
    """Return the scores of a round's held-out prompts; none where it is not evaluated."""
    folder = round_.stage("evaluate")
    if not (folder / "scores.jsonl").exists():
        return {}
    return values_by_prompt(
        read_records(folder / "responses.jsonl", Response),
        read_records(folder / "scores.jsonl", Score),
    )


def values_by_prompt(responses: Iterable[Response], scores: Iterable[Score]) -> Values:
    """Return scores of held-out prompts by what was asked: an edited row keeps its prompt."""
    asked = {response.id: asked_text(response) for response in responses if not response.probe}
    found: Values = defaultdict(dict)
    for score in scores:
        if score.value is not None and score.response in asked:
            found[score.arm, score.metric][asked[score.response]] = score.value
    return dict(found)


def asked_text(row: Response | Example) -> str:
    """Return a prompt as text."""
    return "\n".join(message.content for message in row.prompt)


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
            console.print(f"  {method} {key}: {old} → {new}", markup=False)


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
