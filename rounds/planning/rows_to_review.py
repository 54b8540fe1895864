"""Rows for people to look at again: disputed, not learned, or with a label that looks wrong.

In: what a plan reads of a round, once (:class:`PlanInputs`). Out: lists of rows, each with the
reason to read it once more; nothing is decided by them. Held-out rows are never listed: what
becomes of them must not follow from how a model did. :mod:`rounds.planning.proposal` calls it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from curation.label_issues import LabelledAnswer, label_quality
from curation.review.votes import about, by_record, votes_of
from evaluation.weakness import Gap, by_group
from rounds import layout
from rounds.arms import own_arms
from rounds.context import RoundContext
from rounds.layout import RoundFolder, adapter
from rounds.stages.resolve import Reviewed
from training.row_loss import RowLoss, row_losses, unlearned
from workbench.config import Policy
from workbench.console import console
from workbench.inference.adapters import CONFIG
from workbench.inference.base_models import resolve_model
from workbench.records import Decision, Example, Response, SplitName
from workbench.store import file_hash, write_json
from workbench.values import Frozen

_LEARNING: tuple[SplitName, ...] = ("train", "validation")
"""Splits whose rows are looked at."""


class RowToReview(Frozen):
    """A row for people to look at again."""

    id: str
    topic: str
    question: str


class DisputedRow(RowToReview):
    """A row whose reviewers voted for different outcomes, or rated it far apart."""

    outcome: str
    """What became of it: keep, edit, alternative, drop or queue."""
    votes: tuple[str, ...]
    """Each reviewer's vote, in words."""
    apart: int
    """Highest rating less the lowest, 0 to 4."""


class UnlearnedRow(RowToReview):
    """A row that the adapter does not know; losses in nats a token of the answer."""

    tuned: float
    base: float


class LabelIssue(RowToReview):
    """A row whose decision is not borne out by the other answers."""

    label: bool
    """True where people kept it as the persona's."""
    quality: float
    """Probability of that decision by what the other answers are like, 0 to 1."""


@dataclass(frozen=True)
class PlanInputs:
    """What a plan reads of a round, each file once."""

    splits: dict[SplitName, list[Example]]
    reviewed: Reviewed
    decisions: list[Decision]
    baseline: list[Response]

    @classmethod
    def read(cls, one: RoundFolder) -> PlanInputs:
        """Return them; splits and baseline answers that are not there are empty.

        Raises:
            UserError: Reviews or decisions are not there, or a broken file.
        """
        return cls(
            splits={split: one.read_if_there(rows) for split, rows in layout.EXAMPLES.items()},
            reviewed=Reviewed.read(one),
            decisions=one.read(layout.DECISIONS),
            baseline=one.read_if_there(layout.BASELINE),
        )

    @property
    def learning_rows(self) -> list[Example]:
        """The rows of training and validation."""
        return [row for split in _LEARNING for row in self.splits[split]]

    @property
    def held_out(self) -> set[str]:
        """Ids of the rows of the test split, and of what they were made from."""
        return {one for row in self.splits["test"] for one in (row.id, *row.parents)}


def disputed_rows(inputs: PlanInputs, policy: Policy) -> list[DisputedRow]:
    """Return the rows of training, of validation, and of no split, that reviewers split over.

    Those that wait for an adjudicator come first, then by how far ratings are apart.
    """
    held_out = inputs.held_out
    rows = {row.id: row for row in inputs.reviewed.candidates if row.id not in held_out}
    outcomes = {decision.record: decision.outcome for decision in inputs.decisions}
    settled = {review.record for review in inputs.reviewed.adjudications}
    disputed = []
    votes_about = about(votes_of(inputs.reviewed.reviews), rows.values())
    for record, votes in by_record(votes_about).items():
        if record in settled:
            continue
        ratings = [vote.fidelity for vote in votes]
        apart = max(ratings) - min(ratings)
        voted_for = {vote.outcome(policy) for vote in votes}
        if len(voted_for) > 1 or apart >= policy.apart:
            disputed.append(
                DisputedRow(
                    **_about(rows[record]),
                    outcome=outcomes.get(record, "queue"),
                    votes=tuple(vote.summary() for vote in votes),
                    apart=apart,
                )
            )
    return sorted(disputed, key=lambda one: (one.outcome != "queue", -one.apart, one.id))


