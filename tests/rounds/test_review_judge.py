"""What a judge suggests to reviewers, through its real client and a scripted server."""

from __future__ import annotations

import json

import pytest

from rounds.review_rows import judge_opinions
from tests.commands import Workspace
from tests.curation.review_team import seeds
from tests.scripted_server import Reply, Request, ScriptedServer
from workbench.checks import Judge
from workbench.inference.endpoint import Endpoint


def test_a_judges_yes_and_no_become_a_suggested_fidelity_and_are_asked_for_once(
    workspace: Workspace,
) -> None:
    rows = seeds(workspace.repo / "datasets" / "gym-trainer")[:3]

    def script(request: Request) -> Reply:
        if rows[2].answer in request.prompt:
            return Reply(status=500)
        word = "yes" if rows[0].answer in request.prompt else "no"
        return Reply(json.dumps({"reason": "So.", "value": word}))

    persona = workspace.context().persona
    cache = workspace.runs / "answers.sqlite"
    assert judge_opinions(persona, None, rows, cache=cache) == {}
    with ScriptedServer(script) as server:
        judge = Endpoint(base_url=server.url, model="strict", timeout=5.0, attempts=1)
        opinions = judge_opinions(persona, judge, rows, cache=cache)
        asked = len(server.requests)
        assert judge_opinions(persona, judge, rows[:2], cache=cache) == opinions
        assert len(server.requests) == asked
    assert set(opinions) == {rows[0].id, rows[1].id}, "nothing is suggested where the judge failed"
    traits = persona.traits
    for row, word in zip(rows, (1.0, 0.0), strict=False):
        shown = [
            word if isinstance(trait.check, Judge) else float(bool(trait.passes(row.answer)))
            for trait in traits
        ]
        share = sum(shown) / len(shown)
        opinion = opinions[row.id]
        assert opinion.score == pytest.approx(share, abs=0.005)
        assert (opinion.fidelity, opinion.agent) == (1 + round(4 * share), "strict")
    assert opinions[rows[0].id].fidelity > opinions[rows[1].id].fidelity
