"""Rows that people bring, read whole or not at all: every mistake of a file is told at once.

In goes a file of Alpaca, chat or preference rows, or a chat's reply
(:mod:`generation.chat_reply`), out come :class:`Imported` records. The stage ``import`` calls it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)

from generation.chat_reply import read_rows
from workbench.errors import UserError, UserErrors, nearest
from workbench.persona import Persona
from workbench.records import Drop, Example, Messages, Origin, Preference, user_prompt

STAGE = "import"
MOST_ERRORS = 20
"""Mistakes that are told of one file; the rest is counted."""
SHAPES = (
    "{instruction, output}, {instruction, input, output}, {messages} or {prompt, chosen, rejected}"
)


@dataclass(frozen=True)
class Imported:
    """What an import kept and what it left out."""

    examples: list[Example] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)


def import_rows(
    path: Path, persona: Persona | None, *, topic: str = "", origin: Origin = "imported"
) -> Imported:
    """Read a JSONL file of Alpaca, chat or preference rows; shapes may be mixed.

    A chat's reply, rows in a code fence or amid prose, is read as well.

    Args:
        path: The file, UTF-8.
        persona: Names the topics that are allowed, and becomes a parent of every row.
        topic: Topic of the rows that name none.
        origin: Where the rows come from.

    Returns:
        The rows in their order. Exact repetitions (same prompt and same answers) are dropped.

    Raises:
        UserError: The file cannot be read, or rows are wrong: each with its line, up to
            :data:`MOST_ERRORS` at once. Nothing is imported then.
    """
    mistakes: list[UserError] = []
    result, seen = Imported(), dict[tuple[object, ...], str]()
    parents = (persona.record_id,) if persona else ()
    if topic:
        _check_topic(topic, persona, where="topic")
    for number, data in read_rows(path, mistakes):
        where = f"{path}:{number}"
        try:
            row = parse_row(data)
            _check_topic(row.topic, persona, where=where)
        except BadRow as error:
            mistakes.append(UserError(error.what, where=where, fix=error.fix))
            continue
        except UserError as error:
            mistakes.append(error)
            continue
        if mistakes:
            continue
        record = _record(row, row.topic or topic, f"{path.name}:{number}", parents, origin)
        first = seen.setdefault((row.prompt, row.answer, row.rejected), record.source)
        if first != record.source:
            result.dropped.append(_repetition(record, first))
        elif isinstance(record, Preference):
            result.preferences.append(record)
        else:
            result.examples.append(record)
    if mistakes:
        raise UserErrors(_first(mistakes, path))
    return result


def _record(
    row: ImportedRow, topic: str, source: str, parents: tuple[str, ...], origin: Origin
) -> Example | Preference:
    if row.rejected is None:
        return Example(
            prompt=row.prompt,
            answer=row.answer,
            topic=topic,
            origin=origin,
            source=source,
            parents=parents,
        )
    return Preference(
        prompt=row.prompt,
        chosen=row.answer,
        rejected=row.rejected,
        topic=topic,
        origin=origin,
        source=source,
        parents=parents,
    )


def _repetition(record: Example | Preference, first: str) -> Drop:
    return Drop(
        record=record.id,
        stage=STAGE,
        reason="exact_duplicate",
        detail=f"the same as {first}",
        source=record.source,
        parents=record.parents,
    )


def _check_topic(topic: str, persona: Persona | None, *, where: str) -> None:
    if persona and topic and topic not in persona.topics:
        fix = nearest(topic, persona.topics) or f"one of {', '.join(persona.topics)}"
        raise UserError(f"unknown topic '{topic}'", where=where, fix=fix)


def _first(mistakes: list[UserError], path: Path) -> list[UserError]:
    """Return the mistakes worth telling: one for the encoding, and not more than a screenful."""
    coded = [error for error in mistakes if "is not UTF-8" in error.what]
    errors = [error for error in mistakes if error not in coded[1:]]
    if len(errors) <= MOST_ERRORS:
        return errors
    left = len(errors) - MOST_ERRORS
    more = UserError(f"{left} more lines are wrong", where=str(path), fix="mend these first")
    return [*errors[:MOST_ERRORS], more]


class ImportedRow(NamedTuple):
    """One row in our own terms; ``rejected`` is None where it is no preference."""

    prompt: Messages
    answer: str
    rejected: str | None
    topic: str


class BadRow(ValueError):
    """A row's mistakes in one phrase, and what to do."""

    def __init__(self, what: str, fix: str = "") -> None:
        self.what, self.fix = what, fix
        super().__init__(what)


