"""The stage ``resolve``: reviews become kept, corrected, dropped or queued rows.

In: the rows that were reviewed and their reviews. Out: a decision for each, the rows and
pairs that go on, and how far the reviewers agree. ``persona review`` reads the same to say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from curation.filters import Filtered, filter_examples
from curation.review.agreement import Agreement, agreement, rules_beside_reviewers
from curation.review.pairs import NOT_KEPT, pairs_of, unreviewed, with_their_rows
from curation.review.reliability import read_gold
from curation.review.resolve import Resolved, resolve
from curation.review.votes import NOT_REVIEWED
from rounds import layout
from rounds.carry_over import CarryOver, read_carry_over
from rounds.context import RoundContext
from rounds.layout import Reader
from rounds.notes import MENDED_PAIRS, contested_rows
from rounds.runner import StageSpec, Work
from workbench.config import Policy
from workbench.console import console
from workbench.persona import Persona
from workbench.records import Drop, Example, Preference, Response, Review
from workbench.text import some_of
from workbench.values import dumped


def resolve_stage(context: RoundContext) -> StageSpec:
    """A decision for every reviewed row, by the policy of the configuration."""
    one, mended = context.round, MENDED_PAIRS
    contested = contested_rows(one)
    return StageSpec(
        "resolve",
        partial(_resolve, context, contested),
        inputs=(
            layout.FILTERED,
            layout.FILTERED_PREFERENCES,
            layout.REVIEWS,
            layout.GOLD_REVIEWS,
            layout.ADJUDICATIONS,
            layout.REVIEWED_PAIRS,
            layout.BASELINE,
            layout.GENERATED_PREFERENCES,
        ),
        optional=(
            layout.CARRY_OVER_EXAMPLES,
            layout.CARRY_OVER_PREFERENCES,
            layout.CARRY_OVER_DECISIONS,
        ),
        files={
            **context.persona_files("persona.yaml", "gold.jsonl"),
            **({mended.path: one.path(mended)} if one.has(mended) else {}),
        },
        settings={
            "policy": dumped(context.config.review.policy),
            "filter": dumped(context.config.filter),
            **({"contested": contested} if contested else {}),
        },
        packages=("krippendorff",),
    )


def _resolve(context: RoundContext, contested: Sequence[str], work: Work) -> None:
    reviewed = Reviewed.read(work)
    policy = context.config.review.policy
    resolved = decide(context.persona, policy, reviewed, work.read(layout.BASELINE))
    with_rows = [
        *work.read(layout.GENERATED_PREFERENCES),
        *context.round.read_if_there(MENDED_PAIRS),
    ]
    carry_over = reviewed.remaining
    filtered, preferences, drops = _gather(
        partial(
            filter_examples,
            persona=context.persona,
            settings=context.config.filter,
            stage="resolve",
            contested=contested,
        ),
        reviewed,
        carry_over,
        resolved,
        with_rows,
    )
    work.counts.update(
        kept=len(filtered.examples),
        preferences=len(preferences),
        dropped=len(drops),
        queue=len(resolved.queue),
        **carry_over.counts(),
    )
    _tell_unreviewed(context, resolved)
    work.write(layout.RESOLVED, filtered.examples)
    work.write(layout.RESOLVED_PREFERENCES, preferences)
    work.write(layout.DECISIONS, [*carry_over.decisions, *resolved.decisions])
    work.write(layout.RESOLVE_DROPS, drops)
    agreement = measure(context, reviewed)
    work.counts["rules_in_doubt"] = _tell_rules(agreement)
    work.write(layout.AGREEMENT, agreement)


def _tell_unreviewed(context: RoundContext, resolved: Resolved) -> None:
    """Say which rows go no further since nobody has reviewed them."""
    names = [drop.source or drop.record for drop in resolved.drops if drop.reason == NOT_REVIEWED]
    if names:
        larger = " with a larger review.budget" if context.config.review.budget else ""
        console.print(
            f"  {len(names)} rows are left out, since too few have reviewed them: {some_of(names)};"
            f" `{context.options.command('review push')}`{larger} puts them before people",
            markup=False,
        )


def _tell_rules(agreement: Agreement) -> list[str]:
    """Print and return the rules that disagree with the reviewers' own labels."""
    doubted = [name for name, one in agreement.rules.items() if one.disagrees]
    for name in doubted:
        one = agreement.rules[name]
        console.print(
            f"  the rule of '{name}' disagrees with reviewers: of {one.precision.n} answers that it"
            f" faults they fault {one.precision.value or 0:.0%}, of {one.recall.n} that they"
            f" fault it faults {one.recall.value or 0:.0%}"
        )
    return doubted


