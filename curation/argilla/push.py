"""Push a round's rows to Argilla, once, and what the policy can't settle to a queue beside them.

The rows come from the review stage; a row's record has its id, so a push that broke off goes on
where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from curation.argilla.client import (
    Connection,
    admit,
    connected,
    dataset_name,
    find_dataset,
    patch,
    records_of,
    workspace_of,
)
from curation.argilla.dataset import (
    DatasetShape,
    compared_by,
    held_shape,
    problem_labels,
    seal_of,
    settings,
)
from curation.argilla.pictures import pictures_of
from curation.argilla.records import CANDIDATE_FIRST, JudgeOpinion, order_of, place_of, records
from curation.argilla.similar import held_similarity, similarity
from curation.review.resolve import folded
from curation.review.votes import ReviewVote, about, by_record, votes_of
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.embedder import NGRAMS
from workbench.language import say
from workbench.persona import Persona
from workbench.records import Example, Review
from workbench.text import counted

if TYPE_CHECKING:
    from argilla import Argilla, Dataset, Record, Settings

    from workbench.inference.endpoint import Endpoint


BATCH = 250
"""Records sent in one request; Argilla takes 500."""
BATCH_OF_PICTURES = 10
"""Records with pictures sent in one request: some megabytes."""
IN_ORDER = "in_order"
"""Key of a dataset's metadata by which the embedded server keeps the order of a push."""


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    dataset: str
    new: int
    already: int
    """Records that were there before and were left as they are."""

    def line(self, noun: str = "row") -> str:
        """Return in one line what was pushed where."""
        return f"{self.dataset}: {counted(self.new, noun)} pushed, {self.already} there before"


def push(
    connection: Connection,
    persona: Persona,
    round_name: str,
    examples: Sequence[Example],
    *,
    reviewers_per_record: int,
    few_shot: Sequence[Example] = (),
    alternatives: Mapping[str, str] | None = None,
    judge_opinions: Mapping[str, JudgeOpinion] | None = None,
    opinions: Mapping[str, str] | None = None,
    folder: Path | None = None,
    reviewers: Collection[str] | None = None,
    embedder: str | Endpoint = NGRAMS,
    in_order: bool = False,
) -> Pushed:
    """Make the round's dataset where it is missing and add the rows that it lacks.

    A UserError says that it was pushed otherwise, or that Argilla does not do it.

    Args:
        connection: With an owner's key, or an admin's of the workspace.
        persona: The specification, rendered as guidelines.
        round_name: Such as ``round-001``.
        examples: The rows; a record has its example's id.
        reviewers_per_record: Submitted reviews that complete a record.
        few_shot: Right answers for the guidelines.
        alternatives: Example id → another answer to compare the candidate with, unless the same.
        judge_opinions: Example id → what a judge model suggests.
        opinions: Example id → the reviewers' opinions; makes it the disagreement queue.
        folder: What the pictures of rows are relative to.
        reviewers: Accounts that get the persona's workspace; by default all that label.
        embedder: The configuration's, for "find similar"; a dataset that is there keeps its own.
        in_order: Reviewers meet the rows in this order (on the embedded server).
    """
    name = dataset_name(persona.id, round_name, queue=opinions is not None)
    pairs = _compared(examples, alternatives or {})
    pictures = _pictures(examples, pairs, round_name, folder)
    needed = _needed(examples, alternatives, pictures, queue=opinions is not None)
    wants = partial(settings, persona, few_shot, min_submitted=reviewers_per_record)
    by, rows = (embedder, persona.language), {row.id: row for row in examples}
    with connected(connection) as client:
        dataset = _opened(client, connection, name, wants, needed, by, pairs=bool(pairs))
        if in_order:
            patch(client, f"datasets/{dataset.id}", {"metadata": {IN_ORDER: True}})
        admit(client, dataset.workspace, reviewers)
        new = _lacking(client, dataset, rows)
        rest = pairs, judge_opinions or {}, opinions, pictures
        _send(client, dataset, new, partial(records, persona, round_name), rest, by)
    return Pushed(name, len(new), len(rows) - len(new))


