"""What a round waits for: stages to do, one that was stopped, people, or the round after it."""

from __future__ import annotations

from rounds.overview import RoundOverview, next_step
from rounds.pipeline import stages_until
from tests.commands import Workspace


def test_the_next_step_follows_what_is_done(workspace: Workspace) -> None:
    step = next_step(workspace.context())
    assert (step.kind, step.stage) == ("run", "import")
    for stage in stages_until(None):
        workspace.finished(stage, counts={"kept": 3, "complete": True})
    assert next_step(workspace.context()).kind == "plan"
    workspace.finished("review", counts={"complete": False})
    assert next_step(workspace.context()).kind == "review"
    assert RoundOverview.read(workspace.round()).decided == {"kept": 3}


def test_a_stage_that_was_stopped_comes_next_although_it_was_done_before(
    workspace: Workspace,
) -> None:
    for stage in stages_until(None):
        workspace.finished(stage)
    workspace.round().partial("sft").mkdir()
    step = next_step(workspace.context())
    assert (step.kind, step.stage, tuple(step.missing)) == ("run", "sft", ("sft",))
