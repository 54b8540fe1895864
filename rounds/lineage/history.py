"""The history of one row, read off the files of its round.

In: a round, and the name of any record in it. Out: lines in the order of stages: where the row came
from, who said what of it, and what became of it. ``persona review why`` prints them.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any, TypeVar

from curation.review.reliability import read_gold
from rounds import layout
from rounds.artifacts import Artifact, Records
from rounds.context import RoundContext
from rounds.layout import RoundFolder, trained_rows
from workbench.config import Method
from workbench.errors import UserError, nearest
from workbench.records import Record, Review, Row, Score
from workbench.store import file_hash, parse_json_line, read_json_lines
from workbench.text import shortened

R = TypeVar("R", bound=Record)
_REVIEWS: dict[Records[Review], str] = {
    layout.CARRY_OVER_REVIEWS: "reviewed in an earlier round",
    layout.REVIEWS: "review",
    layout.GOLD_REVIEWS: "gold",
    layout.ADJUDICATIONS: "adjudicated",
}
_TRAINED_ON: dict[Method, Records[Any]] = {"sft": layout.TRAIN, "dpo": layout.PREFERENCES["train"]}
_SOURCES = (layout.IMPORT_DROPS, layout.IMPORTED_PREFERENCES, layout.IMPORTED, layout.GOLD)
"""Files whose records can be called by where they came from."""
_MOST_NAMED = 5
_short = partial(shortened, characters=160)


def history(context: RoundContext, name: str) -> list[str]:
    """Return the history of a row as lines, in the order of stages.

    ``name`` is a record's id or the beginning of one, or a row's source such as ``seeds.jsonl:17``.

    Raises:
        UserError: Nothing or more than one record is meant, or a file cannot be read.
    """
    return list(RowHistory(context, name).lines())


class RecordFiles:
    """Every file of records of a round, of which only the lines that are asked after are parsed.

    A row is named in a handful of lines among ten thousands. To look for its quoted name takes a
    hundredth of the time that parsing them does.
    """

    def __init__(self, one: RoundFolder) -> None:
        every = [artifact for artifacts in layout.RECORDS.values() for artifact in artifacts]
        self.places = {artifact: one.path(artifact) for artifact in every}
        self._bytes = {
            artifact: path.read_bytes() if path.exists() else b""
            for artifact, path in self.places.items()
        }

    @cached_property
    def rows(self) -> list[Records[Any]]:
        """The files of rows, in the order of stages."""
        return [artifact for artifact in self.places if issubclass(artifact.model, Row)]

    def naming(self, artifact: Records[Any], names: Iterable[str]) -> list[dict[str, Any]]:
        """Return the lines of a file in which one of the names stands as a whole value."""
        quoted = (re.escape(json.dumps(name, ensure_ascii=False).encode()) for name in names)
        return self._lines(artifact, rb"|".join(quoted))

    def own(self, artifact: Records[Any], name: str) -> list[dict[str, Any]]:
        """Return the lines of a file whose record's id begins with ``name``."""
        beginning = re.escape(json.dumps(name, ensure_ascii=False).encode()[:-1])
        lines = self._lines(artifact, rb'"id"\s*:\s*' + beginning)
        return [line for line in lines if line["id"].startswith(name)]

    def _lines(self, artifact: Records[Any], pattern: bytes) -> list[dict[str, Any]]:
        text, path, end = self._bytes[artifact], self.places[artifact], -1
        lines = []
        for match in re.finditer(pattern, text):
            if match.start() < end:
                continue
            begin = text.rfind(b"\n", 0, match.start()) + 1
            end = text.find(b"\n", match.end())
            end = len(text) if end < 0 else end
            number = text.count(b"\n", 0, begin) + 1
            lines.append(parse_json_line(path, number, text[begin:end]))
        return lines


def json_lines(one: RoundFolder, artifact: Artifact) -> Iterator[dict[str, Any]]:
    """Yield the lines of an artifact as plain JSON; none where it is not there, or is empty."""
    path = one.path(artifact)
    if path.exists() and path.stat().st_size:
        yield from (row for _, row in read_json_lines(path))