def _lacking(client: Argilla, dataset: Dataset, rows: Mapping[str, Example]) -> list[Example]:
    """Return the rows that a dataset has no record of."""
    held = {item["external_id"] for item in records_of(client, dataset)}
    return [row for record, row in rows.items() if record not in held]


def _compared(examples: Sequence[Example], alternatives: Mapping[str, str]) -> dict[str, str]:
    """Return the alternatives that differ from their candidates."""
    return {
        row.id: text
        for row in examples
        if (text := alternatives.get(row.id)) and folded(text) != folded(row.answer)
    }


def _pictures(
    examples: Sequence[Example], pairs: Mapping[str, str], round_name: str, folder: Path | None
) -> dict[str, list[str]]:
    """Return example id → its pictures, those of answers in the order in which they are shown."""
    pictures = {}
    for row in examples:
        answers = [row.answer, *([pairs[row.id]] if row.id in pairs else [])]
        if order_of(row, round_name) != CANDIDATE_FIRST:
            answers.reverse()
        pictures[row.id] = pictures_of(row, answers, folder)
    return pictures


def _batches(rows: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    with track("sending rows to Argilla", len(rows)) as advance:
        for at in range(0, len(rows), size):
            yield rows[at : at + size]
            advance(len(rows[at : at + size]))


def _send(
    client: Argilla,
    dataset: Dataset,
    rows: Sequence[Example],
    make: Callable[..., list[Record]],
    rest: tuple[object, ...],
    by: tuple[str | Endpoint, str],
) -> None:
    """Send rows' records, which ``make`` makes of a batch, the rest, and what the dataset shows."""
    similar = held_similarity(*by, dataset.settings.vectors) if rows else None
    shape = held_shape(dataset.settings)
    for batch in _batches(rows, BATCH_OF_PICTURES if shape.pictures else BATCH):
        made = make(batch, *rest, similar, chats=shape.chats)
        for record in made:
            record.dataset = dataset
        client.api.records.bulk_create(dataset.id, [record.api_model() for record in made])


def _needed(
    examples: Sequence[Example],
    alternatives: Mapping[str, str] | None,
    pictures: Mapping[str, Sequence[str]],
    *,
    queue: bool,
) -> DatasetShape:
    """Return the shape of a dataset that shows these rows."""
    return DatasetShape(
        # A later push may add the pairs: what reviewers are asked must not depend on it.
        bool(alternatives),
        max(map(len, pictures.values()), default=0),
        queue=queue,
        chats=any(len(row.prompt) > 1 for row in examples),
    )


def _opened(
    client: Argilla,
    connection: Connection,
    name: str,
    wants: Callable[[DatasetShape], Settings],
    needed: DatasetShape,
    by: tuple[str | Endpoint, str],
    *,
    pairs: bool,
) -> Dataset:
    """Return the round's dataset, made where it is missing.

    Raises:
        UserError: It is there, and was pushed with other settings, or has no field for rows' second
            answers (``pairs``) or pictures: it cannot get another one.
    """
    dataset = find_dataset(client, name)
    if dataset is None:
        return _made(client, name, compared_by(wants(needed), similarity(*by)))
    shape = held_shape(dataset.settings)
    lacks = {
        "second answer": pairs and not shape.pairs,
        "picture": needed.pictures > shape.pictures,
    }
    if lacking := [what for what, missing in lacks.items() if missing]:
        raise UserError(
            f"'{dataset.name}' was pushed without a field for rows' {' or '.join(lacking)}, which"
            " some rows have now, and Argilla adds none",
            where=connection.url,
            fix="review it as it is, and import those rows into a new round",
        )
    _check_same(connection, dataset, wants(shape))
    return dataset


def _made(client: Argilla, name: str, wanted: Settings) -> Dataset:
    """Make the round's dataset in its persona's workspace."""
    from argilla import Dataset, Workspace

    own = workspace_of(name)
    spaces = [space for space in client.workspaces.list() if space.name == own]
    space = spaces[0] if spaces else Workspace(name=own, client=client).create()
    return Dataset(name=name, workspace=space, settings=wanted, client=client).create()


def _check_same(connection: Connection, dataset: Dataset, wanted: Settings) -> None:
    """Refuse rows that other reviewers' rows of this dataset were not asked the same about."""
    before, now = (seal_of(part.guidelines) for part in (dataset.settings, wanted))
    if before != now:
        raise UserError(
            f"'{dataset.name}' was pushed with another specification or other settings"
            f" ({before or 'unknown'}, now {now})",
            where=connection.url,
            fix="review it as it is, or start a new round with the changed persona",
        )
    wants = wanted.distribution.min_submitted
    if dataset.settings.distribution.min_submitted != wants:
        raise UserError(
            f"'{dataset.name}' asks for {dataset.settings.distribution.min_submitted} reviewers"
            f" per record, not {wants}",
            where=connection.url,
            fix="keep that number, or start a new round",
        )


def push_queue(
    connection: Connection,
    persona: Persona,
    round_name: str,
    examples: Sequence[Example],
    reviews: Iterable[Review],
    queue: Collection[str],
    *,
    notes: Mapping[str, str] | None = None,
    few_shot: Sequence[Example] = (),
    alternatives: Mapping[str, str] | None = None,
    folder: Path | None = None,
    reviewers: Collection[str] | None = None,
    embedder: str | Endpoint = NGRAMS,
) -> Pushed | None:
    """Push the queued records to a dataset of their own; None where nothing is queued.

    One submitted review settles a record there. Errors are those of :func:`push`.

    Args:
        connection: With an owner's or admin's key.
        persona: The specification.
        round_name: Such as ``round-001``.
        examples: The reviewed candidates.
        reviews: All reviews of the round.
        queue: Ids of what :func:`curation.review.resolve.resolve` left unsettled; contested rows.
        notes: Example id → what was said against its drop.
        few_shot: Right answers for the guidelines.
        alternatives: Example id → the other answer of a pair.
        folder: What the pictures of rows are relative to.
        reviewers: As for :func:`push`.
        embedder: As for :func:`push`.
    """
    if not (rows := [one for one in examples if one.id in queue]):
        return None
    votes, against = by_record(about(votes_of(reviews), rows)), notes or {}
    opinions = ((row, votes.get(row.id, ()), against.get(row.id, "")) for row in rows)
    return push(
        connection,
        persona,
        round_name,
        rows,
        reviewers_per_record=1,
        few_shot=few_shot,
        alternatives=alternatives,
        folder=folder,
        opinions={one[0].id: opinions_of(persona, round_name, *one) for one in opinions},
        reviewers=reviewers,
        embedder=embedder,
    )


def opinions_of(
    persona: Persona,
    round_name: str,
    example: Example,
    votes: Iterable[ReviewVote],
    contest: str = "",
) -> str:
    """Return what each reviewer said of ``example``, in the persona's language.

    ``contest`` is what somebody said against its drop; it comes first.
    """

    def phrase(key: str, **values: object) -> str:
        return say(persona.language, f"review.opinion{key}", **values)

    labels = problem_labels(persona)
    parts = [phrase(".contest", note=contest)] if contest else []
    for vote in votes:
        lines = [phrase("", reviewer=vote.reviewer, fidelity=vote.fidelity)]
        if vote.better:
            place = place_of(vote.better, order_of(example, round_name))
            better = say(persona.language, f"review.question.better.{place}")
            lines.append(phrase(".better", better=better))
        if vote.problems:
            names = [labels.get(problem, problem) for problem in sorted(vote.problems)]
            lines.append(phrase(".problems", problems=", ".join(names)))
        if vote.corrected:
            lines.append(phrase(".corrected", corrected=vote.corrected))
        if vote.note:
            lines.append(phrase(".note", note=vote.note))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)
