"""Who plays a user: lines in order, or a model that sees the user and the talk and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.scripted_server import Request, ScriptedServer, says
from workbench.dialogue.players import ModelPlayer, Move, Waiting, scripted_move, user_request
from workbench.dialogue.users import FILE, SimulatedUser, read_users
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona, load_persona
from workbench.records import Message, Messages

PERSONAS = ("gym-trainer", "gym-trainer-ko")


CLERK = SimulatedUser(
    id="clerk",
    topic="squat_form",
    who="A clerk.",
    wants="One exercise.",
    behaviour="hurried",
    manner="Short.",
    first="What do I do?",
    lines=("And then?", "And tomorrow?"),
    satisfied=(r"\bsquats?\b",),
    turns=3,
)


@pytest.fixture
def clerk() -> SimulatedUser:
    return CLERK


def chat(user: SimulatedUser, *answers: str) -> Messages:
    turns = zip(user.messages, answers, strict=False)
    return tuple(
        Message(role=role, content=text)
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    )


def test_lines_are_said_in_order_until_the_turns_are_over(clerk: SimulatedUser) -> None:
    assert scripted_move(clerk, chat(clerk, "Sit.")) == Move("And then?")
    assert scripted_move(clerk, chat(clerk, "Sit.", "Stand.")) == Move("And tomorrow?")
    over = scripted_move(clerk, chat(clerk, "Sit.", "Stand.", "Run."))
    assert (over.text, over.end, over.reason) == ("", "turns_out", "3 turns are over")


def test_a_goal_is_met_by_what_was_answered_at_any_time(clerk: SimulatedUser) -> None:
    assert scripted_move(clerk, chat(clerk, "Squats!", "Stand.", "Run.")).end == "goal_met"


def test_who_hears_the_same_twice_gives_up(clerk: SimulatedUser) -> None:
    move = scripted_move(clerk, chat(clerk, "Sit down.", "sit  down!"))
    assert (move.end, move.reason) == ("given_up", "the answer repeats the one before")


@pytest.mark.parametrize("name", PERSONAS)
def test_no_prompt_of_a_user_model_holds_anything_of_the_specification(
    repo: Path, name: str
) -> None:
    """Every text of the specification, sentence by sentence, against every prompt of every user."""
    folder = repo / "datasets" / name
    persona = load_persona(folder)
    secrets = _texts(persona)
    assert len(secrets) > 40
    for user in read_users(folder / FILE, persona.topics):
        talk = chat(user, *(["Hm."] * len(user.messages)))
        for end in range(2, len(talk) + 1, 2):
            prompt = "\n".join(
                one.content for one in user_request(user, talk[:end], persona.language).messages
            )
            assert [text for text in secrets if text in prompt] == []
            assert user.wants in prompt and user.lines[-1] not in prompt[: prompt.find("Hm.")]


def _texts(persona: Persona) -> list[str]:
    """What of a specification would tell a reader how the persona speaks."""
    parts = [persona.role, persona.audience, persona.voice.register_, persona.safety.boundary]
    parts += [*persona.structure, *persona.must, *persona.must_not, persona.record_id, persona.id]
    parts += [text for trait in persona.traits for text in (trait.name, trait.about)]
    sentences = [one.strip() for part in parts for one in part.split(". ")]
    return [one for one in sentences if len(one) > 7]


def test_roles_are_swapped_and_the_reply_is_bounded(clerk: SimulatedUser) -> None:
    request = user_request(clerk, chat(clerk, "Sit.", "Stand."), "en")
    roles = [message.role for message in request.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert request.messages[2].content == clerk.first
    assert request.messages[-1].content.startswith("Stand.\n\n[")
    assert "1 replies are left" in request.messages[-1].content


def test_seeds_and_turns_draw_apart_and_repeat(clerk: SimulatedUser) -> None:
    def seed(talk: Messages, seed: int) -> int | None:
        return user_request(clerk, talk, "en", seed).seed

    one, two = chat(clerk, "Sit."), chat(clerk, "Sit.", "Stand.")
    assert seed(one, 1) == seed(one, 1)
    assert len({seed(one, 1), seed(one, 2), seed(two, 1)}) == 3


def _plays(request: Request) -> object:
    answer = request.body["messages"][-1]["content"]
    if "refuse" in answer:
        return says("", finish_reason="content_filter")
    state = "goal_met" if answer.startswith("Squat") else "go_on"
    message = "" if state == "goal_met" else f"About {answer.split()[0]}?"
    return says(json.dumps({"state": state, "reason": "So.", "message": message}))


def test_a_model_plays_until_its_goal_its_turns_or_a_failure(
    clerk: SimulatedUser, tmp_path: Path
) -> None:
    with ScriptedServer(_plays) as server:  # type: ignore[arg-type]
        endpoint = Endpoint(base_url=server.url, model="m", attempts=1)
        player = ModelPlayer(endpoint, "en", tmp_path / "answers.sqlite")
        talks = (("Sit.",), ("Squat.",), ("I refuse.",), ("A.", "B.", "C."))
        waiting = [Waiting(clerk, chat(clerk, *answers)) for answers in talks]
        moves = player.moves(waiting)
        asked = len(server.requests)
        again = player.moves(waiting)
        assert len(server.requests) == asked  # nothing is paid for twice
    assert [move.text for move in moves] == ["About Sit.?", "", "", ""]
    assert [move.end for move in moves] == ["", "goal_met", "user_failed", "turns_out"]
    assert moves[2].reason == "content_filter"
    assert [(one.text, one.end) for one in again] == [(one.text, one.end) for one in moves]
