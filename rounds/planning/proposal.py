"""The proposal for the next round, and the folder that it is opened in."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from evaluation.learning_curve import LearningCurve
from evaluation.weakness import Gap
from rounds.context import RoundContext
from rounds.layout import CONFIG, MANIFEST, RoundFolder
from rounds.planning.disputed_rows import Disputed, disputed
from rounds.planning.learning_curve import check_curve, curve_of
from rounds.planning.requests import plan_rows
from rounds.planning.second_looks import (
    Doubtful,
    Unlearned,
    doubtful_rows,
    learned_gaps,
    losses_of,
    unlearned_rows,
)
from workbench.config import Ask
from workbench.console import console
from workbench.errors import UserError
from workbench.records import Example
from workbench.store import atomic_file, read_records, write_json

if TYPE_CHECKING:
    from generation.cost import Plan

BEFORE = "config.before.yaml"
"""The configuration of a round that was planned already, and is planned anew."""
VERSION = 1
"""Of ``next.json``; goes up when a key changes its meaning or goes away."""


class Cost(BaseModel):
    """What the plan costs by the teacher's price, without retries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float
    currency: str


class Proposal(BaseModel):
    """What ``next.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = VERSION
    persona: str
    """Folder of the persona."""
    round: str
    """The round that it was planned from."""
    next: str
    runs: str = "runs"
    """Where the rounds are kept."""
    arm: str
    """The tuned arm that was looked at."""
    gaps: tuple[Gap, ...]
    held_out_topics: tuple[str, ...]
    """Topics whose rows are all held out; new rows of them would be held out as well."""
    rowless_topics: tuple[str, ...] = ()
    """Topics that no row is of yet; nobody knows the side that a first one would be on."""
    disputed: tuple[Disputed, ...]
    losses: int
    """Rows whose loss was looked at; 0 where it was not."""
    unlearned: tuple[Unlearned, ...]
    doubtful: tuple[Doubtful, ...]
    curve: LearningCurve | None
    """None where it was not asked for and the rounds are too few."""
    rows: dict[str, int]
    """Topic → rows on the training side."""
    shown: dict[str, float]
    """Rule trait → share of the training rows whose answer shows it."""
    plan: tuple[Ask, ...]
    teacher: bool
    requests: list[str]
    """The plan's requests, tokens and cost, a line a step; empty without a teacher."""
    cost: Cost | None


def propose(
    context: RoundContext,
    *,
    rows: int | None = None,
    budget: float | None = None,
    curve: bool = False,
    losses: bool = True,
) -> Proposal:
    """Return what the evaluation and the reviews of a round ask of the next one.

    Args:
        context: The round.
        rows: Rows to plan; ``per_topic`` for each topic of training by default.
        budget: Most that the plan may cost.
        curve: Train on parts of the rows to learn whether more of them help.
        losses: Look at the rows' losses, for which the model is loaded.

    Raises:
        UserError: The round is not evaluated, only the base answered, a budget without a price or
            too small for one row, or what :func:`check_curve` says.
    """
    from evaluation.report.results import headline_arm
    from evaluation.report.source import read_round
    from evaluation.weakness import find_gaps

    source = read_round(context.round.folder, context.persona, context.persona_folder)
    arm = headline_arm(source.comparison)
    if arm is None:
        raise UserError(
            "only the base answered in this round",
            where=str(context.round.folder),
            fix="train and evaluate it first",
        )
    if budget is not None:
        _check_price(context)
    if curve:
        check_curve(context)
    known = losses_of(context, arm) if losses else []
    gaps = find_gaps(
        context.persona,
        arm,
        source.scores,
        source.responses,
        source.records("split/test.jsonl", Example),
        traits=source.comparison.traits or None,
        seed=context.config.seed,
    )
    gaps += learned_gaps(context, known)
    topics = _training_topics(context)
    asks = plan_rows(gaps, topics, rows or context.config.generate.per_topic * len(topics))
    seeds = list(read_records(context.round.stage("resolve") / "examples.jsonl", Example))
    if budget is not None:
        asks = _within(context, seeds, gaps, topics, asks, budget)
    told = _teacher_plan(context, seeds, asks)
    held = {row.topic for side in ("validation", "test") for row in _side(context, side)}
    return Proposal(
        persona=str(context.config.persona),
        round=context.round.name,
        next=_next(context).name,
        runs=str(context.runs),
        arm=arm,
        gaps=tuple(gaps),
        held_out_topics=tuple(t for t in context.persona.topics if t in held and t not in topics),
        rowless_topics=tuple(
            t for t in context.persona.topics if t not in held and t not in topics
        ),
        disputed=tuple(disputed(context)),
        losses=len(known),
        unlearned=tuple(unlearned_rows(context, known)),
        doubtful=tuple(doubtful_rows(context)),
        curve=curve_of(context, arm, train=curve),
        rows=topics,
        shown=_shown(context),
        plan=asks,
        teacher=context.config.teacher is not None,
        requests=told.lines()[1:] if told else [],
        cost=_cost(told),
    )


