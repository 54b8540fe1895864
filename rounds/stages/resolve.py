"""The stage of decisions: reviews become kept, corrected, dropped or queued rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rounds.carry_over import DECISIONS, PAIRS, ROWS, Carried, carried_inputs, read_carried
from rounds.context import Job
from rounds.runner import StageSpec, Work
from rounds.stages.review import persona_files
from rounds.stages.review_rows import policy_of
from workbench.config import section
from workbench.records import Drop, Example, Preference, Response, Review
from workbench.store import read_records, write_json, write_records

if TYPE_CHECKING:
    from curation.review.agreement import Agreement
    from curation.review.resolve import Resolved

_REVIEWS = ("reviews", "gold-reviews", "adjudications")


def resolve_stage(job: Job) -> StageSpec:
    """A decision for every reviewed row, by the policy of the configuration."""
    return StageSpec(
        "resolve",
        partial(_resolve, job),
        inputs=(
            "filter/examples.jsonl",
            "filter/preferences.jsonl",
            *(f"review/{name}.jsonl" for name in _REVIEWS),
            "review/pairs.jsonl",
            "generate/bare.jsonl",
            "generate/preferences.jsonl",
            *carried_inputs(job, ROWS, PAIRS, DECISIONS),
        ),
        files=persona_files(job, "persona.yaml", "gold.jsonl"),
        settings={"policy": job.config.review.policy, "filter": job.config.filter},
        packages=("krippendorff",),
    )


def _resolve(job: Job, work: Work) -> None:
    from curation.filters import FilterSettings, filter_examples
    from curation.review.hard_negatives import with_their_rows
    from curation.review.pairs import unreviewed

    taken = read_carried(job)
    carried = taken.of(_filtered(job))
    given = pulled(job)
    resolved = decide(job, given)
    imported = list(read_records(work.input("filter/preferences.jsonl"), Preference))
    shown = {row.id for row in _pairs(job)}
    as_brought, fallen = unreviewed(imported, shown, resolved.decisions)
    near = read_records(work.input("generate/preferences.jsonl"), Preference)
    made, lost = with_their_rows(near, given.rows, resolved.examples, resolved.decisions)
    # What reviewers wrote goes through the same filters as what they were given.
    left = filter_examples(
        [*carried.rows, *resolved.examples],
        job.persona,
        section(FilterSettings, job.config.filter, "filter"),
        preferences=[*carried.preferences, *resolved.preferences, *made],
        stage="resolve",
    )
    preferences = [*left.preferences, *as_brought]
    drops = [*resolved.drops, *fallen, *lost, *_left_behind(taken, carried), *left.dropped]
    work.counts.update(
        kept=len(left.kept),
        preferences=len(preferences),
        dropped=len(drops),
        queue=len(resolved.queue),
        **carried.counts(),
    )
    write_records(work.out / "examples.jsonl", left.kept)
    write_records(work.out / "preferences.jsonl", preferences)
    write_records(work.out / "decisions.jsonl", [*carried.decisions, *resolved.decisions])
    write_records(work.out / "drops.jsonl", drops)
    write_json(work.out / "agreement.json", measure(job).model_dump(mode="json"))


def _left_behind(taken: Carried, carried: Carried) -> list[Drop]:
    """Return drops of the pairs of an earlier round whose row this round's filters took out."""
    from curation.review.hard_negatives import NOT_KEPT

    kept = {pair.id for pair in carried.preferences}
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


def pulled(job: Job) -> Given:
    """Return what was pulled into the round so far."""
    return Given(_candidates(job), _reviews(job, "reviews"), _reviews(job, "adjudications"))


def decide(job: Job, given: Given, *, queue: bool = False) -> Resolved:
    """Return what the policy makes of the reviews.

    Args:
        job: The round.
        given: Rows and reviews.
        queue: Whatever the configuration says, leave to an adjudicator what is not settled.
    """
    from curation.review.resolve import resolve

    policy = policy_of(job)
    answers = {
        response.prompt_id: response.text
        for response in read_records(job.round.stage("generate") / "bare.jsonl", Response)
    }
    # A masked row is a new record; the base model answered the row that it came from.
    bare = {
        row.id: answers[known]
        for row in given.rows
        if (known := next((i for i in (row.id, *row.parents) if i in answers), None))
    }
    return resolve(
        job.persona,
        given.rows,
        given.reviews,
        policy.model_copy(update={"unsettled": "queue"}) if queue else policy,
        bare,
        rivals=rivals(job),
        adjudications=given.adjudications,
    )


def measure(job: Job) -> Agreement:
    """Return the agreement of the reviews pulled so far, gold rows counted for reliability."""
    from curation.review.agreement import agreement
    from curation.review.gold import read_gold

    policy = policy_of(job)
    return agreement(
        _candidates(job),
        [*_reviews(job, "reviews"), *_reviews(job, "gold-reviews")],
        policy,
        problems=job.persona.problems,
        gold=read_gold(job.persona_folder, policy).outcomes,
        seed=job.config.seed,
    )


def _candidates(job: Job) -> list[Example]:
    pairs = _pairs(job)
    shown = {row.id for row in pairs}
    filtered = _filtered(job)
    decided = {row.id for row in read_carried(job).of(filtered).rows}
    return [*(row for row in filtered if row.id not in shown | decided), *pairs]


def _filtered(job: Job) -> list[Example]:
    return list(read_records(job.round.stage("filter") / "examples.jsonl", Example))


def rivals(job: Job) -> dict[str, str]:
    """Return the other answer of each imported pair, by its candidate."""
    from curation.review.pairs import pairs_of

    path = job.round.stage("filter") / "preferences.jsonl"
    return pairs_of(read_records(path, Preference)).rivals


def _pairs(job: Job) -> list[Example]:
    return list(read_records(job.round.stage("review") / "pairs.jsonl", Example))


def _reviews(job: Job, name: str) -> list[Review]:
    return list(read_records(job.round.stage("review") / f"{name}.jsonl", Review))
