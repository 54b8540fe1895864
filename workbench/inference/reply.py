"""What comes back from an OpenAI-compatible endpoint, read: bodies, JSON in answers, errors.

:mod:`workbench.inference.client` calls it and nothing else does. Every function takes what servers
really send: content as parts, usage beside a body of no use, errors in any words.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from workbench.text import normalize

if TYPE_CHECKING:
    import openai

Body = dict[str, Any]
"""Fields of a request, as JSON."""
Schema = type[BaseModel]
"""What a JSON answer must hold."""
OPTIONAL_FIELDS = ("max_tokens", "temperature", "seed", "response_format")
"""Fields of a request that it can do without, or by another name, where a server refuses them."""
_UNCLOSED = "missed the closing quote"
"""What json-repair notes where a string has no end."""
_TOO_LONG = ("context length", "context_length", "context window", "too large")
"""What servers say of a prompt that is too long; they name ``max_tokens`` in the same breath."""
_FILTERED = ("content_filter", "content management policy", "responsibleaipolicyviolation")


class Reply(NamedTuple):
    """One reply with status 200."""

    input_tokens: int
    output_tokens: int
    text: str | None = None
    """The answer; None where the body is of another shape."""
    refusal: str = ""
    finish_reason: str = ""


def read_reply(content: bytes) -> Reply:
    """Return the answer and, whatever the rest of the body is like, what it took."""
    try:
        data = from_json(content)
    except ValueError:
        return Reply(0, 0)
    if not isinstance(data, dict):
        return Reply(0, 0)
    usage = data.get("usage")
    took = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    match data.get("choices"):
        case [{"message": {**message}, **choice}, *_]:
            text = _text(message.get("content"))
            text = text if text is None else normalize(text)
            refusal = message.get("refusal") or ""
            return Reply(*took, text, str(refusal), str(choice.get("finish_reason") or ""))
    return Reply(*took)


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def _text(content: Any) -> str | None:
    """Return a message's content as one text; some servers send it in parts, thinking apart."""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(str(part.get("text", "")) for part in parts).strip()
    if content is None:
        return ""
    return content.strip() if isinstance(content, str) else None


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

    Args:
        schema: The schema.
        by_words: The prompt names the form, and the server is only asked for JSON of any form.
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


def _last_that_fits(objects: Sequence[Any], schema: Schema) -> BaseModel:
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
    first = error.errors(include_input=False)[0]
    kinds = {problem["type"] for problem in error.errors()}
    place = ".".join(str(part) for part in first["loc"])
    reason = "out_of_range" if kinds == {"literal_error"} else "wrong_shape"
    return WrongShape(f"{place}: {first['msg']}", reason)


def error_detail(error: openai.APIStatusError) -> str:
    """Return the server's own words, at most 200 characters, and never the request's headers."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return " ".join(str(message or error.message).split())[:200]


def is_filtered(error: openai.APIStatusError) -> bool:
    """Return whether a content filter refused the prompt, which says nothing of its fields."""
    text = f"{error.code} {error.body}".lower()
    return any(mark in text for mark in _FILTERED)


def refused_field(error: openai.APIStatusError, body: Body) -> str:
    """Return the field of a request that the server does not take, or an empty string."""
    present, words = [name for name in OPTIONAL_FIELDS if name in body], error_detail(error)
    if is_filtered(error) or any(mark in words.lower() for mark in _TOO_LONG):
        return ""
    if error.param in present:
        return str(error.param)
    named = [name for name in present if re.search(rf"\b{name}\b", words)]
    if named:
        return named[0]
    # Not every server knows JSON schemas, or says what is wrong; the prompt asks for the shape too.
    return "response_format" if "response_format" in body else ""


def leave_out(body: Body, name: str) -> None:
    """Take a field out of a request; OpenAI's newer models know ``max_tokens`` by another name."""
    value = body.pop(name, None)
    if name == "max_tokens" and value is not None:
        body["max_completion_tokens"] = value


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a reply asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
