"""The reward model in a judge's place: what it may learn from, and what GRPO may be rewarded by.

What the base makes of an answer is drawn by numpy here: no model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from evaluation.calibration import REVIEWED, Calibration
from evaluation.reward_model import RewardReport
from rounds.context import RoundContext, open_context
from rounds.judging import Judging, ReviewedRows, reward_model_key, trusted_reward_model
from rounds.layout import REWARD_MODEL, write
from workbench.errors import UserError
from workbench.inference.reward_model import RewardModel, TraitHead
from workbench.records import Example, Response, Review, user_prompt

if TYPE_CHECKING:
    from workbench.inference.reward_model import States

ROWS, TOPICS = 200, 10
TEST = ("topic-0", "topic-1")


@pytest.fixture
def context(repo: Path, tmp_path: Path) -> RoundContext:
    """The gym trainer's first round, without a stage that has run."""
    config = tmp_path / "run.yaml"
    persona = f"persona: {repo / 'datasets' / 'gym-trainer'}\n"
    config.write_text(f"{persona}evaluate: {{reward_model: true}}\n", encoding="utf-8")
    return open_context(config=config, runs=tmp_path / "runs")


def rows() -> list[Example]:
    return [
        Example(
            prompt=user_prompt(f"Question {at}?"), answer=f"Answer {at}.", topic=f"topic-{at % 10}"
        )
        for at in range(ROWS)
    ]


def states(responses: Sequence[Response]) -> States:
    """Four dimensions drawn by an answer's own text, the first of which tells."""
    seeds = [int("".join(filter(str.isdigit, one.text))) for one in responses]
    draws = [np.random.default_rng(seed).normal(size=4) for seed in seeds]
    return np.array(draws, dtype=np.float32)


def reviewed(examples: Sequence[Example], turned: Sequence[str] = ()) -> ReviewedRows:
    """Rows of two topics are the test split's; labels of ``turned`` topics say the opposite."""
    answers = [
        Response(arm="a", prompt_id=row.id, prompt=row.prompt, text=row.answer) for row in examples
    ]
    shown = states(answers)[:, 0] > -0.5
    reviews = [
        Review(
            reviewer=f"r-{who}",
            record=row.id,
            answers={
                "fidelity": 3,
                "problems": [] if good != (row.topic in turned) else ["tough_kind"],
            },
        )
        for row, good in zip(examples, shown, strict=True)
        for who in range(2)
    ]
    learning = [row for row in examples if row.topic not in TEST]
    test = [row for row in examples if row.topic in TEST]
    return ReviewedRows(examples, [], reviews, learning, test)


def judged(
    context: RoundContext, own: ReviewedRows, tmp_path: Path
) -> tuple[Judging, Calibration, RewardReport]:
    asked = [
        Response(arm="sft", prompt_id=row.id, prompt=row.prompt, text=f"{row.answer} 9")
        for row in own.test
    ]
    judging = Judging(None, 1, tmp_path / "none").by_reviews(context, own, asked, states)
    calibration = judging.calibrate(context, own, [])
    report = judging.reward_report(context, calibration)
    assert report is not None
    return judging, calibration, report


def test_the_test_splits_labels_are_for_the_gate_alone(
    context: RoundContext, tmp_path: Path
) -> None:
    examples = rows()
    first, gate, report = judged(context, reviewed(examples), tmp_path)
    second, other, _ = judged(context, reviewed(examples, turned=TEST), tmp_path)

    assert gate.trusted == ("tough_kind",)
    assert set(report.model.heads) == {"tough_kind"}
    assert report.curves["tough_kind"].rows == ROWS * 8 // TOPICS
    assert first.heads is not None and second.heads is not None
    assert first.heads.heads == second.heads.heads
    assert first.words == second.words and len(first.words) == ROWS * 2 // TOPICS
    assert gate.traits["tough_kind"].kappa != other.traits["tough_kind"].kappa


def test_where_topics_are_spread_only_rows_of_the_other_splits_are_learnt_from() -> None:
    examples = rows()
    spread = ReviewedRows(examples, [], [], examples[:100], examples[100:150])
    answers = [
        Response(arm="a", prompt_id="p", prompt=row.prompt, text=row.answer, topic=row.topic)
        for row in examples
    ]
    # Those that a review dropped are in no split: their topics are tested.
    assert spread.trainable(answers) == [True] * 100 + [False] * 100


def test_what_the_base_makes_of_labelled_answers_hangs_on_no_arm(
    context: RoundContext, tmp_path: Path
) -> None:
    """Rows of one pass are rounded by each other; GRPO's own arm must not change its reward."""
    own, read = reviewed(rows()), list[list[str]]()

    def remembered(responses: Sequence[Response]) -> States:
        read.append([one.arm for one in responses])
        return states(responses)

    row = own.test[0]
    asked = [Response(arm="sft", prompt_id=row.id, prompt=row.prompt, text="Answer 9.")]
    Judging(None, 1, tmp_path / "none").by_reviews(context, own, asked, remembered)
    assert read == [[REVIEWED] * ROWS, ["sft"]]


def test_without_a_judge_and_a_reward_model_nothing_counts(
    context: RoundContext, tmp_path: Path
) -> None:
    nobody = Judging(None, 1, tmp_path / "none")
    assert nobody.calibrate(context, reviewed(rows()), []).reason == "no_judge"


def test_grpo_is_rewarded_by_a_reward_model_that_passed_the_gate_and_no_other(
    context: RoundContext, tmp_path: Path
) -> None:
    assert reward_model_key(context) == ""
    with pytest.raises(UserError, match="no evaluation has trained a reward model yet"):
        trusted_reward_model(context, "recipe")

    _, _, report = judged(context, reviewed(rows()), tmp_path)
    write(context.round.folder / "evaluate", REWARD_MODEL, report)
    assert trusted_reward_model(context, "recipe") == report.model
    assert reward_model_key(context)

    head = TraitHead(weights=(1.0,), bias=0.0)
    for model, wrong in (
        (RewardModel(base=report.model.base), "passed the reviewers' gate on no trait"),
        (RewardModel(base="other", heads={"kind": head}), "reads another base than"),
    ):
        write(
            context.round.folder / "evaluate",
            REWARD_MODEL,
            RewardReport(model=model, curves=report.curves),
        )
        with pytest.raises(UserError, match=wrong):
            trusted_reward_model(context, "recipe")
