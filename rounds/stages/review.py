"""The stage ``review``: rows go to Argilla, reviews come back.

In: the filtered rows, the imported pairs and the persona's gold rows. Out: reviews, adjudications,
and what reviewers saw. ``persona review`` does the same a step at a time.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from curation.argilla.client import Connection
from curation.argilla.pull import progress_if_pushed, review_progress
from curation.argilla.push import Pushed, push, push_queue
from curation.argilla.recorded import gold_with_reviews, recorded_of, submit_recorded
from curation.argilla.records import JudgeOpinion
from curation.review.attention import queue_order
from curation.review.merging import Merged
from curation.review.pairs import pairs_of
from curation.review.reliability import Gold, read_gold, with_gold_rows
from curation.review.resolve import resolve
from curation.split import assign_groups, split_rows
from rounds import layout
from rounds.carry_over import read_carry_over
from rounds.context import RoundContext
from rounds.human_reviews import held_reviews, pull_merged, put_back
from rounds.layout import Reader
from rounds.notes import contest_notes
from rounds.order import nothing_left
from rounds.review_server import ReviewServer
from rounds.runner import StageSpec, Work
from workbench.console import console, track
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import ask_judge, trait_questions
from workbench.persona import Persona
from workbench.records import Example, Review
from workbench.text import counted, some_of

FEW_ROWS = 500
"""Rows up to which it is tried out whether they can be split; of more, topics are counted."""
STAGE = "review"
POLL_SECONDS = 10.0
"""Seconds between two looks at how far people are."""


def review_stage(context: RoundContext, *, wait: bool = True) -> StageSpec:
    """Reviews of the filtered rows, pulled from Argilla.

    People's where the round waits for them or none are recorded; else the persona's recorded ones,
    submitted by the reviewers' own accounts, and people's of rows that these do not know. Without
    ``wait`` people's are pulled as they are.
    """
    people = by_people(context)
    names = ("gold.jsonl",) if people else ("reviews.jsonl", "gold.jsonl", "gold-reviews.jsonl")
    return StageSpec(
        STAGE,
        partial(_review, context, people, wait),
        inputs=(layout.FILTERED, layout.FILTERED_PREFERENCES),
        optional=(layout.CARRY_OVER_EXAMPLES,),
        files=context.persona_files(*names),
        settings={
            "reviewers": list(context.config.review.reviewers),
            "per_record": context.config.review.per_record,
            "people": people,
            **_own_settings(context),
        },
        packages=("argilla",),
    )


def by_people(context: RoundContext) -> bool:
    """Return whether people review: asked for, or no reviews are recorded."""
    return context.config.review.people or not (context.persona_folder / "reviews.jsonl").exists()


def _own_settings(context: RoundContext) -> dict[str, str | int]:
    """Return the settings that a round has only where they are not as by default."""
    review = context.config.review
    unreviewed = {} if review.unreviewed == "wait" else {"unreviewed": review.unreviewed}
    return {**unreviewed, **({"budget": review.budget} if review.budget else {})}


def with_overlap(context: RoundContext, per_record: int | None) -> RoundContext:
    """Return the same context with so many reviewers for each record; None changes nothing.

    Raises:
        UserError: There are fewer reviewers than that.
    """
    review = context.config.review
    wanted = per_record or review.per_record
    if wanted > len(review.reviewers):
        raise UserError(
            f"{wanted} reviewers for each record, but there are only {len(review.reviewers)}",
            where="--reviewers-per-record" if per_record else "review.per_record",
            fix="name more of them in review.reviewers of the configuration",
        )
    changed = review.model_copy(update={"per_record": wanted})
    return replace(context, config=context.config.model_copy(update={"review": changed}))


def _review(context: RoundContext, people: bool, wait: bool, work: Work) -> None:
    rows = review_rows(context, work, people=people)
    collected = CollectedReviews([], [], True)
    check_splittable(context, rows)
    if rows.candidates:  # a round that only takes rows over needs no server
        collected = _collect(context, rows, people, wait, work)
    # Reviews of gold rows say how reliable a reviewer is; nothing is decided by them.
    known = rows.gold.outcomes
    reviews = [review for review in collected.reviews if review.record not in known]
    gold_reviews = [review for review in collected.reviews if review.record in known]
    work.counts.update(
        reviews=len(reviews),
        reviewers=len({review.reviewer for review in reviews}),
        gold_reviews=len(gold_reviews),
        adjudications=len(collected.adjudications),
        complete=collected.complete,
        **({"carry_over": len(rows.decided)} if rows.decided else {}),
    )
    work.write(layout.REVIEWS, reviews)
    work.write(layout.GOLD_REVIEWS, gold_reviews)
    work.write(layout.ADJUDICATIONS, collected.adjudications)
    work.write(layout.REVIEWED_PAIRS, rows.pairs)
    # As rows of the round they name the persona, so that their chain back is whole.
    parents = (context.persona.record_id,)
    work.write(layout.GOLD, [row.evolve(parents=parents) for row in rows.gold.examples])


@dataclass(frozen=True)
class ReviewRows:
    """The rows of one round's review."""

    rows: list[Example]
    """The filtered rows, without those that an earlier round has decided on."""
    pairs: list[Example]
    """Chosen answers of imported pairs; none in a round that nobody reviews by hand."""
    alternatives: dict[str, str]
    """Chosen answer's id → the rejected answer beside it, of all imported pairs."""
    gold: Gold
    decided: list[Example]
    """Rows that an earlier round has decided on; nobody is asked about them again."""
    queue: tuple[Example, ...] | None = None
    """The candidates that the budget of reviews is enough for, in their order; None without one."""

    @property
    def candidates(self) -> list[Example]:
        """The rows that reviews decide on."""
        return [*self.rows, *self.pairs]

    @property
    def asked(self) -> list[Example]:
        """The candidates that reviewers are asked about."""
        return self.candidates if self.queue is None else list(self.queue)

    def pushed(self, round_name: str) -> list[Example]:
        """Return all rows in the order of the push, gold rows strewn among them."""
        in_order = self.queue is not None
        return with_gold_rows(self.asked, self.gold, round_name, in_order=in_order)


