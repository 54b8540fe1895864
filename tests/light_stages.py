"""Stages whose heavy parts are stand-ins: commands in any order, in a tenth of a second each.

What a stage reads, writes, hashes and counts is real, and so are configuration, import, filters,
decisions and splits. Stand-ins are the base's answers, the review server with two reviewers who
agree at once, the training, the arms' answers and the report's page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from app.cli.main import main
from curation.argilla.client import Connection
from curation.argilla.pull import Progress
from curation.review.merging import Merged, ServerReviews, merge
from generation.baseline import Baseline
from rounds.context import RoundContext
from rounds.layout import (
    CALIBRATION,
    COMPARISON,
    GENERAL,
    REPORT_PAGE,
    RESPONSES,
    SCORES,
    STYLE,
    TEST,
    adapter,
    curve,
)
from rounds.lineage.graph import ADAPTER
from rounds.review_rows import ReviewRows
from rounds.review_server import ReviewServer
from rounds.runner import Work
from tests.commands import Output
from tests.written_rounds import scored
from workbench.errors import UserError
from workbench.inference.completion import usage_of
from workbench.records import Example, Response, Review, Score
from workbench.stats import compare

PERSONA = """\
id: light
version: 1
language: en
name: Coach
role: a kind but tough gym trainer
audience: office workers who begin to train
voice: {address: champ, register: short, emoji: {min: 0, max: 2}, length: {min: 3, max: 90}}
structure: [names the problem, one thing to do right now]
safety: {boundary: pain goes to a doctor}
topics: [squat, sleep, food, walk]
topic_names: {squat: Squats, sleep: Sleep and rest, food: Eating, walk: Walking}
traits:
  - id: address
    name: Says champ
    about: calls the person champ
    check: {rule: matches, patterns: ['\\bchamp\\b']}
"""


@dataclass
class LightServer:
    """Stands for the review server: whatever is pushed, two reviewers keep."""

    pushed: dict[Path, dict[str, None]] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)
    """Row of a disagreement queue → what was said against its drop."""

    def push(self, context: RoundContext, _: Connection, rows: ReviewRows) -> None:
        ids = (row.id for row in rows.pushed(context.round.name))
        self.pushed.setdefault(context.round.folder, {}).update(dict.fromkeys(ids))

    def queue(self, *about: Any, notes: Mapping[str, str], **_: Any) -> None:
        self.queued.update({record: notes.get(record, "") for record in about[-1]})

    def pull(
        self,
        context: RoundContext,
        _: Connection,
        name: str,
        before: Sequence[Review],
        *,
        queue: bool = False,
    ) -> Merged:
        if queue:
            return Merged(list(before))
        if context.round.folder not in self.pushed:
            fix = "run `persona review push` first"
            raise UserError(f"no dataset of {name}", where="the server", fix=fix)
        names = context.config.review.reviewers
        reviews = [
            Review(reviewer=one, record=record, answers={"fidelity": 5}, at="2026-01-01T00:00:00Z")
            for record in self.pushed[context.round.folder]
            for one in names
        ]
        return merge(before, ServerReviews(reviews, accounts=frozenset(names)))


def light_review(patch: pytest.MonkeyPatch) -> LightServer:
    """Put a stand-in in the place of the review server alone."""
    server = LightServer()
    done = Progress("dataset", "http://127.0.0.1:1", 1, 1, {})
    for module in ("rounds.reviewing", "rounds.stages.review"):
        patch.setattr(f"{module}.push_rows", server.push)
        patch.setattr(f"{module}.pull_merged", server.pull)
        patch.setattr(f"{module}.put_back", lambda *_, **__: None)
        patch.setattr(f"{module}.review_progress", lambda *_, **__: done)
    patch.setattr("rounds.stages.review.push_queue", server.queue)
    patch.setattr("rounds.stages.review.progress_if_pushed", lambda *_, **__: None)
    connection = Connection("http://127.0.0.1:1", "key")
    patch.setattr(ReviewServer, "connect", lambda *_, **__: connection)
    patch.setattr(ReviewServer, "pids", lambda *_: ())
    return server


def light_stages(patch: pytest.MonkeyPatch) -> LightServer:
    """Put the stand-ins in place."""
    server = light_review(patch)
    patch.setattr(RoundContext, "meaning", lambda *_: None)
    patch.setattr("rounds.stages.generate.resolve_model", lambda *_: Path())
    patch.setattr("rounds.stages.generate.baseline_answers", _baseline)
    patch.setattr("rounds.pipeline._check_base", lambda *_: None)
    patch.setattr("rounds.pipeline.recipe_checks", lambda *_: ())
    patch.setattr("rounds.stages.train._train", _train)
    patch.setattr("rounds.stages.evaluate._evaluate", _evaluate)
    patch.setattr("rounds.stages.report._report", _report)
    patch.setattr("rounds.pipeline.give_memory_back", lambda: None)
    return server


def _baseline(examples: Sequence[Example], *_: object, **__: object) -> Baseline:
    return Baseline(
        usage_of(()),
        [
            Response(arm="baseline", prompt_id=row.id, prompt=row.prompt, text=f"Hm, {row.id}.")
            for row in examples
        ],
    )


def _train(_: RoundContext, method: Any, __: Any, work: Work) -> None:
    folder = work.out / adapter(method).name
    folder.mkdir(exist_ok=True)
    for name in ("adapter_config.json", ADAPTER):
        (folder / name).write_text("{}", encoding="utf-8")
    (work.out / curve(method).name).write_text("", encoding="utf-8")


def _evaluate(_: RoundContext, work: Work) -> None:
    responses: list[Response] = []
    scores: list[Score] = []
    for arm in ("base", "sft"):
        for row in work.read(TEST):
            own = Response(
                arm=arm,
                prompt_id=row.id,
                prompt=row.prompt,
                text=f"{arm}: {row.id}",
                topic=row.topic,
            )
            responses.append(own)
            scores += scored(own, {"address": float(arm == "sft")})
    work.write(RESPONSES, responses)
    work.write(SCORES, scores)
    work.write(COMPARISON, compare(scores, "base", responses=responses))
    for artifact in (CALIBRATION, GENERAL, STYLE):  # nobody reads them here
        (work.out / artifact.name).write_text("{}", encoding="utf-8")


def _report(_: RoundContext, work: Work) -> None:
    work.write(REPORT_PAGE, "<html></html>")


def run_light(*arguments: str) -> Output:
    """Run a command in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = int(main([*arguments]))
    return Output(code, out.getvalue(), err.getvalue())


def tree(folder: Path) -> dict[str, str]:
    """Return every file of a folder with the hash of its content, without locks."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
