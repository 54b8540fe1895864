"""Artifacts: the files that stages leave behind, each knowing what it holds.

:mod:`rounds.layout` names every one of them; others read and write them by those names.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from workbench import store
from workbench.records import Record
from workbench.yamlfile import read_text

R = TypeVar("R", bound=Record)
M = TypeVar("M", bound=BaseModel)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


@dataclass(frozen=True)
class Artifact:
    """A file or folder that a stage leaves behind."""

    stage: str
    name: str

    @property
    def path(self) -> str:
        """Where it lies in a round, such as ``split/train.jsonl``."""
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True)
class Value(Artifact, Generic[V_co]):
    """A file whose content is a value: records, a model, plain JSON, text."""

    def _load(self, path: Path) -> V_co:
        raise NotImplementedError

    def _dump(self, path: Path, value: Any) -> None:
        raise NotImplementedError


class Json(Value[dict[str, Any]]):
    """A JSON file that holds one plain object."""

    def _load(self, path: Path) -> dict[str, Any]:
        return store.read_json(path)

    def _dump(self, path: Path, value: dict[str, Any]) -> None:
        store.write_json(path, value)


class Text(Value[str]):
    """A file for people to read."""

    def _load(self, path: Path) -> str:
        return read_text(path)

    def _dump(self, path: Path, value: str) -> None:
        with store.atomic_file(path) as file:
            file.write(value)


@dataclass(frozen=True)
class Records(Value[list[R]], Generic[R]):
    """A JSONL file of records, one a line; ``datasets.load_dataset("json", …)`` opens it."""

    model: type[R]

    def _load(self, path: Path) -> list[R]:
        return list(store.read_records(path, self.model))

    def _dump(self, path: Path, value: list[R]) -> None:
        store.write_records(path, value)


@dataclass(frozen=True)
class Document(Value[M], Generic[M]):
    """A JSON file that holds one value of a model."""

    model: type[M]

    def _load(self, path: Path) -> M:
        return store.as_model(self.model, store.read_json(path), self.path, path)

    def _dump(self, path: Path, value: M) -> None:
        store.write_json(path, value.model_dump(mode="json"))