@dataclass(frozen=True)
class Reviewed:
    """What was put before a round's reviewers, and their reviews of it."""

    filtered: list[Example]
    preferences: list[Preference]
    """Imported pairs that the filters let through."""
    pairs: list[Example]
    """Candidates that stand for imported pairs."""
    reviews: list[Review]
    gold_reviews: list[Review]
    adjudications: list[Review]
    carry_over: CarryOver

    @classmethod
    def read(cls, reader: Reader) -> Reviewed:
        """Read what was pulled into a round so far."""
        return cls(
            reader.read(layout.FILTERED),
            reader.read(layout.FILTERED_PREFERENCES),
            reader.read(layout.REVIEWED_PAIRS),
            reader.read(layout.REVIEWS),
            reader.read(layout.GOLD_REVIEWS),
            reader.read(layout.ADJUDICATIONS),
            read_carry_over(reader),
        )

    @cached_property
    def remaining(self) -> CarryOver:
        """What is taken over of the rows that went through this round's filters."""
        return self.carry_over.of(self.filtered)

    @cached_property
    def candidates(self) -> list[Example]:
        """The rows that reviews decide on."""
        settled = {row.id for row in (*self.pairs, *self.remaining.rows)}
        return [*(row for row in self.filtered if row.id not in settled), *self.pairs]

    @cached_property
    def alternatives(self) -> dict[str, str]:
        """Id of each candidate of an imported pair → the pair's other answer."""
        return pairs_of(self.preferences).alternatives


def decide(
    persona: Persona, policy: Policy, reviewed: Reviewed, baseline: list[Response]
) -> Resolved:
    """Return what the policy makes of the reviews."""
    candidates = reviewed.candidates
    answers = {response.prompt_id: response.text for response in baseline}
    # A masked row is a new record; the base model answered the row that it came from.
    own = {
        row.id: answers[known]
        for row in candidates
        if (known := next((i for i in (row.id, *row.parents) if i in answers), None))
    }
    return resolve(
        persona,
        candidates,
        reviewed.reviews,
        policy,
        own,
        alternatives=reviewed.alternatives,
        adjudications=reviewed.adjudications,
    )


def measure(context: RoundContext, reviewed: Reviewed) -> Agreement:
    """Return the agreement of the reviews, gold rows counted for reliability."""
    policy, persona, seed = context.config.review.policy, context.persona, context.config.seed
    measured = agreement(
        reviewed.candidates,
        [*reviewed.reviews, *reviewed.gold_reviews],
        policy,
        problems=persona.problems,
        gold=read_gold(context.persona_folder, policy).outcomes,
        seed=seed,
    )
    rules = rules_beside_reviewers(
        persona.rule_traits, reviewed.candidates, reviewed.reviews, seed=seed
    )
    return measured.model_copy(update={"rules": rules})


def _gather(
    filters: Callable[..., Filtered],
    reviewed: Reviewed,
    carry_over: CarryOver,
    resolved: Resolved,
    with_rows: list[Preference],
) -> tuple[Filtered, list[Preference], list[Drop]]:
    """Return the rows that go on, all pairs that do, and every drop."""
    shown = {row.id for row in reviewed.pairs}
    as_brought, fallen = unreviewed(reviewed.preferences, shown, resolved.decisions)
    made, lost = with_their_rows(
        with_rows, reviewed.candidates, resolved.examples, resolved.decisions
    )
    # What reviewers wrote goes through the same filters as what they were given.
    filtered = filters(
        [*carry_over.rows, *resolved.examples],
        preferences=[*carry_over.preferences, *resolved.preferences, *made],
    )
    behind = _left_behind(reviewed.carry_over, carry_over)
    drops = [*resolved.drops, *fallen, *lost, *behind, *filtered.drops]
    return filtered, [*filtered.preferences, *as_brought], drops


def _left_behind(before: CarryOver, after: CarryOver) -> list[Drop]:
    """Return drops of the pairs of an earlier round whose row this round's filters took out."""
    remaining = {pair.id for pair in after.preferences}
    return [
        Drop.of(pair, "resolve", NOT_KEPT, "its row was filtered", *pair.parents)
        for pair in before.preferences
        if pair.id not in remaining
    ]
