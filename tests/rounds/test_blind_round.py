"""A blind round on a real server: pushed, chosen by reviewers, counted."""

from __future__ import annotations

import json

import pytest

from curation.argilla.client import connected, existing_dataset, records_of
from curation.argilla.server import Server
from evaluation.people import Blind
from evaluation.scorers import ScoringInput, score_responses
from rounds.blind_round import run_blind_round
from rounds.layout import BLIND_KEY, BLIND_PAIRS, PEOPLE
from tests.commands import Commands
from tests.curation.review_team import REVIEWERS, answer, owner_of, reviewers_of
from workbench.errors import UserError
from workbench.persona import load_persona
from workbench.records import Response, user_prompt
from workbench.stats import compare
from workbench.store import write_json

ROUND = 131  # the server is that of all tests, which have other rounds of this persona
DATASET = f"gym-trainer-round-{ROUND}-people"
TEXTS = {"base": "There are several causes. {}", "sft": "Champ, stand up right now. {} 💪"}


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
    scores = score_responses(ScoringInput(persona, responses))
    commands.put("evaluate/responses.jsonl", responses, ROUND)
    commands.put("evaluate/scores.jsonl", scores, ROUND)
    comparison = compare(scores, responses=responses).model_dump(mode="json")
    write_json(commands.folder(ROUND) / "evaluate/comparison.json", comparison)
    return commands


def test_a_round_that_was_not_evaluated_has_no_pairs(commands: Commands) -> None:
    problem = "evaluate/responses.jsonl, which is not there yet"
    with pytest.raises(UserError, match=problem):
        run_blind_round(commands.context(ROUND + 1))


def test_reviewers_choose_without_names_and_their_choices_become_a_win_rate(
    reviewed_server: Server, evaluated: Commands
) -> None:
    context = evaluated.context(ROUND)
    run_blind_round(context)

    rows = context.round.read(BLIND_PAIRS)
    with connected(owner_of(reviewed_server)) as client:
        records = records_of(client, existing_dataset(client, owner_of(reviewed_server), DATASET))
    assert {one["external_id"] for one in records} == {row.id for row in rows}
    for one in records:
        starts = {one["fields"]["answer_a"][:5], one["fields"]["answer_b"][:5]}
        assert starts == {"Champ", "There"}
        visible = json.dumps({**one["metadata"], **one["fields"]}).lower()
        assert "sft" not in visible and "base" not in visible

    # One reviewer takes the trained arm on two questions and calls the third a tie.
    blind = Blind(examples=tuple(rows), **context.round.read(BLIND_KEY))
    places = {one["external_id"]: one["fields"] for one in records}
    for number, pair in enumerate(blind.pairs):
        place = "a" if places[pair.record]["answer_a"].startswith("Champ") else "b"
        login = reviewers_of(reviewed_server)[REVIEWERS[0]]
        better = place if number < 2 else "tie"
        answer(login, DATASET, pair.record, better=better, fidelity=4)

    output = evaluated.on_round("evaluate", "--people", number=ROUND)

    assert (output.code, output.out) == (0, "sft preferred to base: 100%\n")
    people = context.round.read(PEOPLE)
    (pairing,) = people.pairings
    assert (pairing.wins, pairing.losses, pairing.ties, pairing.open) == (2, 0, 1, 0)
    assert (people.votes, people.reviewers) == (3, 1)
