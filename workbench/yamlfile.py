"""YAML files whose mistakes are reported all at once, each with its line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from workbench.errors import UserError, UserErrors, nearest, unreadable

Model = TypeVar("Model", bound=BaseModel)
Lines = dict[tuple[str | int, ...], int]
_DEEPEST = 100
"""Most levels of a file; what contains itself has no end of them."""
_MOST_REPEATED = 10_000
"""Most values that aliases may repeat: eight lines of aliases can stand for a billion values."""


class _Loader(yaml.SafeLoader):
    """The safe loader, whose every refusal knows its line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of ``node``.

        Raises:
            ConstructorError: It is no value of its type, or none that a file of ours can hold.
        """
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
            kind = node.tag.rsplit(":", 1)[-1]
            raise _refused(f"{str(node.value)[:40]!r} is no valid {kind}", node) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(f"'{node.value}' is no finite number", node)
        if isinstance(value, int) and value.bit_length() > 64:
            raise _refused("a number of more than 64 bits", node)
        if isinstance(value, str) and "\0" in value:
            raise _refused("a text that holds a NUL character", node)
        return value


def _refused(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_text(path: Path) -> str:
    """Return the UTF-8 text of ``path``.

    Raises:
        UserError: The file is missing, unreadable, empty or not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"is not UTF-8 (byte {error.start})", where=str(path), fix="save it as UTF-8"
        ) from None
    if not text.strip():
        raise UserError("is empty", where=str(path), fix="check that it is the file you meant")
    return text


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """Return a YAML mapping and the 1-based line of every key path in it.

    Raises:
        UserError: Unreadable file, broken YAML, a duplicate key, or not a mapping at the top.
    """
    text = read_text(path)
    lines: Lines = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        except RecursionError:
            raise yaml.MarkedYAMLError(
                problem="nested too deep", problem_mark=loader.get_mark()
            ) from None
        _check_size(node)
        duplicates = _collect_lines(node, (), lines)
        data = loader.construct_document(node) if node else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"broken YAML: {problem}", where=where, fix="mend this line") from None
    if duplicates:
        raise UserErrors(
            UserError(f"'{name}' is given twice", where=f"{path}:{line}", fix="keep one")
            for name, line in duplicates
        )
    if not isinstance(data, dict):
        raise UserError("is not a mapping of keys to values", where=str(path), fix="see the docs")
    return data, lines


def _check_size(root: yaml.Node | None) -> None:
    """Refuse what aliases make endless or huge, before anything walks through all of it."""
    seen: set[int] = set()
    repeated = 0
    left = [(root, 0)] if root else []
    while left:
        node, depth = left.pop()
        repeated += id(node) in seen
        seen.add(id(node))
        if depth > _DEEPEST:
            raise _refused("nested too deep", node)
        if repeated > _MOST_REPEATED:
            raise _refused("too many aliases", node)
        if isinstance(node, yaml.MappingNode):
            left += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += [(part, depth + 1) for part in node.value]


def _collect_lines(
    node: yaml.Node | None, path: tuple[str | int, ...], lines: Lines
) -> list[tuple[str, int]]:
    """Fill ``lines`` with the line of every key path; return the keys given twice."""
    duplicates: list[tuple[str, int]] = []
    if node is None:
        return duplicates
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            child = (*path, str(key.value))
            if child in lines:
                duplicates.append((str(key.value), key.start_mark.line + 1))
            lines[child] = key.start_mark.line + 1
            duplicates += _collect_lines(value, child, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            duplicates += _collect_lines(value, (*path, index), lines)
    return duplicates


def line_of(lines: Lines, location: tuple[str | int, ...]) -> int:
    """Return the line of the longest known prefix of ``location``."""
    # Pydantic adds a union's tag to the location; dropping unknown parts finds the key again.
    known: tuple[str | int, ...] = ()
    for part in location:
        if (*known, part) in lines:
            known = (*known, part)
    return lines.get(known, 1)


_BRANCHES = ("[one]", "[several]")


def validate(model: type[Model], data: Mapping[str, object], lines: Lines, path: Path) -> Model:
    """Return ``data`` as ``model``.

    Raises:
        UserErrors: Every mistake of the file, each with its line, in the order of lines; without
            lines, of what is not in a file yet.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        errors = []
        for item in mistakes_of(error):
            # In brackets stand pydantic's own words, such as the branch of a union.
            location = tuple(part for part in item["loc"] if part not in _BRANCHES)
            keys = ".".join(str(part) for part in location if part != "[key]")
            line = line_of(lines, location)
            message, fix = item["msg"].removeprefix("Value error, "), ""
            if item["type"] == "extra_forbidden":
                message, fix = "unknown key", nearest(str(location[-1]), _all_fields(model))
            elif item["type"] == "missing":
                message = "is missing"
            shown = f"{keys}: {message}" if keys else message
            errors.append(
                (line, UserError(shown, where=f"{path}:{line}" if lines else str(path), fix=fix))
            )
        raise UserErrors(e for _, e in sorted(errors, key=lambda pair: pair[0])) from None


def mistakes_of(error: ValidationError) -> list[ErrorDetails]:
    """Return what pydantic found, each mistake once.

    A list all of whose items are wrong is called too short as well: the items say it.
    """
    every = error.errors()

    def is_echo(item: ErrorDetails) -> bool:
        place = tuple(item["loc"])
        inside = (o["loc"] for o in every if o["loc"][: len(place)] == place != o["loc"])
        return item["type"] == "too_short" and any(inside)

    return [item for item in every if not is_echo(item)]


def _all_fields(model: type[BaseModel]) -> set[str]:
    """Return the names of the fields of ``model`` and of every model inside it."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return {name for part in parts for name in part.get("properties", {})}
