"""What changed between two rounds of a persona: rows, decisions, sides and recipes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from rounds.layout import RoundFolder
from workbench.errors import UserError
from workbench.records import Example
from workbench.store import read_json_lines, read_records
from workbench.yamlfile import read_yaml

SIDES = ("train", "validation", "test")
METHODS = ("sft", "dpo", "grpo", "kto")


class Edit(NamedTuple):
    """A question whose answer differs."""

    question: str
    before: str
    """Id of the row with the old answer."""
    after: str


class Moved(NamedTuple):
    """A row of both rounds of which something else differs."""

    id: str
    question: str
    before: str
    after: str


class RoundsDiff(BaseModel):
    """Round B against round A; rows are the curated ones, which stand on a side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before: str
    after: str
    rows: tuple[int, int]
    added: dict[str, str]
    """Id → question of rows that only B has, and that are no edit of a row of A."""
    dropped: dict[str, str]
    """Id → reason in B; ``not in the round`` where B never had the row."""
    edited: tuple[Edit, ...]
    relabelled: tuple[Moved, ...]
    """The decision about the same row differs, such as keep and queue."""
    moved: tuple[Moved, ...]
    """The side of the same row differs: training for the one, test for the other."""
    recipes: dict[str, dict[str, tuple[Any, Any]]]
    """Method → dotted key → the two values, None where one has no such key."""


def diff_rounds(a: RoundFolder, b: RoundFolder) -> RoundsDiff:
    """Compare the rows and recipes of two rounds.

    Raises:
        UserError: A round has no split yet.
    """
    old, new = _curated(a), _curated(b)
    fresh = _by_question(row for row in new.values() if row.id not in old)
    reasons = {
        row["record"]: str(row["reason"])
        for stage in ("import", "generate", "filter", "resolve", "split")
        for row in _lines(b.folder / stage / "drops.jsonl")
    }
    gone = [row for row in old.values() if row.id not in new]
    # Each new row is the edit of one gone row at the most, so that none is lost or told twice.
    edited = {
        row.id: Edit(row.question, row.id, fresh[row.question].pop(0))
        for row in gone
        if fresh[row.question]
    }
    afterwards = {edit.after for edit in edited.values()}
    both = [row for row in new.values() if row.id in old]
    decided = _decisions(a), _decisions(b)
    sides = _sides(a), _sides(b)
    return RoundsDiff(
        before=a.name,
        after=b.name,
        rows=(len(old), len(new)),
        added={
            row.id: row.question
            for row in new.values()
            if row.id not in old and row.id not in afterwards
        },
        dropped={
            row.id: reasons.get(row.id, "not in the round") for row in gone if row.id not in edited
        },
        edited=tuple(edited.values()),
        relabelled=_moves(both, *decided),
        moved=_moves(both, *sides),
        recipes={method: found for method in METHODS if (found := _recipe_diff(a, b, method))},
    )


def _curated(round_: RoundFolder) -> dict[str, Example]:
    files = [round_.stage("split") / f"{side}.jsonl" for side in SIDES]
    if not files[0].exists():
        raise UserError(
            "has no split yet", where=str(round_.folder), fix="run it at least to the stage 'split'"
        )
    return {row.id: row for file in files for row in read_records(file, Example)}


def _by_question(rows: Iterable[Example]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row.question].append(row.id)
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists() or not path.stat().st_size:
        return []
    return [row for _, row in read_json_lines(path)]


def _decisions(round_: RoundFolder) -> dict[str, str]:
    rows = _lines(round_.stage("resolve") / "decisions.jsonl")
    return {row["record"]: str(row["outcome"]) for row in rows}


def _sides(round_: RoundFolder) -> dict[str, str]:
    return {r["record"]: str(r["split"]) for r in _lines(round_.stage("split") / "splits.jsonl")}


def _moves(rows: list[Example], before: dict[str, str], after: dict[str, str]) -> tuple[Moved, ...]:
    return tuple(
        Moved(row.id, row.question, before[row.id], after[row.id])
        for row in rows
        if row.id in before and row.id in after and before[row.id] != after[row.id]
    )


def _recipe_diff(a: RoundFolder, b: RoundFolder, method: str) -> dict[str, tuple[Any, Any]]:
    old, new = (_recipe(round_, method) for round_ in (a, b))
    if old is None or new is None:
        return {} if old is new else {"trained": (old is not None, new is not None)}
    keys = sorted({*old, *new})
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _recipe(round_: RoundFolder, method: str) -> dict[str, Any] | None:
    """Return dotted key → value of the recipe that a round trained with, its base included."""
    path = round_.stage(method) / "recipe.yaml"
    if not path.exists():
        return None
    manifest = round_.manifest(method)
    return {"model": manifest.settings.get("model") if manifest else None} | _dotted(
        read_yaml(path)[0]
    )


def _dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _dotted(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.loads(json.dumps(value, default=str))
    return found
