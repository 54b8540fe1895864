"""Rows that people bring: every one read, or told with file and line, or dropped with a reason.

In: a file or folder of rows in any format (:mod:`workbench.row_files`) and shape
(:mod:`generation.row_shapes`), or a chat's reply. Out: :class:`Imported` records, in which rows
read are rows kept and rows dropped. The stage ``import`` and ``persona import --dry-run`` call it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from generation.row_columns import BadRow, Columns
from generation.row_shapes import ParsedRow, parse_row
from generation.served_logs import served_row
from workbench.console import console
from workbench.errors import UserError, UserErrors, nearest
from workbench.inference.reasoning import separate
from workbench.persona import Persona
from workbench.records import (
    Drop,
    Example,
    Messages,
    Origin,
    Preference,
    Row,
    UnpairedPreference,
)
from workbench.row_files import FolderReading, row_files
from workbench.row_reading import Mistake, RawRow, Reading
from workbench.text import changes_line, counted, normalize

STAGE = "import"
MOST_ERRORS = 20
"""Mistakes that are told of one file; the rest is counted."""
_REASONED = "reasoning taken off {}"
_SAME, _CHANGED = "{} of ours, ids as before", "{} of ours changed since, with new ids"
_INLINE = re.compile(r"data:image/[a-z+]+;base64,")
_REMOTE = ("http:", "https:", "data:", "s3:", "gs:", "hf:")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")


@dataclass(frozen=True)
class Imported:
    """What an import kept and what it left out; together these are the rows that were read."""

    examples: list[Example] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    """Shape → rows of it that could be read."""
    formats: list[str] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    pictures: dict[str, Path | bytes] = field(default_factory=dict)
    """Name by content → where a picture is, or the picture."""
    notes: list[str] = field(default_factory=list)
    """One line for each thing about the file that its owner should know."""
    mistakes: list[UserError] = field(default_factory=list)
    """Of the rows that were dropped since they are wrong."""

    @property
    def rows(self) -> int:
        """Rows read: kept and dropped."""
        return len(self.examples) + len(self.preferences) + len(self.dropped)


def import_rows(
    path: Path,
    persona: Persona | None,
    *,
    topic: str = "",
    origin: Origin = "imported",
    columns: Mapping[str, str] = MappingProxyType({}),
    skip_bad: bool = False,
    label: str = "",
    pictures: str = "",
    served: bool = False,
) -> Imported:
    """Return the rows of a file or folder in their order, exact repetitions dropped.

    Shapes may be mixed.

    Args:
        path: The file or folder.
        persona: Names the topics that are allowed, and becomes a parent of every row.
        topic: Topic of the rows that name none.
        origin: Where the rows come from.
        columns: Our name of a column → the file's, where it is not plain.
        skip_bad: Drop the rows that are wrong, each with its reason, instead of raising.
        label: Names the file in the rows' ``source``; by default its name.
        pictures: Folder that pictures will lie in, as rows name it.
        served: It is a log of a served model (:mod:`generation.served_logs`).

    Raises:
        UserError: The file cannot be read, or rows are wrong: each with its line, up to
            :data:`MOST_ERRORS` at once. Nothing is imported then.
    """
    topic, result = _known_topic(topic, persona, "topic"), Imported(columns=Columns({**columns}))
    reader = _SourceReader(persona, topic, origin, pictures, served, result)
    for reading, rows in row_files(path, reader.result.columns.known):
        inside = reading.path.relative_to(path).as_posix() if reading.path != path else ""
        name = "/".join(part for part in (label or path.name, inside) if part)
        reader.read(reading, rows, name)
    reader.finish(path.name)
    result.columns.check(str(path))
    if not result.rows:
        fix = "one JSON object a line, or a table with a line of column names"
        raise UserError("no row is in it", where=str(path), fix=fix)
    if result.mistakes and not skip_bad:
        raise UserErrors(_first(result.mistakes, path))
    for note in result.notes:
        console.print(f"  {note}", markup=False)
    return result


@dataclass
class _SourceReader:
    """The files of one source, row by row."""

    persona: Persona | None
    topic: str
    origin: Origin
    pictures: str
    served: bool
    result: Imported
    seen: dict[tuple[object, ...], str] = field(default_factory=dict)
    liked: dict[Messages, str] = field(default_factory=dict)
    """Prompt → the first answer that a label calls desirable."""
    disliked: list[tuple[ParsedRow, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """What a note is made of → rows: reasoning taken off, ids kept or lost."""
    shown: set[Path] = field(default_factory=set)
    """Files of the pictures that rows name."""

    @cached_property
    def parents(self) -> tuple[str, ...]:
        # Once for all rows: it is a hash of the whole specification.
        return (self.persona.record_id,) if self.persona else ()

    def read(self, reading: Reading, rows: Iterator[RawRow], name: str) -> None:
        """Take up the rows of one file."""
        done = 0
        for row in rows:
            self._mistakes(reading, name, done)
            done = len(reading.mistakes)
            self._row(reading, row, f"{name}:{row.place}")
        self._mistakes(reading, name, done)
        self.result.formats.extend(reading.formats)
        if isinstance(reading, FolderReading):
            reading.beside = [one for one in reading.beside if one.resolve() not in self.shown]
        self.result.notes.extend(f"{reading.path.name}: {note}" for note in reading.notes())

    def _mistakes(self, reading: Reading, name: str, first: int) -> None:
        for mistake in reading.mistakes[first:]:
            self._bad(mistake, reading.path, f"{name}:{mistake.place}", mistake.what)

    def _bad(self, mistake: Mistake, path: Path, source: str, content: str) -> None:
        error = mistake.error(path)
        digest = hashlib.sha256(f"{source}\0{content}".encode(errors="replace")).hexdigest()
        self.result.mistakes.append(error)
        about = {"detail": error.what, "source": source, "parents": self.parents}
        self._drop(f"row-{digest[:16]}", mistake.reason, **about)

    def _drop(self, record: str, reason: str, **about: Any) -> None:
        self.result.dropped.append(Drop(record=record, stage=STAGE, reason=reason, **about))

    def _row(self, reading: Reading, raw: RawRow, source: str) -> None:
        try:
            data = served_row(raw.data) if self.served else raw.data
            row = self._without_reasoning(parse_row(data, self.result.columns))
            row = row._replace(topic=_known_topic(row.topic, self.persona, ""))
            row = row._replace(images=tuple(self._picture(reading.path, one) for one in row.images))
        except BadRow as error:
            self._bad(
                Mistake(raw.place, error.what, error.fix, error.reason),
                reading.path,
                source,
                json.dumps(raw.data, default=str),
            )
            return
        self.result.shapes[row.shape] += 1
        row = self._known(row)
        if row.label is False:
            self.disliked.append((row, source))
            return
        if row.label:
            self.liked.setdefault(row.prompt, row.answer)
        self._take(row, source)

    def _without_reasoning(self, row: ParsedRow) -> ParsedRow:
        """Return a row without the reasoning in its answers.

        Raises:
            BadRow: Nothing else is in one of them, or nothing tells two of them apart.
        """
        texts = [row.answer, row.rejected or "", *_answers(row.prompt)]
        apart = {text: separate(text) for text in texts}
        if not any(one.reasoning or one.unended for one in apart.values()):
            return row
        if not all(one.text for text, one in apart.items() if text):
            what = "an answer is reasoning that never ends"
            raise BadRow(what, "give the answer that stands behind it", "cut_off")
        if row.rejected and apart[row.answer].text == apart[row.rejected].text:
            raise BadRow("chosen and rejected differ in their reasoning alone", "", "no_preference")
        self.counts[_REASONED] += 1
        prompt = tuple(
            message.model_copy(update={"content": apart[message.content].text})
            if message.role == "assistant"
            else message
            for message in row.prompt
        )
        rejected = apart[row.rejected].text if row.rejected else row.rejected
        return row._replace(prompt=prompt, answer=apart[row.answer].text, rejected=rejected)

    def _known(self, row: ParsedRow) -> ParsedRow:
        """Count a row of ours by its id; one that was changed since names its old id as parent."""
        if not row.own:
            return row
        record: Row = self._record(row, "")
        if unpaired := row.own.startswith(UnpairedPreference.prefix) and row.label is not None:
            record = UnpairedPreference(answer=row.answer, label=row.label, **self._shared(row, ""))
        changed = record.id != row.own
        self.counts[_CHANGED if changed else _SAME] += 1
        return row._replace(parents=(*row.parents, row.own)) if changed and not unpaired else row

    def _take(self, row: ParsedRow, source: str) -> None:
        record = self._record(row, source)
        first = self.seen.setdefault((row.prompt, row.answer, row.rejected), source)
        if first != source:
            self._drop_record(record, "exact_duplicate", f"the same as {first}")
        elif isinstance(record, Preference):
            self.result.preferences.append(record)
        else:
            self.result.examples.append(record)

    def _drop_record(self, record: Example | Preference, reason: str, detail: str) -> None:
        about = {"detail": detail, "source": record.source, "parents": record.parents}
        self._drop(record.id, reason, **about)

    def _shared(self, row: ParsedRow, source: str) -> dict[str, Any]:
        return {
            "prompt": row.prompt,
            "topic": row.topic or self.topic,
            "kind": row.kind,
            "images": row.images,
            "origin": self.origin,
            "source": source,
            "parents": (*self.parents, *row.parents),
        }

    def _record(self, row: ParsedRow, source: str) -> Example | Preference:
        shared = self._shared(row, source)
        if row.rejected is None:
            return Example(answer=row.answer, **shared)
        return Preference(chosen=row.answer, rejected=row.rejected, **shared)

    def _picture(self, path: Path, value: object) -> str:
        """Return the name of a picture by its content, and take the picture up."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str) and (inline := _INLINE.match(value)):
            with suppress(ValueError):
                value = base64.b64decode(value[inline.end() :], validate=True)
        if isinstance(value, str) and value:
            if value.startswith(_REMOTE):
                fix = "save it beside the file and name its path"
                raise BadRow(f"the picture '{value[:60]}' is no file", fix, "no_picture")
            file = path.parent / value
            try:
                if file.suffix.lower() not in _PICTURES or not file.is_file():
                    what = f"there is no picture '{value[:60]}'"
                    raise BadRow(what, "check the path", "no_picture")
                content, suffix = file.read_bytes(), file.suffix.lower()
            except OSError as error:
                what = f"the picture '{value[:60]}' cannot be read ({error.strerror or error})"
                raise BadRow(what, "check the path", "no_picture") from None
            picture: Path | bytes = file
            self.shown.add(file.resolve())
        elif isinstance(value, bytes):
            content, suffix, picture = value, ".png", value
        else:
            raise BadRow("a picture is neither a path nor a picture", reason="no_picture")
        name = f"{hashlib.sha256(content).hexdigest()[:16]}{suffix}"
        self.result.pictures[name] = picture
        return f"{self.pictures}/{name}" if self.pictures else str(value)

    def finish(self, name: str) -> None:
        """Put answers that were turned down beside a liked one, and write the notes."""
        for row, source in self.disliked:
            chosen = self.liked.get(row.prompt)
            if chosen is not None and chosen != row.answer:
                pair = row._replace(shape="preference", answer=chosen, rejected=row.answer)
                self._take(pair, source)
            else:
                record = self._record(row, source)
                why = "no liked answer to the same question"
                self._drop_record(record, "unpaired_rejected", why)
        columns = self.result.columns
        notes = [
            note.format(counted(self.counts[note], "row"))
            for note in (_REASONED, _SAME, _CHANGED)
            if self.counts[note]
        ]
        if changes := changes_line(columns.changes):
            notes.append(changes)
        if unknown := ", ".join(columns.passed_over()):
            notes.append(f"columns passed over: {unknown}")
        self.result.notes.extend(f"{name}: {note}" for note in notes)


