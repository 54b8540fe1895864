from __future__ import annotations

from evaluation.gate import check_forgetting, check_unscored
from evaluation.general import General
from evaluation.instructions import InstructionScore
from workbench.config import GateBounds
from workbench.records import Score


def general(entropy: float) -> General:
    return General(cross_entropy=entropy, perplexity=2.0, tokens=100, by_text={"t": entropy})


def followed(kept: int, prompts: int = 100) -> dict[str, InstructionScore]:
    """The first prompts are kept, the others broken."""
    return {
        f"i{n}": InstructionScore(prompt=f"Do {n}.", share=float(n < kept)) for n in range(prompts)
    }


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
    bounds = GateBounds(cross_entropy=0.3, instructions=0.2)
    entropies = {"base": 3.0, "at the bound": 3.3, "better": 2.5, "text lost": 3.31}
    kept = {"base": 80, "at the bound": 60, "better": 90, "text lost": 80, "form lost": 50}
    report = check_forgetting(
        {arm: general(entropies.get(arm, 3.0)) for arm in kept},
        {arm: followed(count) for arm, count in kept.items()},
        bounds,
    )
    assert {arm.arm: arm.passed for arm in report.arms} == {
        "base": True,
        "at the bound": True,
        "better": True,
        "text lost": False,
        "form lost": False,
    }
    assert report.failures == [
        "text lost: cross-entropy +0.310 nats a token (bound +0.3), instructions kept +0% on 100"
        " prompts (bound -20%; falls from 6% are told from chance)",
        "form lost: cross-entropy +0.000 nats a token (bound +0.3), instructions kept -30% on 100"
        " prompts (bound -20%; falls from 13% are told from chance)",
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
