"""Checks of a recipe's values against the types and choices of the library that they are for."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from workbench.errors import nearest


@dataclass(frozen=True)
class Problem:
    """One mistake of a recipe, at a path of keys."""

    path: tuple[str, ...]
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Section:
    """The fields that one part of a recipe may hold.

    Args:
        config: Name of the configuration class, for messages.
        hints: Field name → type.
        choices: Field name → its allowed values, where the type does not say them.
        owned: Field name → why the workbench decides it.
    """

    config: str
    hints: dict[str, Any]
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    owned: dict[str, str] = field(default_factory=dict)


_RANGES: dict[str, tuple[float, float]] = {
    # field: (least, most); TrainingArguments and LoraConfig take anything and fail much later
    "learning_rate": (1e-9, 1.0),
    "per_device_train_batch_size": (1, 4096),
    "per_device_eval_batch_size": (1, 4096),
    "gradient_accumulation_steps": (1, 65536),
    "max_length": (8, 10_000_000),
    "num_train_epochs": (1e-3, 10_000),
    "beta": (0, 100),
    "r": (1, 8192),
    "lora_alpha": (1, 65536),
    "lora_dropout": (0, 0.99),
    "replay": (0, 1),
    "num_generations": (2, 4096),
    "held_out": (0, 1),
    "judge": (0, 100),
    "think": (0, 100),
}


def check_section(
    name: str, values: dict[str, Any], section: Section
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the values in their fields' types, and every mistake among them.

    Values of another type are left out: nobody can compute or compare with them.
    """
    clean: dict[str, Any] = {}
    problems: list[Problem] = []
    allowed = [known for known in section.hints if known not in section.owned]
    for key, value in values.items():
        path = (name, str(key))
        if key in section.owned:
            problems.append(Problem(path, f"is not a recipe's to say: {section.owned[key]}"))
        elif key not in section.hints:
            fix = nearest(str(key), allowed) or f"see the fields of {section.config}"
            problems.append(Problem(path, f"is no field of {section.config}", fix))
        else:
            fits, typed, found = _typed(value, section.hints[key], section.choices.get(key))
            if fits:
                clean[key] = typed
                found = found or _out_of_range(key, typed)
            problems += [Problem(path, what, fix) for what, fix in found]
    return clean, problems


def _typed(
    value: Any, hint: Any, choices: tuple[str, ...] | None
) -> tuple[bool, Any, list[tuple[str, str]]]:
    """Return whether ``value`` is of a type, it in that type, and what is wrong, with its mend."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    kinds = _flat(hint)
    if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
        return False, value, [(f"is {value!r}, which is no number", "")]
    try:
        typed = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(
            value
        )
    except ValidationError as error:
        # PEFT's type spells the family "pissa_niter_<number>" as one literal.
        if isinstance(value, str) and re.fullmatch(r"pissa_niter_\d+", value):
            return True, value, []
        said = error.errors()[0]["msg"].removeprefix("Input ")
        return False, value, [(f"is {value!r}, but {said}", "")]
    enums = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    known = choices or tuple(str(member.value) for kind in enums for member in kind)
    if isinstance(typed, Enum):
        typed = typed.value
    wrong = [v for v in (typed if isinstance(typed, list) else [typed]) if v is not None]
    wrong = [v for v in wrong if known and str(v) not in known]
    return (
        True,
        typed,
        [
            (
                f"is {v!r}, which is not known",
                nearest(str(v), known) or f"one of {', '.join(known)}",
            )
            for v in wrong
        ],
    )


def _flat(hint: Any) -> set[Any]:
    """Return the plain types inside a union, or the type itself."""
    parts = typing.get_args(hint)
    return {kind for part in parts for kind in _flat(part)} if parts else {hint}


def _out_of_range(key: str, value: Any) -> list[tuple[str, str]]:
    if key not in _RANGES or not isinstance(value, int | float):
        return []
    least, most = _RANGES[key]
    if least <= value <= most:
        return []
    return [(f"is {value:g}, out of range", f"give {least:g} to {most:g}")]
