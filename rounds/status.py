"""How a round stands now: its stages, what the running one does, and how far reviewers are.

In: a round, finished, running or waiting. Out: a :class:`RoundStatus`, which ``persona watch``
prints. It only reads: it may be asked for at any time, as often as one likes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.argilla.pull import Progress, progress_if_pushed
from generation.live_rows import FILE as LIVE_ROWS
from generation.live_rows import LiveRow, read_live_rows
from rounds.context import RoundContext
from rounds.layout import (
    FILTERED,
    GENERATE_DROPS,
    GENERATED,
    LOCK,
    PROGRESS,
    REPORT_PAGE,
    STAGES,
    TEACHER_JOB,
    Manifest,
    RoundFolder,
    curve,
)
from rounds.review_server import ReviewServer
from workbench.config import METHODS
from workbench.console import PublishedProgress, read_progress
from workbench.errors import UserError
from workbench.store import is_locked

_POINTS = 120
"""Logged steps of a curve that are read."""
_COUNTS = 5
_NO_COUNTS = ("seed", "resumed_from", "trainable_parameters", "max_new_tokens")
"""Numbers of a manifest that are not of rows."""


@dataclass(frozen=True)
class StageStatus:
    """One stage of a round."""

    stage: str
    manifest: Manifest | None
    """Of its last whole run."""
    begun: bool
    progress: PublishedProgress | None
    """None where the stage is not begun, or nothing is tracked now."""

    @property
    def state(self) -> Literal["to do", "begun", "done"]:
        """Whether it runs, or was stopped halfway; else whether it is done."""
        return "begun" if self.begun else "done" if self.manifest else "to do"


@dataclass(frozen=True)
class RoundStatus:
    """A round as it is now."""

    persona: str
    """Its name."""
    folder: Path
    stages: tuple[StageStatus, ...]
    is_running: bool
    """Whether a command is at work on it."""
    report: Path | None
    """The page, where it was made of all that is there now."""
    review: Progress | UserError | None
    """How far reviewers are, or why nobody knows; None unless the round waits for them."""


def round_status(context: RoundContext, *, review: bool = True) -> RoundStatus:
    """Return the state of a round as it is now; ``review`` asks the review server as well.

    Training methods that the configuration leaves out are named only where they were trained.

    Raises:
        UserError: A manifest of another format.
    """
    one = context.round
    stages = []
    for stage in STAGES:
        manifest = one.manifest(stage)
        if manifest is None and stage in METHODS and stage not in context.config.train.methods:
            continue
        begun = one.partial(stage).exists()
        progress = read_progress(one.folder / PROGRESS) if begun else None
        stages.append(StageStatus(stage, manifest, begun, progress))
    is_done = all(stage.state == "done" for stage in stages)
    return RoundStatus(
        context.persona.name,
        one.folder,
        tuple(stages),
        is_locked(one.folder / LOCK),
        one.path(REPORT_PAGE) if is_done else None,
        review_state(context) if review else None,
    )


def rows_now(context: RoundContext) -> list[LiveRow]:
    """Return the generated rows as far as they came: of the running job, or of the stage's end.

    A stage may put its folder in the place of the last one while its files are read: then they are
    read again, so that rows and drops are of one run.

    Raises:
        UserError: A file is broken.
    """
    one = context.round
    live = one.scratch("generate") / TEACHER_JOB / LIVE_ROWS
    while True:
        before = _standing(one, live)
        try:
            rows = _generated_rows(one, live)
        except (UserError, FileNotFoundError):
            if _standing(one, live) == before:
                raise
            continue
        if _standing(one, live) == before:
            return rows


def _generated_rows(one: RoundFolder, live: Path) -> list[LiveRow]:
    if one.has(GENERATED) and not one.partial("generate").exists():
        return LiveRow.of(one.read(GENERATED), one.read_if_there(GENERATE_DROPS))
    return read_live_rows(live)


def _standing(one: RoundFolder, live: Path) -> tuple[object, ...]:
    """Return what changes where the stage begins, ends, or replaces its folder."""
    try:
        folder = one.stage("generate").stat()
        own = (folder.st_ino, folder.st_ctime_ns)
    except FileNotFoundError:
        own = (0, 0)
    return (*own, one.partial("generate").exists(), live.exists())


def review_state(context: RoundContext) -> Progress | UserError | None:
    """Return the reviewers' progress while the round waits for them, in a run or pushed by hand."""
    one, manifest = context.round, context.round.manifest("review")
    over = manifest is not None and manifest.counts.get("complete", True)
    if not one.partial("review").exists() and (over or not one.has(FILTERED)):
        return None
    try:
        standing = review_standing(context)
    except UserError as error:
        return error
    return standing.rows


@dataclass(frozen=True)
class ReviewStanding:
    """What the review server holds of a round."""

    server: str
    """Its address; empty where none runs."""
    rows: Progress | None = None
    """How far reviewers are; None where nothing was pushed."""
    queue: Progress | None = None
    """How far the disagreement queue is; None where none was pushed."""


def review_standing(context: RoundContext) -> ReviewStanding:
    """Return what the review server holds of a round, whatever the round waits for.

    Raises:
        UserError: The server refuses or does not answer.
    """
    server = ReviewServer.of(context)
    if not list(server.pids()):
        return ReviewStanding("")
    connection = server.connect()
    at = connection, context.persona, context.round.name
    rows, queue = progress_if_pushed(*at), progress_if_pushed(*at, queue=True)
    return ReviewStanding(connection.url, rows, queue)


def main_counts(counts: Mapping[str, object]) -> dict[str, int]:
    """Return the counts of a stage's manifest that a person asks after, the first few of them."""
    numbers = {
        name: own
        for name, own in counts.items()
        if isinstance(own, int) and not isinstance(own, bool) and own and name not in _NO_COUNTS
    }
    return dict(list(numbers.items())[:_COUNTS])


def live_curves(one: RoundFolder) -> dict[str, list[dict[str, float]]]:
    """Return training method → what its logged steps held so far, of a run under way too.

    Of a long run every so many steps, the last one among them.
    """
    curves: dict[str, list[dict[str, float]]] = {}
    for method in METHODS:
        own = curve(method)
        paths = (one.partial(method) / own.name, one.path(own))
        path = next((path for path in paths if path.exists()), None)
        # The last line may be half written.
        lines = path.read_text(encoding="utf-8").splitlines() if path else []
        if steps := [json.loads(line) for line in _thinned(lines) if line.endswith("}")]:
            curves[method] = [step for step in steps if "step" in step]
    return curves


def _thinned(lines: Sequence[str]) -> list[str]:
    """Return as many lines of a curve as can be told apart, those of evaluations all.

    A page that is open looks once a second: thousands of steps would cost the training itself.
    """
    every = -(-len(lines) // _POINTS)
    ends = (0, len(lines) - 1)
    return [
        line
        for number, line in enumerate(lines)
        if number % max(every, 1) == 0 or number in ends or '"eval_' in line
    ]


def dependents(one: RoundFolder, *, stage: str = "", file: str = "") -> list[str]:
    """Return the finished stages that hang on a stage, or on a file from outside, in their order.

    A stage hangs on what its manifest names among its inputs, and on what that hangs on. ``file``
    is the label that manifests give it, such as ``persona.yaml``.
    """
    changed = {stage} if stage else set[str]()
    names = []
    for name in STAGES:
        manifest = one.manifest(name)
        inputs = manifest.inputs if manifest else {}
        own = {path.partition("/")[0] for path in inputs if "/" in path}
        if name != stage and (own & changed or (file and file in inputs)):
            changed.add(name)
            names.append(name)
    return names
