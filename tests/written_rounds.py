"""Rounds written by hand, whose weaknesses are known: no model, no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.commands import write_manifest
from workbench.persona import FIDELITY, Persona, load_persona
from workbench.records import Decision, Example, Response, Review, Score, user_prompt
from workbench.stats import compare
from workbench.store import write_json, write_records

GYM = Path("datasets/gym-trainer")
ANSWER = (
    "Champ, a stiff back is a parked back. Stand up right now and roll your shoulders ten times,"
    " because a joint that never moves forgets how. Today walk for ten minutes after lunch and do"
    " two sets of eight chair squats, slow on the way down. I'll check on you tomorrow. \U0001f4aa"
)
"""It shows every rule trait of the running example."""
TRAIN, TEST = ("soreness", "eating", "plateaus"), ("squat_form", "cardio_start")


def row(topic: str, number: int, answer: str = ANSWER) -> Example:
    """Return a row of a topic; numbers tell questions apart."""
    question = f"Question {number} about {topic}: what do I do?"
    return Example(prompt=user_prompt(question), answer=answer, topic=topic)


def written_round(
    folder: Path,
    *,
    missed: Mapping[str, int] | None = None,
    per_topic: int = 10,
    training: int | None = None,
    persona: Persona | None = None,
) -> Path:
    """Write an evaluated round: the arm ``sft`` shows every rule trait, less what it missed.

    Args:
        folder: The round's folder.
        missed: Trait → held-out prompts, from the first one on, whose answer lacks it.
        per_topic: Rows of each topic, on the training side and on the test side.
        training: Rows of each topic on the training side, where they are others.
        persona: The running example by default.
    """
    persona, missed = persona or load_persona(GYM), missed or {}
    train = [row(topic, n) for topic in TRAIN for n in range(training or per_topic)]
    test = [row(topic, n) for topic in TEST for n in range(per_topic)]
    write_records(folder / "split/train.jsonl", train)
    write_records(folder / "split/validation.jsonl", [])
    write_records(folder / "split/test.jsonl", test)
    write_records(folder / "filter/examples.jsonl", [*train, *test])
    write_records(folder / "filter/preferences.jsonl", [])
    write_records(folder / "resolve/examples.jsonl", [*train, *test])
    write_records(folder / "resolve/decisions.jsonl", [])
    for name in ("reviews", "gold-reviews", "adjudications"):
        write_records(folder / f"review/{name}.jsonl", [])
    write_records(folder / "review/pairs.jsonl", [])
    responses: list[Response] = []
    scores: list[Score] = []
    for arm in ("base", "sft"):
        for place, prompt in enumerate(test):
            response = Response(
                arm=arm,
                prompt_id=prompt.id,
                prompt=prompt.prompt,
                text=f"{arm} {place}",
                topic=prompt.topic,
            )
            responses.append(response)
            shown = {
                trait.id: float(arm == "sft" and place >= missed.get(trait.id, 0))
                for trait in persona.rule_traits
            }
            scores += scored(response, shown)
    write_records(folder / "evaluate/responses.jsonl", responses)
    write_records(folder / "evaluate/scores.jsonl", scores)
    comparison = compare(scores, "base", responses=responses)
    write_json(folder / "evaluate/comparison.json", comparison.model_dump(mode="json"))
    write_manifest(folder, "evaluate")
    return folder


def scored(response: Response, shown: Mapping[str, float]) -> list[Score]:
    """Return a response's scores of traits, and its fidelity over them."""
    found = [
        Score(
            arm=response.arm,
            prompt_id=response.prompt_id,
            response=response.id,
            metric=name,
            value=value,
            probe=response.probe,
            turn=response.turn,
        )
        for name, value in {**shown, FIDELITY: sum(shown.values()) / len(shown)}.items()
    ]
    parts = tuple(score.id for score in found[:-1])
    return [*found[:-1], found[-1].evolve(parents=parts)]


def reviewed(folder: Path, votes: Mapping[str, tuple[int, ...]]) -> None:
    """Write reviews and decisions: record → each reviewer's rating of its fidelity."""
    reviews = [
        Review(reviewer=f"reviewer-{n}", record=record, answers={"fidelity": rating})
        for record, ratings in votes.items()
        for n, rating in enumerate(ratings, start=1)
    ]
    decisions = [
        Decision(record=record, outcome="keep" if min(ratings) > 3 else "drop")
        for record, ratings in votes.items()
    ]
    write_records(folder / "review/reviews.jsonl", reviews)
    write_records(folder / "resolve/decisions.jsonl", decisions)
