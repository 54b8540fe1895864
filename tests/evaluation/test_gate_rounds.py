"""The gate across rounds: what is lost of what the last round's adapter could do."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.gate import AcrossRounds, Earlier, Why, check_forgetting, check_rounds
from evaluation.report.verdict import across_lines
from evaluation.report.wording import Wording
from tests.evaluation.test_gate import followed, general
from workbench.config import GateBounds
from workbench.persona import load_persona

BOUNDS = GateBounds(cross_entropy=0.3, instructions=0.2, fidelity=0.1)
THEN = {f"question {n}": 0.8 for n in range(10)}


def held(entropy: float = 3.0, kept: int = 80, fidelity: float = 0.8) -> AcrossRounds:
    earlier = Earlier(
        round="round-001",
        arm="sft+dpo",
        general=general(3.0),
        instructions=followed(80),
        fidelity=THEN,
    )
    now = {prompt: fidelity + 0.01 * (n % 2) - 0.005 for n, prompt in enumerate(THEN)}
    return check_rounds("sft", general(entropy), followed(kept), now, earlier, BOUNDS, seed=0)


@pytest.mark.parametrize(
    ("now", "lost"),
    [
        ({}, ()),
        ({"entropy": 3.3, "kept": 60, "fidelity": 0.71}, ()),
        ({"entropy": 3.31}, ("cross_entropy",)),
        ({"kept": 50}, ("instructions",)),
        ({"fidelity": 0.6}, ("fidelity",)),
        ({"entropy": 2.0, "kept": 100, "fidelity": 1.0}, ()),
    ],
)
def test_up_to_the_bound_passes_and_beyond_it_fails(
    now: dict[str, float], lost: tuple[str, ...]
) -> None:
    assert held(**now).lost == lost  # type: ignore[arg-type]


def test_a_fall_that_chance_explains_fails_nothing() -> None:
    earlier = Earlier(round="round-001", arm="sft", fidelity={"a": 1.0, "b": 0.0, "c": 1.0})
    now = {"a": 0.0, "b": 1.0, "c": 0.4}
    found = check_rounds("sft", None, {}, now, earlier, BOUNDS, seed=0)
    assert found.fidelity is not None and found.fidelity.mean < -0.1
    assert found.passed


@pytest.mark.parametrize(("prompts", "lost"), [(1, ()), (5, ()), (6, ("fidelity",))])
def test_a_fall_on_fewer_prompts_than_tell_anything_fails_nothing(
    prompts: int, lost: tuple[str, ...]
) -> None:
    then = {f"question {n}": 0.9 for n in range(prompts)}
    earlier = Earlier(round="round-001", arm="sft", fidelity=then)
    now = {prompt: 0.4 + 0.01 * n for n, prompt in enumerate(then)}
    assert check_rounds("sft", None, {}, now, earlier, BOUNDS, seed=0).lost == lost


def test_a_loss_fails_the_evaluation_and_is_said_with_its_bound() -> None:
    gate = check_forgetting({"base": general(3.0)}, {"base": followed(80)}, BOUNDS)
    across = held(entropy=3.5, fidelity=0.5)
    assert gate.model_copy(update={"across": across}).failures == [
        "sft against round-001/sft+dpo: cross-entropy +0.500 nats a token (bound +0.3)",
        "sft against round-001/sft+dpo: persona fidelity -30% on the 10 held-out prompts of both"
        " rounds (bound -10%)",
    ]


@pytest.mark.parametrize("why", [("base",), ("no_prompt",)])
def test_what_cannot_be_compared_is_said_and_fails_nothing(why: tuple[Why, ...]) -> None:
    then = {} if why == ("base",) else THEN
    told = () if why == ("no_prompt",) else why
    earlier = Earlier(round="round-001", arm="sft", fidelity=then, not_compared=told)
    found = check_rounds("sft", general(9.0), followed(0), {"other": 0.1}, earlier, BOUNDS, seed=0)
    assert (found.not_compared, found.passed, found.fidelity) == (why, True, None)


@pytest.mark.parametrize("name", ["gym-trainer", "gym-trainer-ko"])
def test_a_report_says_it_in_the_personas_language(name: str, repo: Path) -> None:
    wording = Wording(load_persona(repo / "datasets" / name))
    lines = across_lines(held(entropy=3.5, fidelity=0.5), wording)
    assert len(lines) == 3
    assert "round-001" in lines[-1] and wording("across.lost.fidelity") in lines[-1]
    assert across_lines(held(), wording)[-1] == wording("across.passed", round="round-001")
    assert across_lines(None, wording) == []
