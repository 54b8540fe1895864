"""Rows that the trained model or their neighbours speak against, for people to look at again."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from rounds.arms import CONFIG, own_arms
from rounds.context import RoundContext
from rounds.layout import adapter as adapter_of
from rounds.planning.disputed_rows import held_out
from workbench.console import console
from workbench.records import Decision, Example, Response
from workbench.store import file_hash, read_records, write_json

if TYPE_CHECKING:
    from curation.label_issues import Labelled
    from evaluation.weakness import Gap
    from training.row_loss import RowLoss

SCRATCH = ".next.scratch"
LEARNING = ("train", "validation")
"""Sides whose rows are looked at; the held-out ones never are."""


class Look(BaseModel):
    """A row for people to look at again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    topic: str
    question: str


class Unlearned(Look):
    """A row that the adapter does not know; losses in nats a token of the answer."""

    tuned: float
    base: float


class Doubtful(Look):
    """A row whose decision is not borne out by the other answers."""

    kept: bool
    quality: float
    """Probability of that decision by what the other answers are like, 0 to 1."""


def losses_of(context: RoundContext, arm: str) -> list[RowLoss]:
    """Return the loss of every row of the learning sides under an arm's adapter; none without one.

    They are kept beside the round, so that the model answers for each adapter once.
    """
    from training.row_loss import RowLoss, row_losses
    from workbench.inference.base_models import resolve_model

    stage = next((own.stage for own in own_arms(context) if own.name == arm), "")
    adapter = context.round.path(adapter_of(stage))
    rows = learning_rows(context)
    if not stage or not (adapter / CONFIG).exists() or not rows:
        return []
    files = [context.round.folder / f"split/{side}.jsonl" for side in LEARNING]
    name = "-".join(file_hash(path)[:12] for path in (adapter, *files))
    memo = context.round.folder / SCRATCH / f"losses-{name}.json"
    if not memo.exists():
        console.print(f"  the loss of {len(rows)} rows under {stage}/adapter")
        found = row_losses(resolve_model(context.config.model), adapter, rows)
        write_json(memo, [one.model_dump(mode="json") for one in found])
    return [RowLoss.model_validate(one) for one in json.loads(memo.read_text("utf-8"))]


def learning_rows(context: RoundContext) -> list[Example]:
    """Return the rows of the training and validation sides."""
    return [row for side in LEARNING for row in _rows(context, f"split/{side}.jsonl")]


def _rows(context: RoundContext, name: str) -> Iterator[Example]:
    path = context.round.folder / name
    return read_records(path, Example) if path.exists() else iter(())


def unlearned_rows(context: RoundContext, losses: list[RowLoss]) -> list[Unlearned]:
    """Return the rows whose loss stands far above that of the others on their side.

    Validation rows are held against each other: beside rows that were trained on, all stand out.
    """
    from training.row_loss import unlearned

    found = []
    for side in LEARNING:
        rows = {row.id: row for row in _rows(context, f"split/{side}.jsonl")}
        found += [
            Unlearned(**_about(rows[one.id]), tuned=round(one.tuned, 4), base=round(one.base, 4))
            for one in unlearned([one for one in losses if one.id in rows])
        ]
    return found


def learned_gaps(context: RoundContext, losses: list[RowLoss]) -> list[Gap]:
    """Return of each training topic the gap of its rows' log-likelihood to the other topics'."""
    from evaluation.weakness import by_group

    topics = {row.id: row.topic for row in _rows(context, "split/train.jsonl") if row.topic}
    groups: dict[str, list[float]] = defaultdict(list)
    for one in losses:
        if one.id in topics:
            groups[topics[one.id]].append(-one.tuned)
    return by_group("learned", "other_topics", groups, context.config.seed)


def doubtful_rows(context: RoundContext) -> list[Doubtful]:
    """Return kept rows that read like what is not the persona's, and dropped ones like the kept."""
    from curation.label_issues import find_doubts

    rows = {row.id: row for row in learning_rows(context)}
    dropped = {row.id: row for row in _dropped(context)}
    known = rows | dropped
    return [
        Doubtful(**_about(known[doubt.id]), kept=doubt.kept, quality=doubt.quality)
        for doubt in find_doubts(list(_labelled(context, rows, dropped)), seed=context.config.seed)
        if doubt.issue and doubt.id in known
    ]


def _labelled(
    context: RoundContext, rows: dict[str, Example], dropped: dict[str, Example]
) -> Iterator[Labelled]:
    from curation.label_issues import Labelled

    for kept, some in ((True, rows), (False, dropped)):
        for row in some.values():
            yield Labelled(row.id, row.question, row.answer, kept)
    path = context.round.stage("generate") / "baseline.jsonl"
    hidden = held_out(context)
    for bare in read_records(path, Response) if path.exists() else ():
        if bare.text.strip() and bare.prompt_id not in hidden:
            yield Labelled(bare.id, bare.prompt[-1].content, bare.text, False)


def _dropped(context: RoundContext) -> list[Example]:
    """Return the rows that reviewers dropped."""
    path = context.round.stage("resolve") / "decisions.jsonl"
    gone = {d.record for d in read_records(path, Decision) if d.outcome == "drop"}
    return [row for row in _rows(context, "filter/examples.jsonl") if row.id in gone]


def _about(row: Example) -> dict[str, str]:
    return {"id": row.id, "topic": row.topic, "question": row.question}
