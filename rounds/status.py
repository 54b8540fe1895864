"""How a round stands now: its stages, what the running one does, and how far reviewers are.

In: a round, finished, running or waiting. Out: a :class:`RoundStatus`, which ``persona watch``
prints. It only reads: it may be asked for at any time, as often as one likes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from curation.argilla.pull import review_progress
from rounds.context import RoundContext
from rounds.layout import PROGRESS, STAGES, Manifest
from rounds.review_server import ReviewServer
from workbench.config import METHODS
from workbench.console import PublishedProgress, read_progress
from workbench.errors import UserError
from workbench.values import Frozen

OLD = 120.0
"""Seconds after which progress may be what a killed command has left."""
StageState = Literal["to do", "begun", "done"]


class StageProgress(Frozen):
    """What a begun stage is doing."""

    label: str
    """In the present tense."""
    done: int
    total: int | None
    """None where it is not known."""
    note: str
    seconds: float
    """Since the work began."""
    seconds_left: float | None
    silent: float
    """Seconds since it was last heard of."""

    @property
    def may_be_dead(self) -> bool:
        """Whether it has been silent for so long that its command may have been killed."""
        return self.silent > OLD


class StageStatus(Frozen):
    """One stage of a round."""

    stage: str
    state: StageState
    seconds: float | None = None
    peak_mib: int | None = None
    counts: dict[str, Any] = Field(default_factory=dict)
    """Of its manifest."""
    progress: StageProgress | None = None
    """None where the stage is not begun, or nothing is tracked now."""


class ReviewerStatus(Frozen):
    """How far one reviewer is, in records."""

    submitted: int
    discarded: int
    left: int


class ReviewStatus(Frozen):
    """How far the reviewers are."""

    completed: int = 0
    """Records with all the reviews that they need."""
    total: int = 0
    reviewers: dict[str, ReviewerStatus] = Field(default_factory=dict)
    problem: str = ""
    """Why nothing is known, in one line."""


class RoundStatus(Frozen):
    """A round as it is now."""

    persona: str
    """Its name."""
    folder: Path
    stages: tuple[StageStatus, ...]
    review: ReviewStatus | None
    """None unless the round waits for reviewers."""


def round_status(context: RoundContext) -> RoundStatus:
    """Return the state of a round as it is now.

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
        stages.append(_begun(context, stage) if begun else _finished(stage, manifest))
    return RoundStatus(
        persona=context.persona.name,
        folder=one.folder,
        stages=tuple(stages),
        review=_review(context),
    )


def _finished(stage: str, manifest: Manifest | None) -> StageStatus:
    if manifest is None:
        return StageStatus(stage=stage, state="to do")
    return StageStatus(
        stage=stage,
        state="done",
        seconds=manifest.seconds,
        peak_mib=manifest.peak_mib,
        counts=manifest.counts,
    )


def _begun(context: RoundContext, stage: str) -> StageStatus:
    published = read_progress(context.round.folder / PROGRESS)
    progress = stage_progress(published, time.time()) if published else None
    return StageStatus(stage=stage, state="begun", progress=progress)


def stage_progress(published: PublishedProgress, now: float) -> StageProgress:
    """Return published progress as it looks at ``now``, in seconds since 1970."""
    seconds, total = published.at - published.started, published.total
    each = seconds / max(published.done, 1)
    return StageProgress(
        label=published.label,
        done=published.done,
        total=total,
        note=published.note,
        seconds=seconds,
        seconds_left=each * (total - published.done) if total else None,
        silent=now - published.at,
    )


def _review(context: RoundContext) -> ReviewStatus | None:
    """Return the reviewers' progress while the round waits for them."""
    server = ReviewServer.of(context)
    if not context.round.partial("review").exists() or not list(server.pids()):
        return None
    try:
        progress = review_progress(server.connect(), context.persona, context.round.name)
    except UserError as error:
        return ReviewStatus(problem=str(error))
    return ReviewStatus(
        completed=progress.completed,
        total=progress.total,
        reviewers={
            name: ReviewerStatus(submitted=one.submitted, discarded=one.discarded, left=one.left)
            for name, one in progress.reviewers.items()
        },
    )
