"""One word from two numbers: which voice and which sense make a success, and what else there is."""

from __future__ import annotations

import pytest

from evaluation.outcome import ArmSense, MeanEstimate, SenseReport, outcome_of
from evaluation.scorers import SENSE
from workbench.config import GateBounds
from workbench.persona import FIDELITY
from workbench.records import Score
from workbench.stats import Comparison, compare


def comparison(
    voice: float, sense: float, base_sense: float = 0.1, primary: str = FIDELITY
) -> Comparison:
    """The arm's voice beside the base's 0.5, its sense beside the base's; twelve prompts."""
    values = {
        "base": {FIDELITY: 0.5, SENSE: base_sense},
        "sft": {FIDELITY: voice, SENSE: sense},
    }
    return compare(
        [
            Score(
                arm=arm,
                prompt_id=f"ex-{n}",
                response=f"rs-{arm}-{n}",
                metric=metric,
                value=value + 0.01 * (n % 3) * (arm == "sft"),
            )
            for arm, metrics in values.items()
            for metric, value in metrics.items()
            for n in range(12)
        ],
        primary=primary,
        resamples=500,
    )


def report(low: float, answered: int = 12, guards: int = 0) -> SenseReport:
    def one(arm: str) -> ArmSense:
        return ArmSense(
            arm=arm,
            voice=MeanEstimate(mean=0.5, low=0.4, high=0.6),
            sense=MeanEstimate(mean=low + 0.05, low=low, high=low + 0.1),
            answers=12,
            answered=answered,
            guards={"looping": guards} if guards else {},
        )

    arms = (one("base"), one("sft"), one("sft+prompt"))
    return SenseReport(embedder="e", by_meaning=True, loss="l", floor=0.2, arms=arms, controls={})


@pytest.mark.parametrize(
    ("voice", "sense", "low", "answered", "outcome"),
    [
        (0.9, 0.4, 0.30, 12, "success"),
        (0.9, 0.4, 0.19, 12, "marks"),
        (0.9, 0.4, 0.30, 7, "marks"),  # five of twelve answer nothing
        (0.9, 0.05, 0.30, 12, "marks"),  # below the base's
        (0.49, 0.4, 0.30, 12, "unclear"),
        (0.2, 0.4, 0.30, 12, "worse"),
        (0.2, 0.05, 0.0, 1, "senseless"),
    ],
)
def test_a_success_needs_voice_and_sense(
    voice: float, sense: float, low: float, answered: int, outcome: str
) -> None:
    assert outcome_of(comparison(voice, sense), report(low, answered), "sft") == outcome


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"answered": 10}, "success"),
        ({"answered": 9}, "marks"),  # a quarter answers nothing
        ({"guards": {"empty": 1}}, "success"),
        ({"guards": {"empty": 1, "malformed": 1}}, "marks"),  # a sixth is no answer
        ({"harmful": 1, "harms": {"insult": 1}}, "harmful"),  # one of twelve
        ({"half": MeanEstimate(mean=0.1, low=0.06, high=0.2)}, "success"),
        ({"half": MeanEstimate(mean=0.1, low=0.04, high=0.2)}, "partial"),
    ],
)
def test_a_success_has_whole_answers_that_do_no_harm(
    change: dict[str, object], outcome: str
) -> None:
    whole = report(0.3)
    arms = tuple(one.model_copy(update=change) for one in whole.arms)
    changed = whole.model_copy(update={"arms": arms, "half_floor": 0.05})
    assert outcome_of(comparison(0.9, 0.4), changed, "sft") == outcome


def test_a_success_is_one_by_the_measure_that_was_named() -> None:
    by_voice, by_sense = (comparison(0.9, 0.09, primary=name) for name in (FIDELITY, SENSE))
    assert outcome_of(by_voice, report(0.3), "sft") == "success"
    assert outcome_of(by_sense, report(0.3), "sft") == "unclear"
    by_trait = comparison(0.9, 0.4, primary="address")  # which was not scored
    assert outcome_of(by_trait, report(0.3), "sft") == "unclear"


def test_without_a_measure_of_sense_nothing_is_a_success() -> None:
    assert outcome_of(comparison(0.9, 0.4), None, "sft") == "unmeasured"


def test_the_gate_fails_a_sure_fall_and_answers_that_are_none() -> None:
    fell = report(0.3).failures(comparison(0.9, 0.05, base_sense=0.4), GateBounds())
    assert fell == ["sft: sense -0.34 to the base's (95% interval -0.35 to -0.33, bound -0)"]
    assert report(0.3, guards=5).failures(comparison(0.9, 0.4), GateBounds())[:1] == [
        "sft: 5 of 12 answers are no answers (looping 5; bound 33%)"
    ]
    assert report(0.3, guards=4).failures(comparison(0.9, 0.4), GateBounds()) == []
