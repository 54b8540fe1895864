"""The proposal: what the evaluation and the reviews of a round ask of the next one.

In: an evaluated round. Out: a :class:`Proposal`, whose parts are where the tuned model is weak,
which rows need another look, and what to ask a teacher or people for.
:mod:`rounds.planning.next_round` writes it down and opens the round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from evaluation.learning_curve import LearningCurve
from evaluation.outcome import Outcome, outcome_of
from evaluation.weakness import Gap, find_gaps
from generation.cost import TeacherPlan
from rounds.comparison import seeds_of
from rounds.context import RoundContext
from rounds.layout import COMPARISON, RESOLVED, RESPONSES, SCORES, SENSE, RoundFolder
from rounds.planning.learning_curve import check_curve, curve_of
from rounds.planning.requests import plan_rows
from rounds.planning.rows_to_review import (
    DisputedRow,
    LabelIssue,
    PlanInputs,
    UnlearnedRow,
    disputed_rows,
    label_issues,
    learned_gaps,
    losses_of,
    unlearned_rows,
)
from rounds.stages.generate import teacher_plan
from training.row_loss import RowLoss
from workbench.config import RowRequest
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Example
from workbench.stats.training_seeds import with_seeds
from workbench.values import Frozen

VERSION = 2
"""Of ``next.json``; goes up when a key changes its meaning or goes away."""


class Cost(Frozen):
    """What the plan costs by the teacher's price, without retries."""

    low: float
    high: float
    currency: str


class Proposal(Frozen):
    """What ``next.json`` holds."""

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
    outcome: Outcome = "unmeasured"
    """What its voice and its sense amount to."""
    senseless: tuple[int, int] = (0, 0)
    """Its answers that do not answer their question, of how many; at least so many."""
    gaps: tuple[Gap, ...]
    held_out_topics: tuple[str, ...]
    """Topics whose rows are all held out; new rows of them would be held out as well."""
    rowless_topics: tuple[str, ...] = ()
    """Topics that no row is of yet; nobody knows the split that a first one would be in."""
    disputed: tuple[DisputedRow, ...]
    losses: int
    """Rows whose loss was looked at; 0 where it was not."""
    unlearned: tuple[UnlearnedRow, ...]
    label_issues: tuple[LabelIssue, ...]
    curve: LearningCurve | None
    """None where it was not asked for and the rounds are too few."""
    rows: dict[str, int]
    """Topic → rows of the training split."""
    trait_shares: dict[str, float]
    """Rule trait → share of the training rows whose answer shows it."""
    plan: tuple[RowRequest, ...]
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

    The arguments are those of :func:`rounds.planning.next_round.plan_next_round`.

    Raises:
        UserError: The round is not evaluated, only the base answered, a budget without a price or
            too small for one row, or what :func:`check_curve` says.
    """
    if budget is not None:
        _check_price(context)
    if curve:
        check_curve(context)
    inputs = PlanInputs.read(context.round)
    arm, gaps = _arm_and_gaps(context, inputs.splits["test"])
    row_losses = losses_of(context, arm, inputs.learning_rows) if losses else []
    gaps += learned_gaps(inputs, row_losses, context.config.seed)
    topics = _training_topics(context.persona, inputs.splits["train"])
    plan = plan_rows(gaps, topics, rows or context.config.generate.per_topic * len(topics))
    seeds = context.round.read(RESOLVED)
    if budget is not None:
        plan = _affordable(context, seeds, gaps, topics, plan, budget)
    estimate = _estimate(context, seeds, plan)
    return Proposal(
        persona=str(context.persona_folder),
        round=context.round.name,
        next=context.round.next.name,
        runs=str(context.runs),
        arm=arm,
        gaps=tuple(gaps),
        **_about_sense(context.round, arm),
        curve=curve_of(context, arm, train=curve),
        rows=topics,
        plan=plan,
        teacher=context.config.teacher is not None,
        requests=estimate.lines()[1:] if estimate else [],
        cost=_cost(estimate),
        **_about_rows(context, inputs, row_losses, topics),
    )


def _about_rows(
    context: RoundContext,
    inputs: PlanInputs,
    losses: list[RowLoss],
    topics: Collection[str],
) -> dict[str, Any]:
    """Return the fields of a proposal that are about the round's own rows."""
    persona, splits = context.persona, inputs.splits
    held = {row.topic for row in (*splits["validation"], *splits["test"])}
    untaught = [topic for topic in persona.topics if topic not in topics]
    return {
        "held_out_topics": tuple(topic for topic in untaught if topic in held),
        "rowless_topics": tuple(topic for topic in untaught if topic not in held),
        "disputed": tuple(disputed_rows(inputs, context.config.review.policy)),
        "losses": len(losses),
        "unlearned": tuple(unlearned_rows(inputs, losses)),
        "label_issues": tuple(label_issues(inputs, context.config.seed)),
        "trait_shares": _trait_shares(persona, splits["train"]),
    }


