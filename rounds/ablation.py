"""A round trained again without a group of its rows, in a folder of its own inside the round."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from rounds.arms import own_arms
from rounds.comparison import columns_of, counted_traits
from rounds.context import RoundContext
from rounds.layout import MANIFEST, RoundFolder
from rounds.lineage.groups import Group, leave_out
from workbench.errors import UserError
from workbench.records import Example, Preference, Review
from workbench.store import read_records, write_json, write_records

if TYPE_CHECKING:
    from workbench.stats import Difference

FOLDER = ".without"
_LINKED = ("import", "generate", "filter", "review", "resolve")
_REVIEWS = ("review/reviews.jsonl", "review/adjudications.jsonl", "import/carry-over-reviews.jsonl")
_CACHE = ".evaluate.scratch"


class Without(BaseModel):
    """What a group of rows gave: the round's last arm minus the same one without the group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    arm: str
    rows_out: int
    rows_left: int
    pairs_out: int
    differences: dict[str, dict[str, Any]]
    """Metric → the paired difference, corrected for their number (Holm)."""


def without(context: RoundContext, group: Group) -> Without:
    """Train and evaluate a round again without a group: same recipes, same seed, same prompts.

    It can be stopped: the same call goes on where it was.

    Args:
        context: The round; it is trained and evaluated already.
        group: What is left out of training; held-out and validation rows stay.

    Raises:
        UserError: The round is not evaluated, or the group has no row or all of them.
    """
    from rounds.pipeline import run_stages

    arm = own_arms(replace(context, config=_unprompted(context)))[-1].name
    if not any(name == arm for name, _ in columns_of(context.round, None)):
        raise UserError(
            f"the arm '{arm}' has no scores in {context.round.name}",
            where=str(context.round.folder),
            fix="run it to its evaluation first",
        )
    split = context.round.stage("split")
    rows = list(read_records(split / "train.jsonl", Example))
    pairs = list(read_records(split / "preferences-train.jsonl", Preference))
    left = leave_out(group, rows, pairs, list(_reviews(context)), seed=context.config.seed)
    folder = context.round.folder / FOLDER / group.folder / context.round.name
    _prepare(context, folder)
    write_records(folder / "split/train.jsonl", left.rows)
    write_records(folder / "split/preferences-train.jsonl", left.pairs)
    scratch = replace(context, config=_unprompted(context), round=RoundFolder(folder))
    run_stages(scratch, [*context.config.train.methods, "evaluate"])
    found = Without(
        group=str(group),
        arm=arm,
        rows_out=left.rows_out,
        rows_left=len(left.rows),
        pairs_out=left.pairs_out,
        differences={
            metric: difference.model_dump(mode="json")
            for metric, difference in _differences(context, scratch.round, arm).items()
        },
    )
    write_json(folder.parent / "without.json", found.model_dump(mode="json"))
    return found


def _unprompted(context: RoundContext) -> Any:
    """Return the configuration with the base and the trained arms alone."""
    bare = context.config.evaluate.model_copy(update={"arms": (), "more": {}})
    config = context.config.model_copy(update={"evaluate": bare})
    names = [
        own.name for own in own_arms(replace(context, config=config)) if "+prompt" not in own.name
    ]
    return config.model_copy(update={"evaluate": bare.model_copy(update={"arms": tuple(names)})})


def _reviews(context: RoundContext) -> Iterator[Review]:
    for name in _REVIEWS:
        if (path := context.round.folder / name).exists():
            yield from read_records(path, Review)


def _prepare(context: RoundContext, folder: Path) -> None:
    """Make the folder: the round's other stages linked, its split and kept answers copied."""
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [
        path for path in context.round.folder.parent.glob("round-*") if path.name < folder.name
    ]
    links = {folder / name: context.round.stage(name) for name in _LINKED}
    # A recipe may go on from an earlier round's adapter, and the gate looks back at it.
    links |= {folder.parent / path.name: path for path in earlier}
    for link, target in links.items():
        if target.exists() and not link.exists():
            link.symlink_to(target.resolve(), target_is_directory=True)
    shutil.rmtree(folder / "split", ignore_errors=True)  # the round may have been split anew
    shutil.copytree(
        context.round.stage("split"), folder / "split", ignore=shutil.ignore_patterns(MANIFEST)
    )
    if (kept := context.round.folder / _CACHE).exists() and not (folder / _CACHE).exists():
        shutil.copytree(kept, folder / _CACHE)


def _differences(context: RoundContext, other: RoundFolder, arm: str) -> dict[str, Difference]:
    """Return metric → the round minus the other one, on the prompts of both; Holm over metrics."""
    from workbench.stats.exact import holm
    from workbench.stats.intervals import differences_of

    traits = counted_traits((context.round, other))
    own, theirs = columns_of(context.round, traits), columns_of(other, traits)
    samples = {
        metric: column.minus(theirs[name, metric])
        for (name, metric), column in own.items()
        if name == arm and (name, metric) in theirs
    }
    found = dict(
        zip(samples, differences_of(list(samples.values()), context.config.seed), strict=True)
    )
    tested = {metric: one.p for metric, one in found.items() if one and one.p is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        metric: one.model_copy(update={"p_adjusted": adjusted.get(metric)})
        for metric, one in found.items()
        if one
    }


def print_without(console: Console, found: Without, names: dict[str, str]) -> None:
    """Print what a group gave, and how far that can be said."""
    from workbench.stats import Difference

    table = Table(title=f"{found.arm} with {found.group} minus without it", title_justify="left")
    for name in ("metric", "prompts", "difference", "95 % interval", "said"):
        table.add_column(name, justify="left" if name in ("metric", "said") else "right")
    for metric, data in found.differences.items():
        one = Difference.model_validate(data)
        interval = "too few prompts" if one.low is None else f"{one.low:+.3f} to {one.high:+.3f}"
        said = ("gave" if one.mean > 0 else "cost") if one.is_sure else "not distinguishable"
        table.add_row(names.get(metric, metric), str(one.pairs), f"{one.mean:+.3f}", interval, said)
    console.print(table)
    console.print(
        f"Left out: {found.rows_out} rows and {found.pairs_out} pairs; {found.rows_left} rows were"
        " left. One training each, of the same recipes and seed: how far another seed would move"
        f" these is not in the intervals, and fewer rows alone move them too (--without"
        f" random={found.rows_out} shows by how much).",
        markup=False,
    )
