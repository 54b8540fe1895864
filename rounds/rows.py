"""Every row of a round in one table: where it came from, what was decided, where it ended.

In: a round on disk. Out: a :class:`RowTable`, which is filtered, searched and read page by page;
and the whole :class:`RowStory` of one row. The pages show them. Tables read lines as plain JSON, as
records cost ten times as much and only a page of them is looked at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from evaluation.report.answers import Piece, marked
from rounds import layout
from rounds.artifacts import Artifact
from rounds.context import RoundContext
from rounds.layout import RoundFolder
from rounds.lineage.history import RecordFiles, RowHistory, json_lines
from rounds.notes import CONTESTS
from workbench.near_duplicates import jaccard, shingles
from workbench.records import Contest, Decision, Drop, Messages, Response, Review, Row, Score
from workbench.text import normalize

Json = dict[str, Any]
_ROWS = (
    layout.IMPORTED,
    layout.CARRY_OVER_EXAMPLES,
    layout.GENERATED,
    layout.IMPORTED_PREFERENCES,
    layout.FILTERED,
    layout.RESOLVED,
)
_REVIEWS = (layout.CARRY_OVER_REVIEWS, layout.REVIEWS, layout.ADJUDICATIONS)
_DECISIONS = (layout.CARRY_OVER_DECISIONS, layout.DECISIONS)
_BEFORE = (layout.IMPORT_DROPS, layout.GENERATE_DROPS)
"""Stages that take out what never became a row; later ones drop pairs and probes as well."""
PAGE = 50
"""Rows of a page."""
_ALIKE = 0.2
"""Wording in common (Jaccard, shingles) from which two questions may be about one topic."""
_MOST_ALIKE = 2000
"""Rows that a question is held against, to stay within some milliseconds."""


class RowLine(NamedTuple):
    """One row as the table shows it."""

    id: str
    """Of the row as it came."""
    source: str
    origin: str
    kind: str
    topic: str
    question: str
    answer: str
    """In its last text: a correction, where somebody made one."""
    decision: str
    """An outcome of the review, ``drop`` for what a stage took out, or empty."""
    reason: str
    stage: str
    """Where it was taken out; empty for a row that stayed."""
    reviewer: tuple[str, ...]
    split: str
    text: str
    """What a search looks at."""


@dataclass(frozen=True)
class RowFilter:
    """What of a table is wanted; an empty field wants all."""

    text: str = ""
    """Words that all have to stand in question, answer or source, whatever their case."""
    topic: str = ""
    origin: str = ""
    kind: str = ""
    decision: str = ""
    reason: str = ""
    reviewer: str = ""
    split: str = ""

    def matches(self, row: RowLine, words: Sequence[str]) -> bool:
        """Return whether a row is wanted; ``words`` are those of :attr:`text`, folded."""
        return (
            all(word in row.text for word in words)
            and all(
                not (wanted := getattr(self, name)) or getattr(row, name) == wanted
                for name in ("topic", "origin", "kind", "decision", "reason", "split")
            )
            and (not self.reviewer or self.reviewer in row.reviewer)
        )


FACETS = tuple(one.name for one in fields(RowFilter) if one.name != "text")
"""Fields of a filter that have few values."""


class RowPage(NamedTuple):
    """A page of a table."""

    rows: Sequence[RowLine]
    matches: int
    """Rows that the filter leaves."""
    page: int
    """From 1."""
    pages: int


@dataclass(frozen=True)
class RowTable:
    """All rows of a round, in the order in which they came."""

    rows: Sequence[RowLine]
    facets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Field of a filter → value → rows that have it, most first."""

    @classmethod
    def read(cls, one: RoundFolder) -> RowTable:
        """Read the files of a round that say what became of its rows."""
        rows = list(_lines(one))
        facets = {name: Counter[str]() for name in FACETS}
        for row in rows:
            for name, counts in facets.items():
                value = getattr(row, name)
                counts.update(value if isinstance(value, tuple) else (value,) if value else ())
        return cls(rows, {name: dict(counts.most_common()) for name, counts in facets.items()})

    def find(self, wanted: RowFilter, page: int = 1, size: int = PAGE) -> RowPage:
        """Return a page of the rows that a filter leaves; a page past the end is the last one."""
        words = folded(wanted.text).split()
        matches = [row for row in self.rows if wanted.matches(row, words)]
        pages = max(1, -(-len(matches) // size))
        page = min(max(page, 1), pages)
        return RowPage(matches[(page - 1) * size : page * size], len(matches), page, pages)

    def topic_of(self, question: str) -> str:
        """Return the topic of the row that asks most alike; empty where none is near.

        A proposal for whoever writes a row: they choose.
        """
        own = shingles(question)
        rows = [row for row in self.rows if row.topic][:_MOST_ALIKE]
        alike = [(jaccard(own, shingles(row.question)), row.topic) for row in rows]
        share, topic = max(alike, default=(0.0, ""))
        return topic if share >= _ALIKE else ""


def table_files(one: RoundFolder) -> tuple[Artifact, ...]:
    """Return the files that a table is made of, for whoever keeps one as long as they stay."""
    every: tuple[Artifact, ...] = (
        *_ROWS,
        *layout.DROPS.values(),
        *_REVIEWS,
        *_DECISIONS,
        layout.ASSIGNMENTS,
    )
    return tuple(artifact for artifact in every if one.has(artifact))


def folded(text: str) -> str:
    """Return a text as searches compare it: composed, its case folded."""
    return normalize(text).casefold()


def _lines(one: RoundFolder) -> Iterator[RowLine]:
    first: dict[str, Json] = {}
    last: dict[str, Json] = {}
    root: dict[str, str] = {}
    for artifact in _ROWS:
        for row in json_lines(one, artifact):
            own = next((root[i] for i in (row["id"], *row["parents"]) if i in root), row["id"])
            root[row["id"]] = own
            first.setdefault(own, row)
            last[own] = row
    fates = _Fates(one, root)
    for own, row in first.items():
        yield fates.line(own, row, last[own])
    for drop in fates.strangers:
        empty = {"id": drop["record"], "source": drop.get("source", ""), "prompt": ()}
        yield fates.line(drop["record"], empty, empty)


class _Fates:
    """What became of the rows; ``root`` is id → id of the row as it came."""

    def __init__(self, one: RoundFolder, root: Mapping[str, str]) -> None:
        self.drops: dict[str, Json] = {}
        self.strangers: list[Json] = []
        """Drops of what no file holds, such as a broken line of an import."""
        for artifact in layout.DROPS.values():
            for drop in json_lines(one, artifact):
                unknown = drop["record"] not in root and drop["record"] not in self.drops
                if unknown and artifact in _BEFORE:
                    self.strangers.append(drop)
                self.drops.setdefault(root.get(drop["record"], drop["record"]), drop)
        self.decisions = {
            root.get(own["record"], ""): own
            for artifact in _DECISIONS
            for own in json_lines(one, artifact)
        }
        self.reviewers: dict[str, dict[str, None]] = defaultdict(dict)
        for reviews in _REVIEWS:
            for review in json_lines(one, reviews):
                self.reviewers[root.get(review["record"], "")][review["reviewer"]] = None
        self.splits = {
            root.get(own["record"], ""): own["split"] for own in json_lines(one, layout.ASSIGNMENTS)
        }

    def line(self, own: str, row: Json, last: Json) -> RowLine:
        """Return the line of a row as it came (``row``), and as it is now (``last``)."""
        decision, drop = self.decisions.get(own, {}), self.drops.get(own, {})
        if drop.get("stage") == layout.DECISIONS.stage and decision:
            drop = {}  # of a row that was decided on, the decision says it better
        question = next((m["content"] for m in reversed(row["prompt"]) if m["role"] == "user"), "")
        answer = last.get("answer") or last.get("chosen") or ""
        source = row.get("source", "")
        return RowLine(
            id=own,
            source=source,
            origin=last.get("origin") or row.get("origin", ""),
            kind=row.get("kind", ""),
            topic=row.get("topic", ""),
            question=question,
            answer=answer,
            decision="drop" if drop else decision.get("outcome", ""),
            reason=drop.get("reason") or decision.get("reason", ""),
            stage=drop.get("stage", ""),
            reviewer=tuple(self.reviewers.get(own, ())),
            split=self.splits.get(own, ""),
            text=f"{question}\n{answer}\n{source}".casefold(),
        )


class TraitCheck(NamedTuple):
    """Whether a row's answer shows a trait; None where only a judge can say."""

    trait: str
    """Its name."""
    passes: bool | None


class ArmAnswer(NamedTuple):
    """An arm's answer to a row's question, and the scores of it."""

    response: Response
    pieces: Sequence[Piece]
    """The answer, with the words that earned or lost a trait marked."""
    scores: Sequence[Score]


@dataclass(frozen=True)
class RowStory:
    """One row from where it came from to the scores that it moved."""

    id: str
    row: Row | None
    """As it came; None where no file of the round holds it."""
    prompt: Messages
    texts: Sequence[tuple[Row, Sequence[Piece]]]
    """Every text that its answer had, the first one first, with the words of its checks marked."""
    checks: Sequence[TraitCheck]
    """Of the last text."""
    reviews: Sequence[Review]
    decisions: Sequence[Decision]
    drops: Sequence[Drop]
    contests: Sequence[Contest]
    split: str
    baseline: str
    """The base model's own answer; empty where it was not asked."""
    answers: Sequence[ArmAnswer]
    lines: Sequence[str]
    """The same as ``persona review why`` prints it."""


def row_story(context: RoundContext, name: str, files: RecordFiles | None = None) -> RowStory:
    """Return all that a round knows of a row; ``name`` is an id, the beginning of one, or a source.

    ``files`` are those of the round, where they were read already.

    Raises:
        UserError: Nothing or more than one record is meant, or a file cannot be read.
    """
    history, persona = RowHistory(context, name, files), context.persona
    rows = history.rows
    texts = {_answer(row): row for row in reversed(rows) if _answer(row)}
    last = next(reversed([_answer(row) for row in rows if _answer(row)]), "")
    every = [drop for artifact in layout.DROPS.values() for drop in history.about(artifact)]
    # A row and its pairs are often dropped for one reason: it is said once, of the row.
    drops = list({(one.stage, one.reason, one.detail): one for one in reversed(every)}.values())[
        ::-1
    ]
    own = rows[0].id if rows else next((drop.record for drop in drops), name)
    ids = {own, *(row.id for row in rows)}
    assignments = list(history.about(layout.ASSIGNMENTS))
    return RowStory(
        id=own,
        row=rows[0] if rows else None,
        prompt=rows[0].prompt if rows else (),
        texts=[(row, _marked(context, text)) for text, row in reversed(texts.items())],
        checks=[TraitCheck(t.name, t.passes(last)) for t in persona.traits] if last else [],
        reviews=[one for artifact in _REVIEWS for one in history.about(artifact)],
        decisions=list(history.about(layout.DECISIONS)),
        drops=drops,
        contests=[one for one in context.round.read_if_there(CONTESTS) if one.record in ids],
        split=assignments[0].split if assignments else "",
        baseline=next((one.text for one in history.about(layout.BASELINE)), ""),
        answers=list(_answers(context, history)),
        lines=list(history.lines()),
    )


def _answer(row: Row) -> str:
    return str(getattr(row, "answer", "") or getattr(row, "chosen", ""))


def _marked(context: RoundContext, text: str) -> Sequence[Piece]:
    """Return a text in pieces, what earned or lost a rule trait marked."""
    passes = {trait.id: trait.passes(text) for trait in context.persona.rule_traits}
    values = {name: float(own) for name, own in passes.items() if own is not None}
    return marked(text, context.persona, values)


def _answers(context: RoundContext, history: RowHistory) -> Iterator[ArmAnswer]:
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in history.about(layout.SCORES):
        scores[score.response].append(score)
    for response in history.about(layout.RESPONSES):
        yield ArmAnswer(response, _marked(context, response.text), scores[response.id])
