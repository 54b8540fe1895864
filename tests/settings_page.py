"""The page of every key of a configuration and of a persona, made from the models themselves.

``python -m tests.settings_page`` writes ``docs/settings.md``; a test holds that it is current.
Types and defaults come from the models, meanings from the docstrings beside the fields.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from workbench.config import RunConfig
from workbench.dialogue.users import UsersFile
from workbench.persona import Persona

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
_OPENING = """\
# Every key of run.yaml, persona.yaml and users.yaml

Made from the models that read these files by `python -m tests.settings_page`. A key that is not
here is refused with its line, and so is a value of another type or beyond a bound, all mistakes at
once. What a run was given stands whole in its round, as `config.yaml`.
"""
_PARTS: dict[str, type[BaseModel]] = {
    "run.yaml": RunConfig,
    "persona.yaml": Persona,
    "users.yaml": UsersFile,
}


def page() -> str:
    """Return the page."""
    return "\n".join([_OPENING, *(text for part in _PARTS for text in _part(part))])


def _part(name: str) -> Iterator[str]:
    """Yield the heading of a file, and a table of each model in it, outer ones first."""
    yield f"## {name}\n"
    waiting: list[tuple[str, type[BaseModel]]] = [("", _PARTS[name])]
    seen: set[type[BaseModel]] = set()
    while waiting:
        key, model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        if key:
            yield f"### `{key}` in {name}: {_first_line(model)}\n"
        yield "| Key | Type | Default | Meaning |\n| --- | --- | --- | --- |"
        meanings = _meanings(model)
        for field, info in model.model_fields.items():
            own = info.alias or field
            inner = list(_models(info.annotation))
            path = f"{key}.{own}" if key else own
            waiting.extend((path, one) for one in inner)
            yield _row(own, info, meanings.get(field) or _sentence(inner))
        yield ""


def _row(key: str, info: FieldInfo, meaning: str) -> str:
    kind = " or ".join(dict.fromkeys(_types(info.annotation)))
    bounds = [
        f"{sign} {getattr(one, name)}"
        for one in info.metadata
        for name, sign in _SIGNS.items()
        if hasattr(one, name)
    ]
    limits = f", {', '.join(bounds)}" if bounds else ""
    cells = (f"`{key}`", kind + limits, _default(info), meaning or "")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _sentence(models: list[type[BaseModel]]) -> str:
    text = "; ".join(map(_first_line, models))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "needed"
    value = info.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _types(annotation: Any) -> Iterator[str]:
    """Yield the names of what a key takes, as somebody who writes YAML calls it."""
    origin, own = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return
    if origin is Annotated:
        yield from _types(own[0])
    elif origin in (Union, types.UnionType):
        for one in own:
            yield from _types(one)
    elif origin is Literal:
        yield ", ".join(f"`{value}`" for value in own)
    elif origin in (tuple, list):
        yield f"list of {' or '.join(dict.fromkeys(_types(own[0])))}"
    elif origin is dict:
        values = [f"({one})" if "→" in one else one for one in dict.fromkeys(_types(own[1]))]
        yield f"{' or '.join(_types(own[0]))} → {' or '.join(values)}"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "keys below"
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        yield ", ".join(f"`{one.value}`" for one in annotation)
    else:
        yield _PLAIN.get(annotation, "any")


_PLAIN = {str: "text", int: "number", float: "number", bool: "true or false", Path: "path"}


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring beside each field, those of the model's bases too."""
    meanings: dict[str, str] = {}
    for one in reversed(model.__mro__):
        if one.__module__.startswith("workbench"):
            body = ast.parse(inspect.getsource(one)).body[0]
            assert isinstance(body, ast.ClassDef)
            for field, text in pairwise(body.body):
                match field, text:
                    case (
                        ast.AnnAssign(target=ast.Name(name)),
                        ast.Expr(value=ast.Constant(str(docstring))),
                    ):
                        meanings[name] = _plain(docstring)
    return meanings


def _first_line(model: type[BaseModel]) -> str:
    text = _plain((model.__doc__ or "").strip().split("\n\n")[0])
    return (text[:1].lower() + text[1:]).rstrip(".")


def _plain(text: str) -> str:
    """Return a docstring's text as Markdown on one line."""
    text = re.sub(r":\w+:`[.~]*([^`]+)`", r"`\1`", text)
    return " ".join(text.replace("``", "`").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
