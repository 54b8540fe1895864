"""What comes back from an OpenAI-compatible endpoint, read: bodies, and JSON in answers.

:mod:`workbench.inference.exchange` calls it. It takes what servers really send: content as parts,
reasoning beside or inside the answer, usage beside a body of no use, streams nobody asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from workbench.inference.reasoning import separate
from workbench.store import first_mistake
from workbench.text import normalize

Schema = type[BaseModel]
"""What a JSON answer must hold."""
_UNCLOSED = "missed the closing quote"
"""What json-repair notes where a string has no end."""
_REASONING = (
    *("reasoning_content", "reasoning", "reasoning_text", "thinking", "thought"),
    "reasoning_details",
)
_ERRORS = ("detail", "errors", "error_code", "base_resp")
"""What servers of other kinds call an error that comes with status 200."""
_TEXT_PARTS = ("text", "output_text", "input_text", "")
_REFUSAL_PARTS = ("refusal",)
FILTERED = frozenset(
    {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "sensitive"}
    | {"guardrail", "guardrails", "content_filtered", "spii", "risk"}
)
"""What ``finish_reason`` says of an answer that a filter took."""
CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "token_limit"})
"""What it says of an answer that was cut off."""
BYTES_A_TOKEN = 3
"""About; of text whose tokens no server counted."""


class Reply(NamedTuple):
    """One reply with status 200."""

    input_tokens: int
    output_tokens: int
    text: str | None = None
    """The answer; None where the body is of another shape."""
    refusal: str = ""
    finish_reason: str = ""
    """In lower case."""
    reasoning: str = ""
    """What the model wrote beside its answer."""
    unended: bool = False
    """Whether the answer is missing since the reasoning never ended."""
    counted: bool = True
    """Whether the server counted the tokens."""
    error: bool = False
    """Whether the body tells an error in place of an answer."""


def read_reply(content: bytes) -> Reply:
    """Return the answer and, whatever the rest of the body is like, what it took."""
    data = _data(content)
    if not isinstance(data, dict):
        return Reply(0, 0, error=isinstance(data, list) and "error" in str(data[:1]))
    took = _usage(data.get("usage"))
    counted = took != (0, 0)
    choice = _first(data.get("choices"))
    message = choice.get("message")
    failed = data.get("error") or choice.get("error")
    if failed or not isinstance(message, dict):
        errs = data.get("object") == "error" or any(data.get(name) for name in _ERRORS)
        return Reply(*took, counted=counted, error=bool(failed or errs))
    parts = _read_parts(message.get("content"))
    if parts is None:
        return Reply(*took, counted=counted)
    text, thinking, refusal = parts
    apart = separate(normalize(text))
    thinking += "".join(_flat(message[name]) for name in _REASONING[:1] if message.get(name))
    if not message.get(_REASONING[0]):
        thinking += next((_flat(message[n]) for n in _REASONING[1:] if message.get(n)), "")
    # Some put what it was behind a colon.
    finish = str(choice.get("finish_reason") or "").lower().partition(":")[0]
    return Reply(
        *took,
        apart.text,
        str(message.get("refusal") or refusal or ("refused" if finish == "refusal" else "")),
        finish,
        apart.reasoning + thinking,
        apart.unended,
        counted,
    )


def _data(content: bytes) -> Any:
    """Return a body as JSON; a stream of events that nobody asked for becomes one answer."""
    try:
        return from_json(content)
    except ValueError:
        pass
    lines = content.decode("utf-8", "replace").splitlines()
    events = []
    for line in lines:
        if line.startswith("data:") and line[5:].strip() != "[DONE]":
            try:
                events.append(from_json(line[5:].strip()))
            except ValueError:
                return None  # cut off on its way
    return _joined([event for event in events if isinstance(event, dict)]) if events else None


def _joined(events: list[dict[str, object]]) -> dict[str, Any]:
    message: dict[str, Any] = {"content": ""}
    result: dict[str, Any] = {"choices": [{"message": message}]}
    for event in events:
        for name in ("usage", "error"):
            if event.get(name):
                result[name] = event[name]
        choice = _first(event.get("choices"))
        delta = choice.get("delta")
        for name, value in (delta if isinstance(delta, dict) else {}).items():
            if isinstance(value, str) and name in ("content", "refusal", *_REASONING):
                message[name] = message.get(name, "") + value
        if choice.get("finish_reason"):
            result["choices"][0]["finish_reason"] = choice["finish_reason"]
    return result


def _first(value: object) -> dict[str, Any]:
    first = value[0] if isinstance(value, list) and value else None
    return first if isinstance(first, dict) else {}


def _usage(usage: object) -> tuple[int, int]:
    """Return tokens in and out; reasoning that is only in the total was paid for as well."""
    if not isinstance(usage, dict):
        return 0, 0
    asked = _count(usage, "prompt_tokens", "input_tokens")
    written = _count(usage, "completion_tokens", "output_tokens")
    return asked, max(written, _count(usage, "total_tokens") - asked)


def _count(usage: Mapping[str, object], *names: str) -> int:
    counts = (str(usage.get(name)).partition(".")[0] for name in names)
    return next((int(count) for count in counts if count.isdigit() and int(count)), 0)


def _read_parts(content: object) -> tuple[str, str, str] | None:
    """Return a message's text, reasoning and refusal; None where it is of another shape."""
    if content is None:
        return "", "", ""
    if isinstance(content, str):
        return content, "", ""
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return None
    text, thinking, refusal = "", "", ""
    for part in content:
        kind = str(part.get("type", "")) if isinstance(part, dict) else ""
        if kind in _REFUSAL_PARTS:
            refusal += _flat(part)
        elif kind in _TEXT_PARTS:
            text += _flat(part)
        else:
            thinking += _flat(part)
    return text, thinking, refusal


