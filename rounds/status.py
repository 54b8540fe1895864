"""How a round stands now: its stages, what the running one does, and how far reviewers are.

In: a round, finished, running or waiting. Out: a :class:`RoundStatus`, which ``persona watch``
prints. It only reads: it may be asked for at any time, as often as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curation.argilla.pull import Progress, review_progress
from rounds.context import RoundContext
from rounds.layout import PROGRESS, STAGES, Manifest
from rounds.review_server import ReviewServer
from workbench.config import METHODS
from workbench.console import PublishedProgress, read_progress
from workbench.errors import UserError


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
    review: Progress | UserError | None
    """How far reviewers are, or why nobody knows; None unless the round waits for them."""


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
        progress = read_progress(one.folder / PROGRESS) if begun else None
        stages.append(StageStatus(stage, manifest, begun, progress))
    return RoundStatus(context.persona.name, one.folder, tuple(stages), _review(context))


def _review(context: RoundContext) -> Progress | UserError | None:
    """Return the reviewers' progress while the round waits for them."""
    server = ReviewServer.of(context)
    if not context.round.partial("review").exists() or not list(server.pids()):
        return None
    try:
        return review_progress(server.connect(), context.persona, context.round.name)
    except UserError as error:
        return error
