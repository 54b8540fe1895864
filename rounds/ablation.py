"""Ablation: a round trained again without a group of its rows, to see what they gave.

In: a trained and evaluated round, and a group such as ``topic=soreness``. Out: an
:class:`Ablation`; the training and its evaluation lie in a folder of their own inside the round.
``persona compare --without`` prints it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

from rounds import layout
from rounds.arms import own_arms
from rounds.comparison import columns_of, counted_traits
from rounds.context import RoundContext
from rounds.layout import RoundFolder, write
from rounds.pipeline import run_stages
from workbench.config import load_config
from workbench.errors import UserError, nearest
from workbench.records import Example, Preference, Review, Row
from workbench.stats import Difference
from workbench.stats.comparison import differences_of
from workbench.stats.significance import holm_within
from workbench.store import write_json
from workbench.values import Frozen

FOLDER = ".ablation"
_LINKED = layout.STAGES[: layout.STAGES.index("split")]
"""Stages whose results are the same without the group."""
Kind = Literal["topic", "origin", "source", "reviewer", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)
R = TypeVar("R", bound=Row)


class Ablation(Frozen):
    """What a group of rows gave: the round's last arm minus the same one without the group."""

    group: str
    arm: str
    rows_out: int
    rows_left: int
    pairs_out: int
    differences: dict[str, Difference]
    """Metric → the paired difference, corrected for their number (Holm)."""


@dataclass(frozen=True)
class Group:
    """Rows that have something in common."""

    kind: Kind
    """What they have in common; ``random`` is so many rows drawn at random, to hold the effect of
    any other group against."""
    name: str
    """Which topic, origin, source or reviewer; the number of random rows."""

    def __str__(self) -> str:
        return f"{self.kind}={self.name}"

    @property
    def folder(self) -> str:
        """Name of a folder for it."""
        safe = "".join(one if one.isalnum() or one in "-_." else "_" for one in self.name)
        return f"{self.kind}-{safe}"


def ablate(context: RoundContext, group: Group) -> Ablation:
    """Train and evaluate a round again without a group: same recipes, same seed, same prompts.

    It can be stopped: the same call goes on where it was. ``context`` is the round as it was made
    (:func:`as_made`), trained and evaluated; held-out and validation rows stay.

    Raises:
        UserError: The round is not evaluated, or the group has no row or all of them.
    """
    one = context.round
    plain = unprompted(context)
    arm = own_arms(plain)[-1].name
    if not any(name == arm for name, _ in columns_of(one, None)):
        fix = "run it to its evaluation first"
        what = f"the arm '{arm}' has no scores in {one.name}"
        raise UserError(what, where=str(one.folder), fix=fix)
    reviews = [
        review
        for artifact in (layout.REVIEWS, layout.ADJUDICATIONS, layout.CARRY_OVER_REVIEWS)
        for review in one.read_if_there(artifact)
    ]
    train, preferences = one.read(layout.TRAIN), one.read(layout.PREFERENCES["train"])
    rows, pairs = leave_out(group, train, preferences, reviews, seed=context.config.seed)
    scratch = RoundFolder(one.folder / FOLDER / group.folder / one.name)
    prepare_again(one, scratch)
    write(scratch.stage("split"), layout.TRAIN, rows)
    write(scratch.stage("split"), layout.PREFERENCES["train"], pairs)
    run_stages(replace(plain, round=scratch), [*context.config.train.methods, "evaluate"])
    ablation = Ablation(
        group=str(group),
        arm=arm,
        rows_out=len(train) - len(rows),
        rows_left=len(rows),
        pairs_out=len(preferences) - len(pairs),
        differences=_differences(one, scratch, arm, context.config.seed),
    )
    write_json(scratch.folder.parent / "ablation.json", ablation.model_dump(mode="json"))
    return ablation


def as_made(context: RoundContext) -> RoundContext:
    """Return the context with the configuration that its round was made with.

    A round that wrote none stays as it is.

    Raises:
        UserError: That configuration is broken.
    """
    saved = context.round.folder / layout.CONFIG
    if not saved.exists():
        return context
    return replace(context, config=load_config(saved, {"persona": context.config.persona}))


def unprompted(context: RoundContext, **evaluate_settings: object) -> RoundContext:
    """Return the context with the base and the trained arms alone, evaluated with the settings."""

    def evaluating(arms: Sequence[str]) -> RoundContext:
        changes = {"arms": tuple(arms), "more": {}, "robustness": "off", **evaluate_settings}
        return context.with_settings("evaluate", **changes)

    return evaluating([own.name for own in own_arms(evaluating(())) if not own.prompted])