def _answers(prompt: Messages) -> list[str]:
    return [message.content for message in prompt if message.role == "assistant"]


def _known_topic(topic: str, persona: Persona | None, where: str) -> str:
    """Return the id of a topic that is named by its id or as a reader sees it."""
    topic = normalize(topic)
    if not (topic and persona) or topic in persona.topics:
        return topic
    names = {persona.topic_name(one): one for one in persona.topics}
    if topic in names:
        return names[topic]
    known = [*persona.topics, *(name for name, one in names.items() if name != one)]
    fix = nearest(topic, known) or f"one of {', '.join(known)}"
    if where:
        raise UserError(f"unknown topic '{topic}'", where=where, fix=fix)
    raise BadRow(f"unknown topic '{topic}'", fix, "unknown_topic")


def _first(mistakes: list[UserError], path: Path) -> list[UserError]:
    """Return the mistakes worth telling: not more than a screenful, each with a way out."""
    for one in mistakes:
        one.fix = one.fix or "mend the row, or pass it over with --skip-bad"
    if len(mistakes) <= MOST_ERRORS:
        return mistakes
    left = len(mistakes) - MOST_ERRORS
    fix = "mend these first, or pass them over with --skip-bad"
    more = UserError(f"{left} more lines are wrong", where=str(path), fix=fix)
    return [*mistakes[:MOST_ERRORS], more]
