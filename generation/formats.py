"""The shapes of a row that people bring: Alpaca, chat and preference rows, by their keys."""

from __future__ import annotations

from collections.abc import Iterable
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

from workbench.errors import nearest
from workbench.records import Messages, user_prompt

SHAPES = (
    "{instruction, output}, {instruction, input, output}, {messages} or {prompt, chosen, rejected}"
)


class Row(NamedTuple):
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

    def row(self) -> Row:
        return Row(user_prompt(self.instruction, self.input), self.output, None, self.topic)


class _Chat(_Shape):
    messages: Answered

    @model_validator(mode="after")
    def _answered(self) -> _Chat:
        _ends_with_answer(self.messages, "messages")
        return self

    def row(self) -> Row:
        return Row(self.messages[:-1], self.messages[-1].content.strip(), None, self.topic)


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

    def row(self) -> Row:
        chosen, rejected = self.chosen[-1].content.strip(), self.rejected[-1].content.strip()
        return Row(self.prompt, chosen, rejected, self.topic)


def _ends_with_answer(turns: Messages, name: str) -> None:
    if len(turns) < 2 or [turn.role for turn in turns[-2:]] != ["user", "assistant"]:
        raise ValueError(f"{name} do not end with a user turn and the assistant's answer")


def parse_row(data: dict[str, Any]) -> Row:
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
