"""The JSON shapes that a teacher is asked for, and how an answer is read as one."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StrictBool, StringConstraints, ValidationError

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Questions(BaseModel):
    """New questions of one topic."""

    model_config = ConfigDict(extra="forbid")

    questions: list[Line]


class Verdicts(BaseModel):
    """Yes or no to each of several questions."""

    model_config = ConfigDict(extra="forbid")

    verdicts: list[StrictBool]


SHAPES: dict[str, type[BaseModel]] = {"questions": Questions, "verdicts": Verdicts}


class WrongShape(ValueError):
    """What is wrong with a JSON answer, in words that the model can act on."""


def response_format(shape: str) -> dict[str, Any]:
    """Return the request's field that asks for a shape as a JSON schema."""
    schema = {"name": shape, "strict": True, "schema": SHAPES[shape].model_json_schema()}
    return {"type": "json_schema", "json_schema": schema}


def read_shape(shape: str, text: str) -> BaseModel:
    """Return the first JSON object in ``text``, also out of a code fence or amid prose.

    Raises:
        WrongShape: There is none, it is cut off, or it has another shape.
    """
    start = text.find("{")
    if start < 0:
        raise WrongShape("there is no JSON object")
    try:
        data, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise WrongShape(f"the JSON is broken: {error.msg} at character {error.pos}") from None
    try:
        return SHAPES[shape].model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise WrongShape(f"{place}: {first['msg']}") from None
