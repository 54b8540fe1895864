"""What the reviewers of a round get to see: candidates, gold rows, a queue, a judge's suggestions.

In: the filtered rows and the imported pairs of a round, and the persona's gold rows. Out:
:class:`ReviewRows`, in the order of the push; the stage ``review`` and its commands push them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from curation.argilla.recorded import gold_with_reviews
from curation.argilla.records import JudgeOpinion
from curation.review.attention import queue_order
from curation.review.pairs import pairs_of
from curation.review.reliability import Gold, read_gold, with_gold_rows
from curation.split import assign_groups, split_rows
from rounds import layout
from rounds.carry_over import read_carry_over
from rounds.context import RoundContext
from rounds.layout import Reader
from rounds.order import nothing_left
from workbench.console import track
from workbench.inference.answer_cache import CACHE
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import ask_judge, trait_questions
from workbench.persona import Persona
from workbench.records import Example

FEW_ROWS = 500
"""Rows up to which it is tried out whether they can be split; of more, topics are counted."""


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
    opinions = opinions_on(context, rows) if people else {}
    shares = {record: opinion.score for record, opinion in opinions.items()}
    ordered = queue_order(context.persona, rows.candidates, context.round.name, shares)
    return tuple(ordered[: max(1, review.budget // review.per_record)])


def opinions_on(context: RoundContext, rows: ReviewRows) -> dict[str, JudgeOpinion]:
    """Return what a judge suggests of the rows that reviewers see alone, asked once a round."""
    return judge_opinions(
        context.persona,
        context.config.judge,
        [*rows.rows, *rows.gold.examples],
        cache=context.round.scratch(layout.REVIEWS.stage) / CACHE,
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