def losses_of(context: RoundContext, arm: str, rows: Sequence[Example]) -> list[RowLoss]:
    """Return the loss of every row under an arm's adapter, in nats a token; none without one.

    They are kept beside the round, so that the model answers for each adapter once.
    """
    one = context.round
    stage = next((own.stage for own in own_arms(context) if own.name == arm), "")
    weights = one.path(adapter(stage))
    if not stage or not (weights / CONFIG).exists() or not rows:
        return []
    files = (weights, one.path(layout.TRAIN), one.path(layout.VALIDATION))
    memo = one.scratch("next") / f"losses-{'-'.join(file_hash(path)[:12] for path in files)}.json"
    losses = TypeAdapter(list[RowLoss])
    if not memo.exists():
        console.print(f"  the loss of {len(rows)} rows under {stage}/adapter")
        measured = row_losses(resolve_model(context.config.model), weights, rows)
        write_json(memo, losses.dump_python(measured, mode="json"))
    return losses.validate_json(memo.read_bytes())


def unlearned_rows(inputs: PlanInputs, losses: Sequence[RowLoss]) -> list[UnlearnedRow]:
    """Return the rows whose loss stands far above that of the others in their split.

    Validation rows are held against each other: beside rows that were trained on, all stand out.
    """
    outliers = []
    for split in _LEARNING:
        rows = {row.id: row for row in inputs.splits[split]}
        outliers += [
            UnlearnedRow(**_about(rows[one.id]), tuned=round(one.tuned, 4), base=round(one.base, 4))
            for one in unlearned([one for one in losses if one.id in rows])
        ]
    return outliers


def learned_gaps(inputs: PlanInputs, losses: Sequence[RowLoss], seed: int) -> list[Gap]:
    """Return of each training topic the gap of its rows' log-likelihood to the other topics'."""
    topics = {row.id: row.topic for row in inputs.splits["train"] if row.topic}
    groups: dict[str, list[float]] = defaultdict(list)
    for one in losses:
        if one.id in topics:
            groups[topics[one.id]].append(-one.tuned)
    return by_group("learned", "other_topics", groups, seed)


def label_issues(inputs: PlanInputs, seed: int) -> list[LabelIssue]:
    """Return kept rows that read like what is not the persona's, and dropped ones like the kept."""
    dropped = {decision.record for decision in inputs.decisions if decision.outcome == "drop"}
    rows = {row.id: row for row in inputs.learning_rows}
    rows |= {row.id: row for row in inputs.reviewed.filtered if row.id in dropped}
    return [
        LabelIssue(**_about(rows[one.id]), label=one.label, quality=one.quality)
        for one in label_quality(list(_labelled(inputs, dropped)), seed=seed)
        if one.issue and one.id in rows
    ]


def _labelled(inputs: PlanInputs, dropped: set[str]) -> Iterator[LabelledAnswer]:
    """Yield kept rows, dropped ones, and the base model's own answers as what is not wanted."""
    for row in inputs.learning_rows:
        yield LabelledAnswer(row.id, row.question, row.answer, True)
    for row in inputs.reviewed.filtered:
        if row.id in dropped:
            yield LabelledAnswer(row.id, row.question, row.answer, False)
    held_out = inputs.held_out
    for answer in inputs.baseline:
        if answer.text.strip() and answer.prompt_id not in held_out:
            yield LabelledAnswer(answer.id, answer.prompt[-1].content, answer.text, False)


def _about(row: Example) -> dict[str, str]:
    return {"id": row.id, "topic": row.topic, "question": row.question}
