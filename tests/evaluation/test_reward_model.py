"""The reward model of the reviews: what it learns, what it must not, and how many reviews it takes.

States are drawn by numpy, so that what can be learnt from them is known.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.calibration import Calibration, calibrate, judge_traits
from evaluation.reward_model import (
    TOO_FEW_FAULTS,
    LabelledAnswers,
    ReviewHeads,
    train_heads,
    trait_words,
    with_needed,
)
from tests.present import present
from workbench.inference.reward_model import NAME
from workbench.persona import Persona
from workbench.records import Response, Review, user_prompt

WIDTH, TOPICS = 24, 12
Labels = NDArray[np.bool_]


@pytest.fixture
def judged(persona: Persona) -> Persona:
    """One trait that only a judge can check."""
    data = persona.model_dump(mode="json", by_alias=True)
    asked = {"id": "kind", "name": "kind", "about": "A trait.", "check": {"judge": "Is it kind?"}}
    data["traits"] = [*data["traits"][:1], asked]
    return Persona.model_validate(data)


def answers_of(rows: int, draw: np.random.Generator) -> LabelledAnswers:
    """Answers of twelve topics, every one of which may be trained on; states carry the topic."""
    topics = np.arange(rows) % TOPICS
    states = draw.normal(size=(rows, WIDTH)) + draw.normal(size=(TOPICS, WIDTH))[topics]
    responses = [
        Response(
            arm="reviewed",
            prompt_id=f"ex-{row}",
            prompt=user_prompt(f"Question {row}?"),
            text=f"Answer {row}.",
            topic=f"topic-{topics[row]}",
        )
        for row in range(rows)
    ]
    return LabelledAnswers(responses, states.astype(np.float32), [True] * rows)


def reviews_of(shown: Labels, draw: np.random.Generator, noise: float = 0.05) -> list[Review]:
    """Two reviewers, each of whom errs in a share of the rows."""
    return [
        Review(
            reviewer=f"r-{who}",
            record=f"ex-{row}",
            answers={
                "fidelity": 4,
                "problems": [] if one != (draw.random() < noise) else ["kind"],
            },
        )
        for who in range(2)
        for row, one in enumerate(shown)
    ]


def learnable(answers: LabelledAnswers) -> Labels:
    """Labels that a line through two dimensions tells, faults in a third of the rows or so."""
    shown: Labels = answers.states[:, 0] + answers.states[:, 1] > -0.8
    return shown


def gated(
    persona: Persona, answers: LabelledAnswers, reviews: list[Review]
) -> tuple[ReviewHeads, Calibration]:
    heads = train_heads(answers, reviews, judge_traits(persona))
    return heads, calibrate(persona, heads.scores, reviews, judge=NAME, resamples=500)


def test_labels_that_can_be_learnt_pass_the_gate_and_the_heads_word_is_theirs(
    judged: Persona,
) -> None:
    draw = np.random.default_rng(3)
    answers = answers_of(240, draw)
    shown = learnable(answers)

    heads, calibration = gated(judged, answers, reviews_of(shown, draw))

    assert calibration.trusted == ("kind",)
    assert calibration.traits["kind"].kappa.rows == 240
    new = answers_of(60, draw)
    words = trait_words(heads.heads, new.responses, new.states)
    right = [
        words[one.id]["kind"] == float(own)
        for one, own in zip(new.responses, learnable(new), strict=True)
    ]
    assert np.mean(right) > 0.75
    assert set(heads.heads) == {"kind"}


def test_random_labels_never_pass_the_gate(judged: Persona) -> None:
    """Even labels that go by the topic are none: no topic is judged by its own answers."""
    for seed in range(4):
        draw = np.random.default_rng(seed)
        answers = answers_of(120, draw)
        by_row, by_topic = draw.random(120) > 0.4, (draw.random(TOPICS) > 0.4)[np.arange(120) % 12]
        for shown in (by_row, by_topic):
            heads, calibration = gated(judged, answers, reviews_of(shown, draw))
            assert calibration.trusted == ()
            assert with_needed(heads.curves, calibration)["kind"].faults > 0


def test_labels_of_answers_that_may_not_be_trained_on_change_no_head(judged: Persona) -> None:
    draw = np.random.default_rng(5)
    answers = answers_of(120, draw)
    shown = learnable(answers)
    held_out = np.array([one.topic in ("topic-0", "topic-1") for one in answers.responses])
    apart = LabelledAnswers(answers.responses, answers.states, list(~held_out))
    turned = np.where(held_out, ~shown, shown)

    first, second = (
        train_heads(apart, reviews_of(labels, np.random.default_rng(0), 0.0), ["kind"])
        for labels in (shown, turned)
    )

    assert first.heads == second.heads
    assert first.curves == second.curves
    assert [one.value for one in first.scores] == [one.value for one in second.scores]
    # They are scored all the same: the gate is what their labels are for.
    assert len(first.scores) == 120
    every = train_heads(answers, reviews_of(turned, np.random.default_rng(0), 0.0), ["kind"])
    assert every.heads != first.heads


def test_the_curve_says_how_many_answers_it_takes(judged: Persona) -> None:
    draw = np.random.default_rng(0)
    answers = answers_of(96, draw)
    heads, calibration = gated(judged, answers, reviews_of(learnable(answers), draw))

    one = with_needed(heads.curves, calibration)["kind"]
    curve = present(one.curve)
    assert curve.sizes == (24, 48, 96)
    assert curve.means[-1] < curve.means[0]
    assert calibration.trusted == ()
    assert present(one.needed) > 96
    # And with so many it is let through.
    more = answers_of(present(one.needed), draw)
    assert gated(judged, more, reviews_of(learnable(more), draw))[1].trusted == ("kind",)


def test_a_trait_that_hardly_anybody_faulted_has_no_head_and_says_so(judged: Persona) -> None:
    draw = np.random.default_rng(9)
    answers = answers_of(120, draw)
    shown = np.ones(120, dtype=bool)
    shown[:3] = False

    heads, calibration = gated(judged, answers, reviews_of(shown, draw, noise=0.0))

    assert heads.heads == {}
    assert heads.curves["kind"].reason == TOO_FEW_FAULTS
    assert (heads.curves["kind"].faults, heads.curves["kind"].curve) == (3, None)
    assert calibration.traits["kind"].reason == "too_few_rows"
