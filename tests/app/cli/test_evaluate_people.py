"""`persona evaluate --people` on a real server: pushed blind, chosen by reviewers, counted."""

from __future__ import annotations

import json

import pytest

from curation.argilla.client import connected, existing_dataset, records_of
from curation.argilla.server import Server, ServerHome, start
from curation.argilla.server_home import HOME_VARIABLE
from evaluation.people import Blind, People
from evaluation.scorers import score_responses
from tests.commands import Commands
from tests.curation.review_team import REVIEWERS, answer, owner_of, reviewers_of
from workbench.persona import load_persona
from workbench.records import Example, Response, user_prompt
from workbench.stats import compare
from workbench.store import read_records, write_json

ROUND = 131  # the server is that of all tests, which have other rounds of this persona
DATASET = f"gym-trainer-round-{ROUND}-people"
TEXTS = {"base": "There are several causes. {}", "sft": "Champ, stand up right now. {} 💪"}


@pytest.fixture
def server(
    argilla_home: ServerHome,
    argilla_server: Server,
    commands: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> Server:
    monkeypatch.setenv(HOME_VARIABLE, str(argilla_home.path))
    return start(argilla_home, REVIEWERS, reuse=True)


@pytest.fixture
def evaluated(commands: Commands) -> Commands:
    """A round in which two arms have answered three questions."""
    persona = load_persona(commands.repo / "datasets" / "gym-trainer")
    responses = [
        Response(
            arm=arm,
            prompt_id=f"ex-{n}",
            prompt=user_prompt(f"Blind question {n}?"),
            text=text.format(n),
            topic="soreness",
        )
        for arm, text in TEXTS.items()
        for n in range(3)
    ]
    scores = score_responses(persona, responses)
    commands.put("evaluate/responses.jsonl", responses, ROUND)
    commands.put("evaluate/scores.jsonl", scores, ROUND)
    comparison = compare(scores, responses=responses).model_dump(mode="json")
    write_json(commands.folder(ROUND) / "evaluate/comparison.json", comparison)
    return commands


def test_a_round_that_was_not_evaluated_is_told(commands: Commands):
    said = commands.on_round("evaluate", "--people", number=ROUND + 1)
    assert said.code == 2
    assert "evaluate/responses.jsonl, which is not there yet" in said.err


def test_reviewers_choose_without_names_and_their_choices_become_a_win_rate(
    server: Server, evaluated: Commands
):
    commands, folder = evaluated, evaluated.folder(ROUND)
    assert commands.on_round("evaluate", "--people", number=ROUND).code == 0

    shown = list(read_records(folder / "people/pairs.jsonl", Example))
    key = json.loads((folder / "people/key.json").read_text())
    with connected(owner_of(server)) as client:
        held = records_of(client, existing_dataset(client, owner_of(server), DATASET))
    assert {one["external_id"] for one in held} == {row.id for row in shown}
    for one in held:
        seen = {one["fields"]["answer_a"][:5], one["fields"]["answer_b"][:5]}
        assert seen == {"Champ", "There"}
        told = json.dumps({**one["metadata"], **one["fields"]}).lower()
        assert "sft" not in told and "base" not in told

    # One reviewer takes the trained arm on two questions and calls the third a tie.
    blind = Blind(examples=tuple(shown), **key)
    places = {one["external_id"]: one["fields"] for one in held}
    for number, duel in enumerate(blind.pairs):
        side = "a" if places[duel.record]["answer_a"].startswith("Champ") else "b"
        better = side if number < 2 else "tie"
        login = reviewers_of(server)[REVIEWERS[0]]
        answer(login, DATASET, duel.record, better=better, fidelity=4)

    said = commands.on_round("evaluate", "--people", number=ROUND)

    people = People.model_validate_json((folder / "people/people.json").read_text())
    (pairing,) = people.pairings
    assert said.code == 0
    assert "sft preferred to base: 100%" in said.out
    assert (pairing.wins, pairing.losses, pairing.ties, pairing.open) == (2, 0, 1, 0)
    assert (people.votes, people.reviewers) == (3, 1)
