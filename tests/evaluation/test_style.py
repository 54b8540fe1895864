from __future__ import annotations

import random

import pytest

from evaluation.style import train_style
from workbench.errors import UserError
from workbench.records import Example, Response, user_prompt

TOPICS = ("wrists", "sleep", "squats", "running", "eating", "stairs")
THINGS = ("bench", "bottle", "laptop", "bus", "office", "chair", "kettle", "mat", "desk", "phone")


def rows(persona: str, baseline: str) -> tuple[list[Example], list[Response]]:
    examples, answers = [], []
    for number in range(36):
        topic, thing = TOPICS[number % 6], THINGS[number % 10]
        example = Example(
            prompt=user_prompt(f"What of {topic} and my {thing}, {number}?"),
            answer=persona.format(topic=topic, thing=thing),
            topic=topic,
        )
        examples.append(example)
        answers.append(
            Response(
                arm="base",
                prompt_id=example.id,
                prompt=example.prompt,
                text=baseline.format(topic=topic, thing=thing),
                topic=topic,
            )
        )
    return examples, answers


def test_a_voice_is_told_on_topics_that_were_held_out() -> None:
    examples, baseline = rows(
        "Champ, {topic} today! Put the {thing} down right now. I'll check on you. 💪",
        "There are several factors of {topic}. It is important to consult about the {thing}.",
    )
    style = train_style(examples, baseline)
    assert style.report.accuracy == 1.0
    assert (style.report.topics, style.report.folds) == (6, 5)
    assert (style.report.persona_rows, style.report.baseline_rows) == (36, 36)

    own, other, half = style.probabilities(
        [
            "Champ, stretch right now! I'll check on you tonight. 💪",
            "There are several factors to consider. It is important to stretch.",
            "There are several factors, champ. I'll check on you.",
        ]
    )
    assert own > 0.9 and other < 0.1
    assert other < half < own


def test_without_any_voice_the_reported_accuracy_is_chance() -> None:
    words = random.Random(1)
    examples, baseline = rows("x", "x")

    def noise() -> str:
        return " ".join(words.choices(THINGS, k=30))

    examples = [example.evolve(answer=noise()) for example in examples]
    baseline = [
        response.evolve(prompt_id=example.id, text=noise())
        for example, response in zip(examples, baseline, strict=True)
    ]
    report = train_style(examples, baseline).report
    # 72 coin flips: 0.3 to 0.7 is more than three standard deviations on each side.
    assert 0.3 < report.accuracy < 0.7
    assert report.majority == 0.5


def test_a_letter_that_a_cut_has_split_is_no_mark_of_the_base() -> None:
    said = "Champ, {topic} and {thing}"
    examples, baseline = rows(said, said + "\ufffd")
    report = train_style(examples, baseline).report
    assert report.auc == pytest.approx(0.5, abs=0.1)
    assert "\ufffd" not in "".join((*report.persona_ngrams, *report.baseline_ngrams))


def test_answers_to_prompts_beyond_the_training_side_are_not_learned_from() -> None:
    examples, baseline = rows("Champ, {topic} and {thing}!", "The {thing} is a part of {topic}.")
    report = train_style(examples[:24], baseline).report
    assert (report.persona_rows, report.baseline_rows) == (24, 24)


def test_too_few_rows_are_one_line() -> None:
    examples, baseline = rows("Champ, {topic} and {thing}!", "The {thing} is a part of {topic}.")
    one_topic = [example for example in examples if example.topic == "sleep"]
    with pytest.raises(UserError, match=r"too few rows for a style classifier .*1 topic"):
        train_style(one_topic, baseline)
    with pytest.raises(UserError, match="36 of the persona, 0 baseline"):
        train_style(examples, [])
