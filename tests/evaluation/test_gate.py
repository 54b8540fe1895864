from __future__ import annotations

from evaluation.gate import check_forgetting, check_unscored
from evaluation.general import General
from workbench.config import GateBounds
from workbench.records import Score


def general(entropy: float, right: int) -> General:
    return General(
        cross_entropy=entropy,
        perplexity=2.0,
        tokens=100,
        by_text={"t": entropy},
        accuracy=right / 10,
        by_question={f"q{n}": n < right for n in range(10)},
    )


def score(metric: str, number: int, unscored: str = "") -> Score:
    return Score(
        arm="sft",
        prompt_id=f"ex-{number}",
        response=f"rs-{number}",
        metric=metric,
        value=None if unscored else 1.0,
        unscored=unscored,
    )


def test_an_arm_passes_up_to_the_bound_and_fails_beyond_it() -> None:
    bounds = GateBounds(cross_entropy=0.3, accuracy=0.2)
    report = check_forgetting(
        {
            "base": general(3.0, 8),
            "at the bound": general(3.3, 6),
            "better": general(2.5, 9),
            "text lost": general(3.31, 8),
            "questions lost": general(3.0, 5),
        },
        bounds,
    )
    assert {arm.arm: arm.passed for arm in report.arms} == {
        "base": True,
        "at the bound": True,
        "better": True,
        "text lost": False,
        "questions lost": False,
    }
    assert report.failures == [
        "text lost: cross-entropy +0.310 nats a token (bound +0.3), right answers +0% (bound -20%)",
        "questions lost: cross-entropy +0.000 nats a token (bound +0.3), right answers -30%"
        " (bound -20%)",
    ]


def test_a_metric_with_too_much_missing_is_named_with_its_reasons() -> None:
    scores = [score("address", n) for n in range(10)]
    scores += [score("kind", n, "judge_timeout" if n < 2 else "") for n in range(10)]
    scores += [score("style", n, "empty_answer" if n < 1 else "") for n in range(10)]
    (found,) = check_unscored(scores, 0.1)
    assert (found.metric, found.share, found.reasons) == ("kind", 0.2, {"judge_timeout": 2})
    assert check_unscored(scores, 0.2) == []
    assert [u.metric for u in check_unscored(scores, 0.0)] == ["kind", "style"]


def test_without_a_judge_its_metrics_fail_nothing() -> None:
    assert check_unscored([score("kind", n, "no_judge") for n in range(10)], 0.0) == []