def review_rows(
    context: RoundContext, reader: Reader, *, people: bool, ordered: bool = True
) -> ReviewRows:
    """Return what the round's reviewers get to see; unless ``ordered``, without a queue.

    Without people, reviews come from the persona's files: then only gold rows that have recorded
    reviews are mixed in, and imported pairs stand as they were brought.

    Raises:
        UserError: The rows are not filtered yet, or a broken ``gold.jsonl``.
    """
    filtered = reader.read(layout.FILTERED)
    decided = {row.id: row for row in read_carry_over(reader).of(filtered).rows}
    imported = pairs_of(reader.read(layout.FILTERED_PREFERENCES))
    pairs = imported.candidates if people else []
    known = {row.id for row in (*filtered, *pairs)}
    gold = read_gold(context.persona_folder, context.config.review.policy)
    if not people:
        needed = context.config.review.per_record
        gold = gold_with_reviews(context.persona_folder, context.persona, gold, needed)
    examples = tuple(row for row in gold.examples if row.id not in known)
    elsewhere = decided.keys() | {row.id for row in pairs}
    rows = ReviewRows(
        [row for row in filtered if row.id not in elsewhere],
        pairs,
        imported.alternatives,
        Gold(examples, {row.id: gold.outcomes[row.id] for row in examples}),
        list(decided.values()),
    )
    return replace(rows, queue=_queue(context, rows, people=people)) if ordered else rows