def _named(files: RecordFiles, name: str, where: str) -> dict[str, Any]:
    # The first file that holds a record has it as it came.
    every = {row["id"]: row for own in reversed(files.places) for row in files.own(own, name)}
    matches = {name} & every.keys() or _of_source(files, name) or every.keys()
    if len(matches) == 1:
        (match,) = matches
        return every.get(match) or next(
            row for artifact in files.places for row in files.own(artifact, match)
        )
    if matches:
        some = ", ".join(sorted(matches)[:_MOST_NAMED])
        what = f"{len(matches)} records are meant by '{name}'"
        raise UserError(what, where=where, fix=f"such as {some}")
    known = [row["id"] for artifact in files.places for row in files.own(artifact, "")]
    known = [row.get("source", "") for own in _SOURCES for row in files.own(own, "")] + known
    fix = nearest(name, known) or "give a record's id, or a source: seeds.jsonl:17"
    raise UserError(f"no record is meant by '{name}'", where=where, fix=fix)


def _of_source(files: RecordFiles, name: str) -> set[str]:
    lines = (row for artifact in _SOURCES for row in files.naming(artifact, [name]))
    return {row["id"] for row in lines if row.get("source") == name}


def _subject(row: dict[str, object]) -> str:
    """Return the row that a record is about, itself where it is one."""
    return str(row.get("prompt_id") or row.get("record") or row["id"])


def _reached(start: str, steps: Callable[[str], Iterable[str]]) -> set[str]:
    """Return all that is reached from ``start``, itself too."""
    reached, left = {start}, [start]
    while left:
        for one in steps(left.pop()):
            if one not in reached:
                reached.add(one)
                left.append(one)
    return reached