def _training_topics(context: RoundContext) -> dict[str, int]:
    """Return topic → rows on the training side, in the persona's order."""
    counts = Counter(row.topic for row in _side(context, "train") if row.topic)
    return {topic: counts[topic] for topic in context.persona.topics if counts[topic]}


def _side(context: RoundContext, side: str) -> list[Example]:
    path = context.round.stage("split") / f"{side}.jsonl"
    return list(read_records(path, Example)) if path.exists() else []


def _shown(context: RoundContext) -> dict[str, float]:
    rows = _side(context, "train")
    return {
        trait.id: sum(bool(trait.passes(row.answer)) for row in rows) / len(rows)
        for trait in context.persona.rule_traits
        if rows
    }


def _teacher_plan(
    context: RoundContext, seeds: list[Example], asks: tuple[Ask, ...]
) -> Plan | None:
    from rounds.stages.generate import teacher_plan

    return teacher_plan(context.generating(plan=asks), seeds) if asks else None


def _cost(plan: Plan | None) -> Cost | None:
    if plan is None or plan.money is None or plan.price is None:
        return None
    money = plan.money
    return Cost(low=round(money.low, 4), high=round(money.high, 4), currency=plan.price.currency)


def _within(
    context: RoundContext,
    seeds: list[Example],
    gaps: list[Gap],
    topics: dict[str, int],
    asks: tuple[Ask, ...],
    budget: float,
) -> tuple[Ask, ...]:
    """Return the largest plan whose highest cost the budget pays.

    Raises:
        UserError: It pays for no row; a round without a plan would ask for the usual rows.
    """

    def fits(total: int) -> bool:
        cost = _cost(_teacher_plan(context, seeds, plan_rows(gaps, topics, total)))
        return cost is not None and cost.high <= budget

    low, high = 0, sum(ask.count for ask in asks)
    if fits(high):
        return asks
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if not low:
        one = _cost(_teacher_plan(context, seeds, plan_rows(gaps, topics, 1)))
        least = f"one may cost {one.high} {one.currency}" if one else "there is none to ask for"
        raise UserError(f"{budget:g} pays for no row: {least}", where="--budget", fix="raise it")
    return plan_rows(gaps, topics, low)


def _check_price(context: RoundContext) -> None:
    if context.config.teacher is None or context.config.teacher.price is None:
        raise UserError(
            "a budget needs a teacher with a price",
            where="--budget",
            fix="give the teacher's 'price' in the configuration",
        )


def _next(context: RoundContext) -> RoundFolder:
    number = int(context.round.name.removeprefix("round-")) + 1
    return RoundFolder.open(context.runs / context.persona.id, number)


def check_next(context: RoundContext) -> None:
    """Check that the next round may be planned, before any work is done for it.

    Raises:
        UserError: It has begun.
    """
    opened = _next(context)
    if any(opened.folder.glob(f"*/{MANIFEST}")):
        raise UserError(
            f"{opened.name} has begun already",
            where=str(opened.folder),
            fix="plan the one after it with --round, or remove its folder",
        )


def open_next(context: RoundContext, proposal: Proposal, *, budget: float | None) -> RoundFolder:
    """Write the configuration of the next round, and the proposal as JSON and as a page.

    A configuration that was there is kept beside it, since people may have changed it.

    Raises:
        UserError: That round has begun, or the folder cannot be written.
    """
    from rounds.planning.page import page

    check_next(context)
    opened = _next(context)
    generate: dict[str, Any] = {"plan": proposal.plan}
    if budget is not None:
        generate["budget"] = budget
    config = context.config.model_copy(
        update={
            "sources": (Path(context.round.name),),
            "rows": None,
            "generate": context.config.generate.model_copy(update=generate),
        }
    )
    write_json(opened.folder / "next.json", proposal.model_dump(mode="json"))
    with atomic_file(opened.folder / "next.md") as file:
        file.write(page(context.persona, proposal))
    before = opened.folder / CONFIG
    old = before.read_text(encoding="utf-8") if before.exists() else ""
    replace(context, config=config, round=opened).remember()
    if old and old != before.read_text(encoding="utf-8"):
        with atomic_file(opened.folder / BEFORE) as file:
            file.write(old)
        console.print(f"  {CONFIG} is new; the one that was there is now {BEFORE}")
    return opened