def _flat(value: object) -> str:
    """Return all that is written in a part, in whatever form."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_flat(one) for one in value)
    if isinstance(value, dict):
        return "".join(_flat(one) for key, one in value.items() if key not in _NO_TEXT)
    return ""


_NO_TEXT = ("type", "signature", "id", "annotations", "format", "index", "data")


class WrongShape(ValueError):
    """What is wrong with a JSON answer, in words that the model can act on."""

    def __init__(self, what: str, reason: str = "wrong_shape") -> None:
        super().__init__(what)
        self.reason = reason


@lru_cache(maxsize=64)
def schema_json(schema: Schema) -> dict[str, Any]:
    """Return a schema as JSON; made once, for it takes as long as a request."""
    return schema.model_json_schema()


def response_format(schema: Schema, *, by_words: bool) -> dict[str, Any]:
    """Return the request's field that asks for a schema.

    ``by_words`` says that the prompt names the form, and the server is only asked for JSON of any
    form.
    """
    if by_words:
        return {"type": "json_object"}
    named = {"name": schema.__name__.lower(), "strict": True, "schema": schema_json(schema)}
    return {"type": "json_schema", "json_schema": named}


def read_json(text: str, schema: Schema) -> BaseModel:
    """Return the last JSON object in ``text`` that fits, also out of a code fence or amid prose.

    Python's own decoder comes first: it reads an object in the middle of prose with braces of its
    own, where json-repair 0.64 takes the prose for data. What it cannot read json-repair can. Of
    the 16 replies in ``tests/workbench/inference/test_reply.py`` that hold an answer the first
    object by the decoder is right in 4 and wrong in 1, json-repair alone is right in 13, both
    together in 16; of the 6 that hold none json-repair alone takes 2, which end inside a string:
    half a question is not a question.

    Raises:
        WrongShape: There is none, it is cut off, or it has another shape.
    """
    objects, error = _decoded(text)
    try:
        return _last_that_fits(objects, schema)
    except WrongShape:
        if not error:
            raise
    return _last_that_fits(_repaired(text, error), schema)


def _last_that_fits(objects: Sequence[object], schema: Schema) -> BaseModel:
    wrong = WrongShape("there is no JSON object")
    # A model that drafts in its answer gives the object that it means last.
    for data in reversed(objects):
        try:
            return schema.model_validate(data)
        except ValidationError as error:
            wrong = _wrong_shape(error)
    raise wrong


def _decoded(text: str) -> tuple[list[Any], str]:
    """Return the objects that Python's decoder reads, and its first complaint."""
    decoder, start, error = json.JSONDecoder(strict=False), text.find("{"), ""
    objects = []
    while start >= 0:
        try:
            data, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as broken:
            error, end = error or f"{broken.msg} at character {broken.pos}", start + 1
        else:
            objects.append(data)
        start = text.find("{", end)
    return objects, error


def _repaired(text: str, error: str) -> list[Any]:
    """Return the objects that json-repair makes of a text.

    Raises:
        WrongShape: The text ends inside a string.
    """
    import json_repair

    repaired: Any = json_repair.loads(text[text.find("{") :], logging=True)
    data, notes = repaired
    if any(_UNCLOSED in note["text"] for note in notes):
        raise WrongShape(f"the JSON is broken: {error}")
    return data if isinstance(data, list) else [data]


def _wrong_shape(error: ValidationError) -> WrongShape:
    kinds = {problem["type"] for problem in error.errors()}
    reason = "out_of_range" if kinds == {"literal_error"} else "wrong_shape"
    return WrongShape(first_mistake(error), reason)