def _said(turns: Messages) -> Messages:
    for index, turn in enumerate(turns):
        if not turn.content.strip():
            raise ValueError(f"turn {index + 1} is blank")
    return turns


def _turns(role: str) -> BeforeValidator:
    """Let a plain text stand for one turn of ``role``."""
    return BeforeValidator(
        lambda value: [{"role": role, "content": value}] if isinstance(value, str) else value
    )


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
MaybeText = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
Asked = Annotated[Messages, AfterValidator(_said), _turns("user")]
Answered = Annotated[Messages, AfterValidator(_said), _turns("assistant")]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    topic: MaybeText = ""


class _Alpaca(_Shape):
    instruction: Text
    input: MaybeText = ""
    output: Text

    def row(self) -> ImportedRow:
        return ImportedRow(user_prompt(self.instruction, self.input), self.output, None, self.topic)


class _Chat(_Shape):
    messages: Answered

    @model_validator(mode="after")
    def _answered(self) -> _Chat:
        _ends_with_answer(self.messages, "messages")
        return self

    def row(self) -> ImportedRow:
        return ImportedRow(self.messages[:-1], self.messages[-1].content.strip(), None, self.topic)


class _Preference(_Shape):
    prompt: Asked
    chosen: Answered
    rejected: Answered

    @model_validator(mode="after")
    def _one_prompt(self) -> _Preference:
        if self.prompt[-1].role != "user":
            raise ValueError("prompt does not end with a user turn")
        for name, turns in (("chosen", self.chosen), ("rejected", self.rejected)):
            # Both ways are common: the answer alone, or the whole conversation.
            if turns[:-1] not in ((), self.prompt):
                raise ValueError(f"{name} does not follow the prompt")
            if turns[-1].role != "assistant":
                raise ValueError(f"{name} is not an assistant turn")
        if self.chosen[-1].content.strip() == self.rejected[-1].content.strip():
            raise ValueError("chosen and rejected are the same text")
        return self

    def row(self) -> ImportedRow:
        chosen, rejected = self.chosen[-1].content.strip(), self.rejected[-1].content.strip()
        return ImportedRow(self.prompt, chosen, rejected, self.topic)


def _ends_with_answer(turns: Messages, name: str) -> None:
    if len(turns) < 2 or [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
        raise ValueError(f"{name} do not end with a user turn and the assistant's answer")


def parse_row(data: dict[str, Any]) -> ImportedRow:
    """Return one row of any known shape.

    Raises:
        BadRow: All mistakes of the row, in one phrase.
    """
    shape = _shape_of(data)
    try:
        return shape.model_validate(data).row()
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
        extra = [
            str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"
        ]
        hints = (nearest(name, shape.model_fields) for name in extra)
        raise BadRow("; ".join(problems), next((hint for hint in hints if hint), "")) from None


def _shape_of(data: dict[str, Any]) -> type[_Alpaca] | type[_Chat] | type[_Preference]:
    """Return the shape that shares most keys with the row, so that a slip names the right one."""
    shapes = (_Alpaca, _Chat, _Preference)
    own = [(shape, set(shape.model_fields) - {"topic"}) for shape in shapes]
    shape, keys = max(own, key=lambda pair: len(pair[1] & set(data)))
    if not keys & set(data):
        guess = next((hint for key in data if (hint := nearest(key, _all_keys(own)))), "")
        raise BadRow(f"has none of the known shapes, only {_list(data)}", guess or f"give {SHAPES}")
    return shape


def _all_keys(own: Iterable[tuple[Any, set[str]]]) -> list[str]:
    return sorted(set().union(*(keys for _, keys in own)))


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in list(names)[:5]) or "no keys"


def _problem(item: Any) -> str:
    """Return one of pydantic's findings in the words of a row."""
    name = ".".join(str(part + 1 if isinstance(part, int) else part) for part in item["loc"])
    match item["type"]:
        case "missing":
            return f"'{name}' is missing"
        case "extra_forbidden":
            return f"unknown key '{name}'"
        case "string_too_short":
            return f"'{name}' is empty"
        case "string_type":
            return f"'{name}' is not text but {type(item['input']).__name__}"
        case "string_unicode":
            return f"'{name}' holds half a Unicode character"
        case "tuple_type":
            return f"'{name}' is neither text nor a list of turns"
        case "model_type" | "model_attributes_type":
            return f"'{name}' is not a turn {{role, content}}"
        case "literal_error":
            return f"'{name}' is {item['input']!r}, not {item['ctx']['expected']}"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"'{name}' {message}" if name else message
