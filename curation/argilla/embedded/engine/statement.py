"""The parts of one SQL statement while it grows: parameters, and paths into JSON columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID


@dataclass
class Statement:
    """Named parameters, common table expressions and joins of a search in one dataset."""

    dataset: UUID
    params: dict[str, Any] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    joins: list[str] = field(default_factory=list)

    def param(self, value: Any) -> str:
        """Return the placeholder of ``value``, stored as SQLAlchemy stores it in SQLite."""
        name = f"p{len(self.params)}"
        self.params[name] = value.hex if isinstance(value, UUID) else value
        return f":{name}"

    def listed(self, values: list[Any]) -> str:
        """Return the placeholders of ``values`` as the right side of IN."""
        return "(" + ", ".join(self.param(value) for value in values) + ")"


def json_path(*names: str) -> str:
    """Return the path of a value inside JSON; names of Argilla hold no quotation mark."""
    return "$" + "".join(f'."{name}"' for name in names)