def _queue(context: RoundContext, rows: ReviewRows, *, people: bool) -> tuple[Example, ...] | None:
    """Return the candidates that the budget is enough for, in the order of the queue."""
    review = context.config.review
    if review.budget is None:
        return None
    # What a judge says orders the rows that people see; recorded reviews cost nobody's minutes.
    opinions = _opinions(context, rows) if people else {}
    shares = {record: opinion.score for record, opinion in opinions.items()}
    ordered = queue_order(context.persona, rows.candidates, context.round.name, shares)
    return tuple(ordered[: max(1, review.budget // review.per_record)])


def _opinions(context: RoundContext, rows: ReviewRows) -> dict[str, JudgeOpinion]:
    return judge_opinions(
        context.persona,
        context.config.judge,
        [*rows.rows, *rows.gold.examples],
        cache=context.round.scratch(STAGE) / CACHE,
    )


def check_splittable(context: RoundContext, rows: ReviewRows) -> None:
    """Raise a UserError where no split could keep related rows together: before anybody reviews.

    Or where no row is left that anybody could review. A round after one that was split has its
    held-out rows already.
    """
    settings, seed = context.config.split, context.config.seed
    candidates = [*rows.decided, *rows.candidates]
    if not candidates:
        lost = (layout.IMPORT_DROPS, layout.FILTER_DROPS)
        drops = [drop for one in lost if context.round.has(one) for drop in context.round.read(one)]
        raise nothing_left(drops, context.round.path(layout.FILTER_DROPS))
    if any(one.done("split") for one in context.round.all_rounds):
        return
    if len(candidates) <= FEW_ROWS:
        taught = context.persona.train_only
        split_rows(candidates, [], seed=seed, settings=settings, train_only=taught)
        return
    apart = settings.topics == "apart"
    members = Counter((apart and row.topic) or row.id for row in candidates)
    assign_groups(members, dict.fromkeys(members, ""), {}, seed, settings)


@dataclass(frozen=True)
class CollectedReviews:
    """The reviews and adjudications so far, and whether more are to come."""

    reviews: list[Review]
    adjudications: list[Review]
    complete: bool


def _collect(
    context: RoundContext, rows: ReviewRows, people: bool, wait: bool, work: Work
) -> CollectedReviews:
    """Put rows on the server and return their reviews, merged with those that the round holds."""
    server = ReviewServer.of(context)
    connection = server.connect(start=True)
    before, words = held_reviews(context, people)
    pull = partial(pull_merged, context, connection, context.round.name)
    unrecorded = [] if people else _unrecorded(context, rows)
    if unrecorded:
        work.counts["unrecorded"] = len(unrecorded)
    asks = people or (bool(unrecorded) and context.config.review.unreviewed == "wait")
    try:
        push_rows(context, connection, rows)
        if not people:
            _submit(context, server, rows, work)
        reviews = pull(before)
        put_back(context, connection, reviews.lost, rows.pushed(context.round.name))
        _tell_unrecorded(unrecorded, reviews.reviews, waits=asks)
        if asks and wait and _wait(context, connection, "waiting for reviews", queue=False):
            reviews = pull(before)
        adjudications = pull(words, queue=True)
        put_back(context, connection, adjudications.lost, rows.candidates, queue=True)
        if people and wait:
            _wait_for_adjudicator(context, connection, rows, reviews.reviews, adjudications.reviews)
            adjudications = pull(words, queue=True)
        # Where nobody is asked, what has no recorded review gets none.
        complete = not asks or _complete(context, connection, rows, reviews)
        return CollectedReviews(reviews.reviews, adjudications.reviews, complete)
    finally:
        # An unattended run leaves nothing behind, also when it goes on after a kill.
        if not asks and not server.stays:
            server.stop()


def _unrecorded(context: RoundContext, rows: ReviewRows) -> list[Example]:
    """Return the rows that no recorded review knows: added ones, a teacher's, changed ones."""
    known = recorded_of(context.persona_folder, context.persona, rows.asked)
    return [row for row in rows.asked if row.id not in known]


def _tell_unrecorded(rows: Sequence[Example], reviews: Sequence[Review], *, waits: bool) -> None:
    """Say which rows nobody has reviewed yet, and what becomes of them."""
    reviewed = {review.record for review in reviews}
    if still := [row for row in rows if row.id not in reviewed]:
        what = "wait for people" if waits else "are left out (review.unreviewed: leave_out)"
        names = some_of([row.source or row.id for row in still])
        console.print(
            f"  {len(still)} rows that no recorded review knows {what}: {names}", markup=False
        )


def _complete(
    context: RoundContext, connection: Connection, rows: ReviewRows, reviews: Merged
) -> bool:
    """Return whether nobody is waited for any more, neither a reviewer nor an adjudicator.

    Reviews that the server lost count. What an account that is gone had still to review is open.
    """
    at = connection, context.persona, context.round.name
    records = [row.id for row in rows.pushed(context.round.name)]
    enough = reviews.cover(records, context.config.review.per_record)
    if not enough and reviews.gone:
        return False
    queue = progress_if_pushed(*at, queue=True)
    return (enough or review_progress(*at).enough()) and (not queue or queue.enough())


def push_rows(context: RoundContext, connection: Connection, rows: ReviewRows) -> None:
    """Put the rows into the round's dataset; those already there stay as they are."""
    pushed = push(
        connection,
        context.persona,
        context.round.name,
        rows.pushed(context.round.name),
        reviewers_per_record=context.config.review.per_record,
        few_shot=context.few_shot_examples([*rows.decided, *rows.rows]),
        alternatives=rows.alternatives,
        folder=context.round.path(layout.FILTERED).parent,
        reviewers=ReviewServer.of(context).admitted,
        embedder=context.config.embedder,
        judge_opinions=_opinions(context, rows),
        in_order=rows.queue is not None,
    )
    console.print(f"  {pushed.line()}")
    if beyond := len(rows.candidates) - len(rows.asked):
        console.print(
            f"  {counted(beyond, 'row')} beyond the budget of {context.config.review.budget}"
            " reviews: not pushed, and left out unless it is raised"
        )


def _submit(context: RoundContext, server: ReviewServer, rows: ReviewRows, work: Work) -> None:
    """Submit the persona's recorded reviews, each by its reviewer's own account."""
    submitted = submit_recorded(
        context.persona_folder,
        context.persona,
        context.round.name,
        rows.pushed(context.round.name),
        server.reviewer_connections(),
    )
    # What was submitted before a kill counts too, so that the manifest does not depend on kills.
    work.counts.update(submitted=submitted.new + submitted.already, left_out=submitted.left_out)


def _wait_for_adjudicator(
    context: RoundContext,
    connection: Connection,
    rows: ReviewRows,
    reviews: list[Review],
    adjudications: list[Review],
) -> None:
    """Put what reviewers left unsettled before an adjudicator, and wait for a word on each row.

    Nothing is put or waited for where the configuration says ``unsettled: drop``.
    """
    if context.config.review.policy.unsettled == "drop":
        return
    pushed = push_unsettled(
        context, connection, rows.candidates, reviews, adjudications, rows.alternatives
    )
    if pushed is not None:
        console.print(f"  {pushed.line()}")
        _wait(context, connection, "waiting for an adjudicator", queue=True)


def push_unsettled(
    context: RoundContext,
    connection: Connection,
    rows: list[Example],
    reviews: list[Review],
    adjudications: list[Review],
    alternatives: Mapping[str, str],
) -> Pushed | None:
    """Put what the policy can't settle into the disagreement queue; None where nothing is left.

    Rows whose drop somebody contested go there too, with the note, unless an adjudicator has seen
    them. An adjudicator's word is final. ``alternatives`` is example id → the other answer of a
    pair.
    """
    policy = context.config.review.policy.model_copy(update={"unsettled": "queue"})
    resolved = resolve(
        context.persona,
        rows,
        reviews,
        policy,
        {},
        alternatives=alternatives,
        adjudications=adjudications,
    )
    notes, settled = contest_notes(context.round), {own.record for own in adjudications}
    unsettled = {decision.record for decision in resolved.queue}
    return push_queue(
        connection,
        context.persona,
        context.round.name,
        rows,
        reviews,
        unsettled | (notes.keys() - settled),
        notes=notes,
        few_shot=context.few_shot_examples(rows),
        alternatives=alternatives,
        folder=context.round.path(layout.FILTERED).parent,
        reviewers=ReviewServer.of(context).admitted,
        embedder=context.config.embedder,
    )


def _wait(context: RoundContext, connection: Connection, title: str, *, queue: bool) -> bool:
    """Print address and logins until all is reviewed that will be; return whether it had to."""
    at = connection, context.persona, context.round.name
    progress = review_progress(*at, queue=queue)
    if progress.enough():
        return False
    ReviewServer.of(context).print_logins(progress.url)
    with track(title, progress.total) as advance:
        done = 0
        while True:
            advance(progress.completed - done)
            done = progress.completed
            if progress.enough():
                return True
            time.sleep(POLL_SECONDS)
            progress = review_progress(*at, queue=queue)


def judge_opinions(
    persona: Persona, judge: Endpoint | None, rows: Sequence[Example], *, cache: Path
) -> dict[str, JudgeOpinion]:
    """Return row id → the fidelity that a judge suggests to reviewers; nothing without a judge.

    The judge is asked about each trait that needs one, the rules are about the others. The share
    of traits shown gives the score, and on the reviewers' scale from 1 to 5 the fidelity. A row
    about which the judge answered nothing gets no suggestion.

    ``rows`` are those that reviewers see alone: of a pair nothing may be suggested. ``cache`` keeps
    what the judge answered, so that a second push asks nothing.

    Raises:
        UserError: Nothing answers at the judge's address, or it refuses the key or the model.
    """
    if judge is None:
        return {}
    asked = [
        (row, question)
        for row in rows
        for question in trait_questions(persona, row.prompt, row.answer)
    ]
    with track("asking the judge", len(asked)) as advance:
        verdicts = ask_judge(judge, [question for _, question in asked], advance, cache=cache)
    values: dict[str, list[float]] = defaultdict(list)
    for (row, _), verdict in zip(asked, verdicts, strict=True):
        if verdict.value is not None:
            values[row.id].append(verdict.value)
    opinions = {}
    for row in rows:
        if row.id in values:
            by_rule = [float(bool(trait.passes(row.answer))) for trait in persona.rule_traits]
            share = fmean([*values[row.id], *by_rule])
            opinions[row.id] = JudgeOpinion(1 + round(4 * share), round(share, 2), judge.model)
    return opinions
