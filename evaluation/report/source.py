"""What a report is made of: the files of one round, read once; whatever is missing stays empty."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from evaluation.calibration import Calibration
from evaluation.people import People
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Drop, Example, Record, Response, Score
from workbench.stats import Comparison
from workbench.store import read_json_lines, read_records

STAGES = (
    "import",
    "generate",
    "filter",
    "review",
    "resolve",
    "split",
    "sft",
    "dpo",
    "grpo",
    "kto",
    "evaluate",
    "report",
)
DROPPING = ("import", "generate", "filter", "resolve", "split")
"""Stages that take rows out, in order."""
R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Source:
    """One round on disk, as the report sees it."""

    folder: Path
    persona: Persona
    persona_folder: Path
    comparison: Comparison
    responses: list[Response]
    scores: list[Score]
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)

    def records(self, name: str, model: type[R]) -> list[R]:
        """Return the records of a file such as ``filter/drops.jsonl``; none where it is missing."""
        path = self.folder / name
        return list(read_records(path, model)) if path.exists() else []

    def has(self, name: str) -> bool:
        """Return whether the round has that file."""
        return (self.folder / name).exists()

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the plain objects of a JSONL file of the round; none where it is missing."""
        return _rows(self.folder / name)

    def json(self, name: str) -> dict[str, Any]:
        """Return the object of a JSON file of the round; empty where it is missing."""
        path = self.folder / name
        data: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return data

    def text(self, name: str) -> str:
        """Return a text file of the round; empty where it is missing."""
        path = self.folder / name
        return path.read_text("utf-8") if path.exists() else ""

    @cached_property
    def people(self) -> People | None:
        """The blind round's outcome, or None where there was none."""
        for stage in ("people", "evaluate"):
            if data := self.json(f"{stage}/people.json"):
                return People.model_validate(data)
        return None

    @cached_property
    def calibration(self) -> Calibration | None:
        """The judge beside the reviewers, or None where it was not calibrated."""
        data = self.json("evaluate/calibration.json")
        return Calibration.model_validate(data) if data else None

    @cached_property
    def general(self) -> dict[str, Any]:
        """General ability of every arm and the gate's word on it; empty where not measured."""
        return self.json("evaluate/general.json")

    @cached_property
    def win_rates(self) -> list[dict[str, Any]]:
        """The judge's pairwise win-rates; none where it did not compare."""
        found: list[dict[str, Any]] = self.json("evaluate/pairs.json").get("rates", [])
        return found

    @cached_property
    def drops(self) -> list[Drop]:
        """Every drop of the round, in the order of stages."""
        return [drop for stage in DROPPING for drop in self.records(f"{stage}/drops.jsonl", Drop)]

    @cached_property
    def examples(self) -> dict[str, Example]:
        """Every example of the stages of data, by id."""
        return {
            example.id: example
            for stage in DROPPING
            for example in self.records(f"{stage}/examples.jsonl", Example)
        }

    @cached_property
    def faults(self) -> list[dict[str, Any]]:
        """The faults that were planted in the persona's seeds: row (1-based), fault, detail."""
        return _rows(self.persona_folder / "faults.jsonl")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists() or path.stat().st_size == 0:
        return []
    return [row for _, row in read_json_lines(path)]


def read_round(folder: Path, persona: Persona, persona_folder: Path) -> Source:
    """Read the evaluation and the manifests of a round; the rest is read when it is asked for.

    Raises:
        UserError: The round has not been evaluated.
    """
    comparison = folder / "evaluate" / "comparison.json"
    if not comparison.exists():
        raise UserError(
            "this round has not been evaluated",
            where=str(folder),
            fix="run `persona evaluate` first",
        )
    source = Source(
        folder,
        persona,
        persona_folder,
        Comparison.model_validate_json(comparison.read_text("utf-8")),
        list(read_records(folder / "evaluate" / "responses.jsonl", Response)),
        list(read_records(folder / "evaluate" / "scores.jsonl", Score)),
    )
    for path in sorted(folder.glob("*/manifest.json"), key=_order):
        source.manifests[path.parent.name] = json.loads(path.read_text("utf-8"))
    return source


def _order(path: Path) -> tuple[int, str]:
    stage = path.parent.name
    return (STAGES.index(stage) if stage in STAGES else len(STAGES), stage)
