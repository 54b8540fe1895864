"""A round whose first 60 rows were reviewed as recorded, without a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from curation.review.reliability import read_gold
from tests.commands import Workspace
from tests.curation.review_team import seeds
from workbench.config import Policy
from workbench.records import Example, Response, Review


def write_reviewed(workspace: Workspace, recorded: Path | None = None) -> None:
    """Write what the stages up to the review leave of the running example.

    Args:
        workspace: Where.
        recorded: A file of reviews by row number; the running example's own by default.
    """
    folder = workspace.repo / "datasets" / "gym-trainer"
    rows = seeds(folder)[:60]
    gold = dict(enumerate(read_gold(folder, Policy()).examples, start=1))
    workspace.put("import/examples.jsonl", rows)
    workspace.put("import/drops.jsonl", [])
    workspace.put("filter/examples.jsonl", rows)
    workspace.put("filter/preferences.jsonl", [])
    baseline = [
        Response(arm="baseline", prompt_id=r.id, prompt=r.prompt, text=f"Hm {r.id}") for r in rows
    ]
    workspace.put("generate/baseline.jsonl", baseline)
    workspace.put("generate/preferences.jsonl", [])
    reviews = recorded_reviews(recorded or folder / "reviews.jsonl", dict(enumerate(rows, start=1)))
    workspace.put("review/reviews.jsonl", reviews)
    workspace.put(
        "review/gold-reviews.jsonl", recorded_reviews(folder / "gold-reviews.jsonl", gold)
    )
    workspace.put("review/adjudications.jsonl", [])
    workspace.put("review/pairs.jsonl", [])
    workspace.put("review/gold.jsonl", list(gold.values()))


def recorded_reviews(path: Path, rows: Mapping[int, Example]) -> list[Review]:
    """Return the recorded reviews of a file, of rows by the number that it names them by."""
    reviews = []
    for line in path.read_text(encoding="utf-8").splitlines():
        answers = json.loads(line)
        number, reviewer = answers.pop("row"), answers.pop("reviewer")
        answers.pop("record", None)
        if number in rows:
            reviews.append(Review(reviewer=reviewer, record=rows[number].id, answers=answers))
    return reviews
