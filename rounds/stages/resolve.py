"""The stage of decisions: reviews become kept, corrected, dropped or queued rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rounds.carry_over import CarryOver, read_carry_over
from rounds.context import RoundContext
from rounds.layout import (
    ADJUDICATIONS,
    BASELINE,
    CARRIED_DECISIONS,
    CARRIED_EXAMPLES,
    CARRIED_PREFERENCES,
    FILTERED,
    FILTERED_PREFERENCES,
    GENERATED_PREFERENCES,
    GOLD_REVIEWS,
    REVIEWED_PAIRS,
    REVIEWS,
)
from rounds.runner import StageSpec, Work
from rounds.stages.review import persona_files
from workbench.config import dumped
from workbench.records import Drop, Example, Review
from workbench.store import write_json, write_records

if TYPE_CHECKING:
    from curation.review.agreement import Agreement
    from curation.review.resolve import Resolved


def resolve_stage(context: RoundContext) -> StageSpec:
    """A decision for every reviewed row, by the policy of the configuration."""
    return StageSpec(
        "resolve",
        partial(_resolve, context),
        inputs=(
            FILTERED,
            FILTERED_PREFERENCES,
            REVIEWS,
            GOLD_REVIEWS,
            ADJUDICATIONS,
            REVIEWED_PAIRS,
            BASELINE,
            GENERATED_PREFERENCES,
            *(
                (CARRIED_EXAMPLES, CARRIED_PREFERENCES, CARRIED_DECISIONS)
                if context.source_rounds
                else ()
            ),
        ),
        files=persona_files(context, "persona.yaml", "gold.jsonl"),
        settings={
            "policy": dumped(context.config.review.policy),
            "filter": dumped(context.config.filter),
        },
        packages=("krippendorff",),
    )


def _resolve(context: RoundContext, work: Work) -> None:
    from curation.filters import filter_examples
    from curation.review.pairs import unreviewed, with_their_rows

    taken = read_carry_over(context)
    carry_over = taken.of(_filtered(context))
    given = pulled(context)
    resolved = decide(context, given)
    imported = work.read(FILTERED_PREFERENCES)
    shown = {row.id for row in _pairs(context)}
    as_brought, fallen = unreviewed(imported, shown, resolved.decisions)
    near = work.read(GENERATED_PREFERENCES)
    made, lost = with_their_rows(near, given.rows, resolved.examples, resolved.decisions)
    # What reviewers wrote goes through the same filters as what they were given.
    left = filter_examples(
        [*carry_over.rows, *resolved.examples],
        context.persona,
        context.config.filter,
        preferences=[*carry_over.preferences, *resolved.preferences, *made],
        stage="resolve",
    )
    preferences = [*left.preferences, *as_brought]
    drops = [*resolved.drops, *fallen, *lost, *_left_behind(taken, carry_over), *left.dropped]
    work.counts.update(
        kept=len(left.kept),
        preferences=len(preferences),
        dropped=len(drops),
        queue=len(resolved.queue),
        **carry_over.counts(),
    )
    write_records(work.out / "examples.jsonl", left.kept)
    write_records(work.out / "preferences.jsonl", preferences)
    write_records(work.out / "decisions.jsonl", [*carry_over.decisions, *resolved.decisions])
    write_records(work.out / "drops.jsonl", drops)
    write_json(work.out / "agreement.json", measure(context).model_dump(mode="json"))


def _left_behind(taken: CarryOver, carry_over: CarryOver) -> list[Drop]:
    """Return drops of the pairs of an earlier round whose row this round's filters took out."""
    from curation.review.pairs import NOT_KEPT

    kept = {pair.id for pair in carry_over.preferences}
    return [
        Drop(
            record=pair.id,
            stage="resolve",
            reason=NOT_KEPT,
            detail="its row was filtered",
            source=pair.source,
            parents=(pair.id, *pair.parents),
        )
        for pair in taken.preferences
        if pair.id not in kept
    ]


@dataclass(frozen=True)
class Given:
    """What decisions are made of."""

    rows: list[Example]
    """The rows that reviews decide on."""
    reviews: list[Review]
    adjudications: list[Review]


def pulled(context: RoundContext) -> Given:
    """Return what was pulled into the round so far."""
    return Given(
        _candidates(context), context.round.read(REVIEWS), context.round.read(ADJUDICATIONS)
    )


def decide(context: RoundContext, given: Given, *, queue: bool = False) -> Resolved:
    """Return what the policy makes of the reviews.

    Args:
        context: The round.
        given: Rows and reviews.
        queue: Whatever the configuration says, leave to an adjudicator what is not settled.
    """
    from curation.review.resolve import resolve

    policy = context.config.review.policy
    answers = {response.prompt_id: response.text for response in context.round.read(BASELINE)}
    # A masked row is a new record; the base model answered the row that it came from.
    bare = {
        row.id: answers[known]
        for row in given.rows
        if (known := next((i for i in (row.id, *row.parents) if i in answers), None))
    }
    return resolve(
        context.persona,
        given.rows,
        given.reviews,
        policy.model_copy(update={"unsettled": "queue"}) if queue else policy,
        bare,
        alternatives=alternatives(context),
        adjudications=given.adjudications,
    )


def measure(context: RoundContext) -> Agreement:
    """Return the agreement of the reviews pulled so far, gold rows counted for reliability."""
    from curation.review.agreement import agreement
    from curation.review.reliability import read_gold

    policy = context.config.review.policy
    return agreement(
        _candidates(context),
        [*context.round.read(REVIEWS), *context.round.read(GOLD_REVIEWS)],
        policy,
        problems=context.persona.problems,
        gold=read_gold(context.persona_folder, policy).outcomes,
        seed=context.config.seed,
    )


def _candidates(context: RoundContext) -> list[Example]:
    pairs = _pairs(context)
    shown = {row.id for row in pairs}
    filtered = _filtered(context)
    decided = {row.id for row in read_carry_over(context).of(filtered).rows}
    return [*(row for row in filtered if row.id not in shown | decided), *pairs]


def _filtered(context: RoundContext) -> list[Example]:
    return context.round.read(FILTERED)


def alternatives(context: RoundContext) -> dict[str, str]:
    """Return the other answer of each imported pair, by its candidate."""
    from curation.review.pairs import pairs_of

    return pairs_of(context.round.read(FILTERED_PREFERENCES)).alternatives


def _pairs(context: RoundContext) -> list[Example]:
    return context.round.read(REVIEWED_PAIRS)