def _about_sense(one: RoundFolder, arm: str) -> dict[str, Any]:
    """Return whether the arm is a success, which marks alone do not make it."""
    sense = one.read(SENSE) if one.has(SENSE) else None
    own = sense.arm(arm) if sense else None
    outcome = outcome_of(with_seeds(one.read(COMPARISON), seeds_of(one)), sense, arm)
    if own is None:
        return {"outcome": outcome}
    count = own.harmful if outcome == "harmful" else own.senseless
    return {"outcome": outcome, "senseless": (count, own.answers)}


def _arm_and_gaps(context: RoundContext, held_out: Sequence[Example]) -> tuple[str, list[Gap]]:
    """Return the tuned arm, and where it falls short."""
    one = context.round
    comparison = one.read(COMPARISON)
    arm = comparison.headline
    if arm is None:
        raise UserError(
            "only the base answered in this round",
            where=str(one.folder),
            fix="train and evaluate it first",
        )
    gaps = find_gaps(
        context.persona,
        arm,
        one.read(SCORES),
        one.read(RESPONSES),
        held_out,
        traits=comparison.traits or None,
        seed=context.config.seed,
    )
    return arm, gaps


def _training_topics(persona: Persona, rows: Sequence[Example]) -> dict[str, int]:
    """Return topic → rows of the training split, in the persona's order."""
    counts = Counter(row.topic for row in rows if row.topic)
    return {topic: counts[topic] for topic in persona.topics if counts[topic]}


def _trait_shares(persona: Persona, rows: Sequence[Example]) -> dict[str, float]:
    return {
        trait.id: sum(bool(trait.passes(row.answer)) for row in rows) / len(rows)
        for trait in persona.rule_traits
        if rows
    }


def _estimate(
    context: RoundContext, seeds: list[Example], plan: tuple[RowRequest, ...]
) -> TeacherPlan | None:
    return teacher_plan(context.with_settings("generate", plan=plan), seeds) if plan else None


def _cost(estimate: TeacherPlan | None) -> Cost | None:
    if estimate is None or estimate.money is None or estimate.price is None:
        return None
    money, currency = estimate.money, estimate.price.currency
    return Cost(low=round(money.low, 4), high=round(money.high, 4), currency=currency)


def _affordable(
    context: RoundContext,
    seeds: list[Example],
    gaps: Sequence[Gap],
    topics: dict[str, int],
    plan: tuple[RowRequest, ...],
    budget: float,
) -> tuple[RowRequest, ...]:
    """Return the largest plan whose highest cost the budget pays.

    Raises:
        UserError: It pays for no row; a round without a plan would ask for the usual rows.
    """

    def cost(total: int) -> Cost | None:
        return _cost(_estimate(context, seeds, plan_rows(gaps, topics, total)))

    def fits(total: int) -> bool:
        highest = cost(total)
        return highest is not None and highest.high <= budget

    low, high = 0, sum(ask.count for ask in plan)
    if fits(high):
        return plan
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if not low:
        one = cost(1)
        least = f"one may cost {one.high} {one.currency}" if one else "there is none to ask for"
        raise UserError(f"{budget:g} pays for no row: {least}", where="--budget", fix="raise it")
    return plan_rows(gaps, topics, low)


def _check_price(context: RoundContext) -> None:
    teachers = context.config.teachers
    if not teachers or any(one.price is None for one in teachers):
        raise UserError(
            "a budget needs a teacher with a price",
            where="--budget",
            fix="give the teacher's 'price' in the configuration",
        )