def prepare_again(one: RoundFolder, scratch: RoundFolder) -> None:
    """Make the folder: the round's other stages linked, its split and paid answers copied."""
    scratch.folder.mkdir(parents=True, exist_ok=True)
    links = {scratch.stage(name): one.stage(name) for name in _LINKED}
    # A recipe may go on from an earlier round's adapter, and the gate looks back at it.
    links |= {scratch.sibling(other.name).folder: other.folder for other in one.earlier}
    for link, target in links.items():
        if target.exists() and not link.exists():
            link.symlink_to(target.resolve(), target_is_directory=True)
    split = scratch.stage("split")
    shutil.rmtree(split, ignore_errors=True)  # the round may have been split anew
    shutil.copytree(one.stage("split"), split, ignore=shutil.ignore_patterns(layout.MANIFEST))
    answers, copied = one.scratch("evaluate"), scratch.scratch("evaluate")
    if answers.exists() and not copied.exists():
        shutil.copytree(answers, copied)


def _differences(
    one: RoundFolder, other: RoundFolder, arm: str, seed: int
) -> dict[str, Difference]:
    """Return metric → the round minus the other one, on the prompts of both; Holm over metrics."""
    traits = counted_traits((one, other))
    own, theirs = columns_of(one, traits), columns_of(other, traits)
    samples = {
        metric: column.minus(theirs[name, metric])
        for (name, metric), column in own.items()
        if name == arm and (name, metric) in theirs
    }
    differences = dict(zip(samples, differences_of(list(samples.values()), seed), strict=True))
    adjusted = holm_within({metric: one.p for metric, one in differences.items() if one})
    return {
        metric: one.model_copy(update={"p_adjusted": adjusted.get(metric)})
        for metric, one in differences.items()
        if one
    }


def parse_group(text: str) -> Group:
    """Return the group that a text such as ``topic=soreness`` names.

    Raises:
        UserError: It names none.
    """
    kind, _, name = text.partition("=")
    if kind not in KINDS or not name or (kind == "random" and not name.isdecimal()):
        raise UserError(
            f"'{text}' names no group of rows",
            where="--without",
            fix=(kind not in KINDS and nearest(kind, KINDS))
            or "such as topic=soreness, origin=teacher, source=seeds.jsonl,"
            " reviewer=reviewer-1, or random=12 to compare with",
        )
    return Group(kind, name)


def leave_out(
    group: Group,
    rows: Sequence[Example],
    pairs: Sequence[Preference],
    reviews: Sequence[Review],
    *,
    seed: int = 0,
) -> tuple[list[Example], list[Preference]]:
    """Return the rows and pairs of the training split without a group.

    A reviewer's rows are those that stand on their word alone: all reviews among a row's parents
    are theirs, or its answer is their correction. A pair goes with the rows of its question.
    ``reviews`` are those of the round and those taken over from earlier ones.

    Raises:
        UserError: No row is in the group, or none is outside of it.
    """
    out = {row.id for row in _members(group, rows, reviews, seed)}
    asked = {row.prompt for row in rows if row.id in out}
    own = _alike(group, pairs) if group.kind in ("topic", "source") else []
    pairs_out = {pair.id for pair in own}
    pairs_left = [
        pair
        for pair in pairs
        if pair.id not in pairs_out and pair.prompt not in asked and out.isdisjoint(pair.parents)
    ]
    rows_left = [row for row in rows if row.id not in out]
    if len(rows_left) == len(rows) or not rows_left:
        what = "all rows of training are" if not rows_left else "no row of training is"
        raise UserError(
            f"{what} in the group {group}", where="--without", fix=_known(group, rows, reviews)
        )
    return rows_left, pairs_left


def _members(
    group: Group, rows: Sequence[Example], reviews: Sequence[Review], seed: int
) -> list[Example]:
    if group.kind == "random":
        count = min(int(group.name), len(rows))
        return random.Random(f"without:{seed}").sample(list(rows), count)
    if group.kind != "reviewer":
        return _alike(group, rows)
    submitted = {review.id: review for review in reviews if review.status == "submitted"}
    return [row for row in rows if _stands_on(row, group.name, submitted)]


def _stands_on(row: Example, reviewer: str, reviews: Mapping[str, Review]) -> bool:
    """Return whether a row stands on one reviewer's word alone."""
    about = [reviews[one] for one in row.parents if one in reviews]
    alone = bool(about) and all(review.reviewer == reviewer for review in about)
    return alone or any(
        review.reviewer == reviewer
        and str(review.answers.get("corrected") or "").strip() == row.answer.strip()
        for review in about
    )


def _alike(group: Group, rows: Sequence[R]) -> list[R]:
    if group.kind == "source":
        return [row for row in rows if group.name in (row.source, row.source.rsplit(":", 1)[0])]
    return [row for row in rows if getattr(row, group.kind) == group.name]


def _known(group: Group, rows: Sequence[Example], reviews: Collection[Review]) -> str:
    every: dict[str, set[str]] = {
        "topic": {row.topic for row in rows},
        "origin": {str(row.origin) for row in rows},
        "source": {row.source.rsplit(":", 1)[0] for row in rows},
        "reviewer": {review.reviewer for review in reviews},
        "random": {f"1 to {len(rows) - 1}"},
    }
    names = sorted(filter(None, every[group.kind]))
    return f"there are {', '.join(names)}"