class RowHistory:
    """A row, what it was made from, and what was made of it.

    ``name`` is as in :func:`history`; ``files`` are those of the round, where they were read.

    Raises:
        UserError: As :func:`history`.
    """

    def __init__(self, context: RoundContext, name: str, files: RecordFiles | None = None) -> None:
        self._context, self._files = context, files or RecordFiles(context.round)
        files = self._files
        subject = _subject(_named(files, name, str(context.round.folder)))

        def before(record: str) -> Iterator[str]:
            for artifact in files.rows:
                for line in files.own(artifact, record):
                    yield from line.get("parents", ()) if line["id"] == record else ()

        def after(record: str) -> Iterator[str]:
            for artifact in files.rows:
                for line in files.naming(artifact, [record]):
                    yield from (line["id"],) if record in line.get("parents", ()) else ()

        related = _reached(subject, before) | _reached(subject, after)
        rows: dict[str, Row] = {}
        for artifact in files.rows:
            for line in files.naming(artifact, related):
                if line["id"] in related and line["id"] not in rows:
                    rows[line["id"]] = artifact.model.model_validate(line)
        self.rows = list(rows.values())
        """The row as it came, and what became of it, in the order of stages."""
        self._known = {*(row.id for row in self.rows), subject}
        self._answers = {row.id: str(getattr(row, "answer", "")) for row in self.rows}

    def lines(self) -> Iterator[str]:
        """Yield the history."""
        yield from self._origin()
        for stage in ("import", "generate", "filter"):
            yield from self._dropped(layout.DROPS[stage])
        yield from self._filtered()
        yield from self._reviewed()
        yield from self._decided()
        yield from self._dropped(layout.SPLIT_DROPS)
        yield from self._used()
        yield from self._evaluated()

    def about(self, artifact: Records[R]) -> Iterator[R]:
        """Yield the records of a file that are about the row."""
        model = artifact.model
        lines = self._files.naming(artifact, self._known)
        return (model.model_validate(line) for line in lines if _subject(line) in self._known)

    def _origin(self) -> Iterator[str]:
        for row in self.rows[:1]:
            topic = f", topic {self._context.persona.topic_name(row.topic)}" if row.topic else ""
            yield f"{row.id}: {row.origin} row from {row.source or 'no named source'}{topic}"
            yield f"  question: {_short(row.prompt[-1].content)}"
            for key in ("answer", "chosen", "rejected"):
                if text := getattr(row, key, ""):
                    yield f"  {key}: {_short(text)}"
        for gold in self.about(layout.GOLD):
            outcome = self._gold_outcomes.get(gold.id, "no longer among the gold rows")
            use = "it tests reviewers and is never trained on"
            yield f"gold: the known outcome is {outcome}; {use}"
        for answer in self.about(layout.BASELINE):
            yield f"generate: the base model answered {answer.id}: {_short(answer.text)}"

    @cached_property
    def _gold_outcomes(self) -> Mapping[str, str]:
        context = self._context
        return read_gold(context.persona_folder, context.config.review.policy).outcomes

    def _dropped(self, artifact: Records[Any]) -> Iterator[str]:
        for drop in self.about(artifact):
            source = f" ({drop.source})" if not self.rows and drop.source else ""
            yield f"{drop.stage}: {drop.record}{source} dropped: {drop.reason}, {drop.detail}"

    def _filtered(self) -> Iterator[str]:
        rows: Iterable[Row] = (
            *self.about(layout.FILTERED),
            *self.about(layout.FILTERED_PREFERENCES),
        )
        for row in rows:
            masked = any(parent in self._known for parent in row.parents)
            yield f"filter: {f'masked, now {row.id}' if masked else 'kept'}"

    def _reviewed(self) -> Iterator[str]:
        for artifact, verb in _REVIEWS.items():
            for review in self.about(artifact):
                yield f"{verb}: {review.id} {review.reviewer} at {review.at}:"
                yield f"  {_review_text(review, self._answers.get(review.record, ''))}"

    def _decided(self) -> Iterator[str]:
        decisions = list(self.about(layout.DECISIONS))
        for decision in decisions:
            reason = f" ({decision.reason})" if decision.reason else ""
            yield f"resolve: {decision.outcome}{reason}: {decision.detail}"
        decided = {decision.record for decision in decisions if decision.reason}
        for drop in self.about(layout.RESOLVE_DROPS):
            if drop.record not in decided:
                yield f"resolve: {drop.record} dropped: {drop.reason}, {drop.detail}"
        for row in self.about(layout.RESOLVED):
            before = self._answers.get(row.parents[0] if row.parents else "", row.answer)
            if row.origin == "edit" and row.answer.split() != before.split():
                yield f"resolve: corrected, now {row.id}: {_short(row.answer)}"
        for pair in self.about(layout.RESOLVED_PREFERENCES):
            yield f"resolve: pair {pair.id}, preferred to: {_short(pair.rejected)}"

    def _used(self) -> Iterator[str]:
        """Yield the row's split, and the adapters that were trained on it."""
        for assignment in self.about(layout.ASSIGNMENTS):
            yield f"split: {assignment.record} in {assignment.split}, group {assignment.group}"
        for method, artifact in _TRAINED_ON.items():
            if any(True for _ in self.about(artifact)) and self._was_input(method, artifact):
                own = trained_rows(method)
                one = self._context.round
                direct = not one.has(own) or any(row.id in self._known for row in one.read(own))
                which = "the adapter" if direct else "the adapter that it started from"
                yield f"{method}: {which} was trained on it"

    def _was_input(self, stage: str, artifact: Records[Any]) -> bool:
        """Return whether a finished stage read the file as it is now."""
        one = self._context.round
        manifest = one.manifest(stage)
        if manifest is None:
            return False
        return manifest.inputs.get(artifact.path) == file_hash(one.path(artifact))

    def _evaluated(self) -> Iterator[str]:
        scores: dict[str, list[Score]] = defaultdict(list)
        for score in self.about(layout.SCORES):
            scores[score.response].append(score)
        for response in self.about(layout.RESPONSES):
            values = [
                f"{score.metric} {score.value:.2f}"
                for score in scores[response.id]
                if score.value is not None
            ]
            answer = _short(response.text)
            yield f"evaluate: {response.arm} answered {response.id}: {answer}"
            yield f"  {', '.join(values) or 'not scored'}"


def _review_text(review: Review, answer: str) -> str:
    if review.status != "submitted":
        return review.status
    answers = review.answers
    parts = (
        f"fidelity {answers.get('fidelity')}",
        f"better: {answers['better']}" if answers.get("better") else "",
        f"problems: {', '.join(answers['problems'])}" if answers.get("problems") else "",
        f"corrected: {_short(text)}" if (text := review.correction(answer)) else "",
        f"note: {_short(answers['note'])}" if answers.get("note") else "",
    )
    return "; ".join(part for part in parts if part)
