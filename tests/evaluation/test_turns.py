from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.answer import answer_arms
from evaluation.arms import Arm, ModelPool
from evaluation.probes import take_probes, user_probes
from evaluation.turns import first_turn
from rounds.safety import more_conversations
from tests.scripted_server import Reply, Request, ScriptedServer, says
from tests.workbench.dialogue.test_players import CLERK as TRAINED_CLERK
from workbench.config import EvaluateSettings
from workbench.dialogue.players import ModelPlayer
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.records import Example, ProbePrompt, Response, user_prompt
from workbench.stats.comparison import DRIFT


@pytest.mark.parametrize(("topic", "probe"), [("", "out_of_scope"), ("savings", "")])
def test_a_held_out_row_of_a_probes_kind_stays_among_the_held_out_rows(
    topic: str, probe: str
) -> None:
    row = Example(
        prompt=user_prompt("Which fund?"), answer="Not mine.", topic=topic, kind="out_of_scope"
    )

    assert (
        first_turn(Arm("base"), row, 0).response(Completion(end="ok", text="No.", tokens=1)).probe
        == probe
    )


CLERK = TRAINED_CLERK.model_copy(update={"held_out": True})


def _arm(request: Request) -> Reply:
    """Count the answers that were given before; a user model asks about the last one."""
    if request.schema is not None:
        last = request.body["messages"][-1]["content"].split("\n")[0]
        state = "goal_met" if last == "Squat 2." else "go_on"
        message = "" if state == "goal_met" else f"Why {last}"
        return says(json.dumps({"state": state, "reason": "Enough.", "message": message}))
    earlier = sum(one["role"] == "assistant" for one in request.body["messages"])
    return says("" if "silence" in request.prompt else f"Squat {earlier + 1}.")


def _talk(server: ScriptedServer, *, model: bool, first: str = CLERK.first) -> list[Response]:
    endpoint = Endpoint(base_url=server.url, model="m", attempts=1)
    probes = user_probes([CLERK.model_copy(update={"first": first})])
    player = ModelPlayer(endpoint, "en") if model else None
    pool = ModelPool(Path("nowhere"), [])
    return answer_arms([Arm("served", endpoint=endpoint)], probes, pool, player=player)


def test_a_user_with_lines_talks_to_an_arm_and_the_end_is_recorded() -> None:
    with ScriptedServer(_arm) as server:
        answers = _talk(server, model=False)
    assert [one.turn for one in answers] == [1, 2, 3]
    assert [one.prompt[-1].content for one in answers] == list(CLERK.messages)
    assert [one.text for one in answers] == ["Squat 1.", "Squat 2.", "Squat 3."]
    assert [one.ended for one in answers] == ["", "", "goal_met"]
    assert {one.probe for one in answers} == {DRIFT}


def test_a_model_plays_a_user_by_what_the_arm_said() -> None:
    with ScriptedServer(_arm) as server:
        answers = _talk(server, model=True)
    assert [one.prompt[-1].content for one in answers] == [CLERK.first, "Why Squat 1."]
    assert (answers[-1].ended, answers[-1].ended_why) == ("goal_met", "Enough.")


def test_who_gets_no_answer_twice_gives_up() -> None:
    with ScriptedServer(_arm) as server:
        answers = _talk(server, model=False, first="Only silence?")
    assert [one.ended for one in answers] == ["", "given_up"]
    assert {one.text for one in answers} == {""}


def test_users_come_before_fixed_conversations_and_all_means_all() -> None:
    fixed = ProbePrompt(prompt=user_prompt("Hi."), answer="-", kind=DRIFT)
    probes = [fixed, *user_probes([CLERK, CLERK.model_copy(update={"held_out": False})])]
    assert len(probes) == 2
    assert [one.user for one in take_probes(probes, 1, 1)] == [CLERK]
    assert take_probes(probes, 0, "all")[1:] == [fixed]


def test_the_shipped_arm_alone_is_in_the_further_conversations() -> None:
    fixed = [
        ProbePrompt(prompt=user_prompt(f"Hi {number}."), answer="-", kind=DRIFT)
        for number in range(4)
    ]
    probes = [*fixed, *user_probes([CLERK])]

    def further(**settings: object) -> list[ProbePrompt]:
        return more_conversations(probes, EvaluateSettings.model_validate(settings))

    assert further(conversations=2, drift=4) == fixed[1:3]
    assert further(conversations=2, drift=2) == further(conversations="all") == []
    assert further(conversations=0, drift=99) == [*user_probes([CLERK]), *fixed]
