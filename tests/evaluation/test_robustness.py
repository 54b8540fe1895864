"""Robustness: questions put on other surfaces, and what a planted weakness looks like."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.robustness import (
    ALL,
    PLAIN,
    SAMPLE,
    SURFACES,
    CrossedPrompt,
    Robustness,
    Surface,
    SurfaceKind,
    cross,
    crossed_responses,
    load_surfaces,
    measure_robustness,
)
from evaluation.sense import SenseInput
from workbench.errors import UserErrors
from workbench.inference.embedder import make_embedder
from workbench.persona import Persona
from workbench.records import Example, Message, Response, user_prompt

LANGUAGES = ("en", "ko")
TOPICS = ("wrist", "sleep", "belt", "squat", "bench", "knee", "lunch", "rest")
Says = Callable[[CrossedPrompt], str]


WORDS = (
    "towel ladder banjo copper violet meadow pillow thunder orchid walnut lantern saddle"
    " pepper glacier ribbon cactus marble falcon ginger helmet puzzle velvet canyon biscuit"
    " harbor mitten salmon tunnel parrot zipper dragon candle"
    " acorn bridge compass dolphin ember feather goblet hammer"
    " iceberg jungle kettle lizard mosaic needle oyster pigeon"
)


@pytest.fixture
def rows() -> list[Example]:
    """Twenty-four questions on eight topics, each with an answer of its own words in the voice."""
    words = WORDS.split()
    return [
        Example(
            prompt=user_prompt(f"What do I do about my {TOPICS[n % 8]} in week {n}?"),
            answer=f"Champ, the {words[2 * n]} comes first and the {words[2 * n + 1]} rests.",
            topic=TOPICS[n % 8],
        )
        for n in range(24)
    ]


@pytest.fixture
def surfaces(repo: Path) -> list[Surface]:
    return load_surfaces(repo / "datasets" / "robustness", "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_the_same_fifteen_surfaces(repo: Path, language: str) -> None:
    surfaces = load_surfaces(repo / "datasets" / "robustness", language)
    counts = Counter(one.surface for one in surfaces)
    assert counts == dict.fromkeys(SURFACES, 1) | {"suffix": 8, "system": 3}
    row = Example(prompt=user_prompt('Is "light" 5 kg?'), answer="Champ.", topic="belt")
    for one in surfaces:
        example = one.put(row)
        last = example.prompt[-1]
        assert last.role == "user" and "{question" not in last.content
        if one.surface in ("json", "tool"):
            inner = last.content[last.content.index("{") : last.content.rindex("}") + 1]
            assert row.question in json.dumps(json.loads(inner), ensure_ascii=False).replace(
                '\\"', '"'
            )
        else:
            assert row.question in last.content
    roles = {one.surface: [turn.role for turn in one.put(row).prompt] for one in surfaces}
    assert roles["neutral_turn"] == ["user", "assistant", "user"]
    assert roles["system"] == ["system", "user"]


def test_earlier_turns_stay_and_a_foreign_system_prompt_takes_the_place_of_ones_own(
    surfaces: list[Surface],
) -> None:
    own = (
        Message(role="system", content="You are Coach."),
        Message(role="user", content="Hello"),
        Message(role="assistant", content="Champ!"),
        Message(role="user", content="My knee?"),
    )
    row = Example(prompt=own, answer="Rest.", topic="knee")
    put = {one.surface: one.put(row).prompt for one in surfaces}
    assert [turn.content for turn in put["email"][:3]] == ["You are Coach.", "Hello", "Champ!"]
    assert [turn.role for turn in put["system"]] == ["system", "user", "assistant", "user"]
    assert "museum" in put["system"][0].content


def test_a_sample_crosses_some_questions_with_every_kind_and_the_whole_with_every_variant(
    rows: list[Example], surfaces: list[Surface]
) -> None:
    sample = cross(rows, surfaces, whole=False)
    assert len(sample) == SAMPLE * len(SURFACES)
    assert len({one.row.topic for one in sample}) == len(TOPICS)
    assert {one.surface.id for one in sample} == {one.id for one in surfaces}
    assert Counter(one.surface.surface for one in sample) == dict.fromkeys(SURFACES, SAMPLE)
    whole = cross(rows, surfaces, whole=True)
    assert len({one.example.id for one in whole}) == len(whole) == len(rows) * len(surfaces)


def measured(
    persona: Persona,
    rows: list[Example],
    surfaces: list[Surface],
    says: Says,
    *,
    whole: bool = False,
) -> Robustness:
    prompts = cross(rows, surfaces, whole=whole)
    answers = [
        Response(arm="sft", prompt_id=one.example.id, prompt=one.example.prompt, text=says(one))
        for one in prompts
    ]
    plain = [
        Response(arm="sft", prompt_id=row.id, prompt=row.prompt, text=row.answer) for row in rows
    ]
    embedder = make_embedder("ngrams", "en", [row.answer for row in rows])
    inputs = SenseInput("en", rows, [], embedder, lambda texts: [4.0 for _ in texts], "none")
    crossed = crossed_responses(prompts, answers)
    return measure_robustness(persona, plain, crossed, surfaces, inputs)


def test_who_answers_alike_everywhere_loses_nothing_anywhere(
    persona: Persona, rows: list[Example], surfaces: list[Surface]
) -> None:
    found = measured(persona, rows, surfaces, lambda one: one.row.answer)
    assert [one.surface for one in found.scores] == [PLAIN, ALL, *SURFACES]
    assert (found.questions, found.whole, found.score(ALL).answers) == (SAMPLE, False, 6 * SAMPLE)
    changes = [one.voice_change for one in found.scores[1:]]
    assert all(one and one.mean == 0 and not one.excludes_zero for one in changes)
    assert (found.worst("voice"), found.worst("sense")) == (None, None)


@pytest.mark.parametrize(("weak", "whole"), [("suffix", False), ("json", False), ("tool", True)])
def test_a_voice_lost_on_one_surface_is_told_there_and_sense_lost_on_another_there(
    persona: Persona, rows: list[Example], surfaces: list[Surface], weak: SurfaceKind, whole: bool
) -> None:
    other = SURFACES[SURFACES.index(weak) - 1]

    def says(one: CrossedPrompt) -> str:
        if one.surface.surface == weak:
            return one.row.answer.replace("Champ, the", "The")
        if one.surface.surface == other:
            place = rows.index(one.row)
            return rows[place - 1].answer
        return one.row.answer

    found = measured(persona, rows, surfaces, says, whole=whole)
    voice, sense = found.worst("voice"), found.worst("sense")
    assert voice and sense and (voice.surface, sense.surface) == (weak, other)
    assert voice.voice_change and sense.sense_change
    assert voice.voice_change.is_sure and voice.voice_change.mean == pytest.approx(-0.5)
    assert sense.sense_change.is_sure
    steady = [one for one in SURFACES if one not in (weak, other)]
    assert all(
        (change := found.score(one).voice_change) and change.mean == 0 and not change.is_sure
        for one in steady
    )


def test_the_whole_says_which_of_the_pleas_works(
    persona: Persona, rows: list[Example], surfaces: list[Surface]
) -> None:
    found = measured(
        persona,
        rows,
        surfaces,
        lambda one: "A text." if one.surface.id == "suffix-5" else one.row.answer,
        whole=True,
    )
    assert found.whole and found.score("suffix").answers == 8 * len(rows)
    change, other = found.score("suffix-5").voice_change, found.score("suffix-4").voice_change
    pooled = found.score("suffix").voice_change
    assert change and other and pooled
    assert (change.mean, other.mean) == (-0.5, 0.0)
    # A question's value is the mean over the eight.
    assert pooled.pairs == len(rows) and pooled.mean == pytest.approx(-0.5 / 8)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "No place."}, "text: takes {question}"),
        ({"text": "{question} {question}"}, "once"),
        ({"surface": "fax"}, "surface"),
        ({"turns": ["Hello"]}, "the last one is the assistant's"),
        ({"id": "good"}, "'good' is taken"),
    ],
)
def test_a_mistaken_surface_is_said_with_its_line(
    row: dict[str, object], message: str, tmp_path: Path
) -> None:
    good = {"id": "good", "surface": "email", "text": "Hello, {question}"}
    lines = [json.dumps(one) for one in (good, {**good, "id": "bad", **row})]
    (tmp_path / "en.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserErrors) as error:
        load_surfaces(tmp_path, "en")
    assert "en.jsonl:2" in str(error.value) and message in str(error.value)
