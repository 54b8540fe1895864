"""The adapter's strength: what the curve holds, and which strength the numbers speak for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from evaluation.dial import Dial, DialInput, Refusals, measure_dial
from evaluation.gate import check_forgetting
from evaluation.general import General
from evaluation.instructions import InstructionScore
from evaluation.probes import HARMFUL, HARMLESS
from workbench.config import GateBounds
from workbench.persona import Persona
from workbench.records import Example, ProbePrompt, Response, user_prompt

STRENGTHS = {"sft@0.5": 0.5, "base": 0.0, "sft": 1.0, "sft@1.5": 1.5}
NO = "I can't help with that."


def _general(entropy: float) -> General:
    return General(cross_entropy=entropy, perplexity=1.0, tokens=10, by_text={"a": entropy})


def _dial(
    persona: Persona,
    champs: Mapping[str, int],
    entropy: Mapping[str, float],
    refusing: tuple[str, ...] = (),
) -> Dial:
    """A curve in which each arm calls so many of ten people champ, and some refuse everything."""
    rows = [
        Example(prompt=user_prompt(f"Question {n} on sleep?"), answer="Rest.", source=f"s:{n}")
        for n in range(10)
    ]
    answers = [
        Response(
            arm=arm,
            prompt_id=row.id,
            prompt=row.prompt,
            text=f"Rest at night {n}, champ." if n < champs[arm] else f"There are {n} causes.",
        )
        for arm in STRENGTHS
        for n, row in enumerate(rows)
    ]
    prompts = [
        ProbePrompt(prompt=user_prompt(f"{kind} request"), answer="-", kind=kind, source="a:1")
        for kind in (HARMFUL, HARMLESS)
    ]
    requests = [
        Response(
            arm=arm,
            prompt_id=one.id,
            prompt=one.prompt,
            text=NO if arm in refusing else "You take a knife and cut the onion in halves.",
        )
        for arm in STRENGTHS
        for one in prompts
    ]
    followed = {arm: {"p": InstructionScore(prompt="p", share=0.5)} for arm in STRENGTHS}
    order = ["base", *(arm for arm in STRENGTHS if arm != "base")]
    general = {arm: _general(entropy[arm]) for arm in order}
    gate = check_forgetting(general, followed, GateBounds(cross_entropy=0.3))
    inputs = DialInput(
        persona, "sft", STRENGTHS, answers, prompts, requests, gate, None, ("address",)
    )
    return measure_dial(inputs)


FLAT = {"base": 3.0, "sft@0.5": 3.05, "sft": 3.1, "sft@1.5": 3.2}


def test_a_curve_from_the_base_to_the_strongest(persona: Persona) -> None:
    champs = {"base": 0, "sft@0.5": 4, "sft": 8, "sft@1.5": 9}
    dial = _dial(persona, champs, FLAT, refusing=("base", "sft@0.5"))
    assert [one.strength for one in dial.points] == [0.0, 0.5, 1.0, 1.5]
    assert [one.voice.mean for one in dial.points] == [0.0, 0.4, 0.8, 0.9]
    changes = [one.voice_change.mean if one.voice_change else None for one in dial.points]
    assert changes == [pytest.approx(-0.8), pytest.approx(-0.4), None, pytest.approx(0.1)]
    assert [round(one.cross_entropy_change, 2) for one in dial.points] == [0, 0.05, 0.1, 0.2]
    assert [one.harmful for one in dial.points] == [Refusals(n, 1) for n in (1, 1, 0, 0)]
    # A harmless request that is refused counts as one, though it is a fault.
    assert [one.harmless for one in dial.points] == [Refusals(n, 1) for n in (1, 1, 0, 0)]
    # One more champ of ten is chance: full strength stays.
    assert dial.advised.strength == 1.0


@pytest.mark.parametrize(
    ("champs", "entropy", "advised"),
    [
        ({"base": 0, "sft@0.5": 9, "sft": 1, "sft@1.5": 2}, FLAT, 0.5),
        # The gate stops what is strongest, however good its voice.
        ({"base": 0, "sft@0.5": 1, "sft": 1, "sft@1.5": 10}, {**FLAT, "sft@1.5": 3.4}, 1.0),
        ({"base": 0, "sft@0.5": 6, "sft": 9, "sft@1.5": 9}, {**FLAT, "sft": 4, "sft@1.5": 5}, 0.5),
        # The base is no strength of an adapter, and where nothing passes nothing is advised.
        (
            {"base": 9, "sft@0.5": 6, "sft": 9, "sft@1.5": 9},
            {"base": 3, "sft@0.5": 4, "sft": 4, "sft@1.5": 5},
            1.0,
        ),
    ],
)
def test_the_strength_that_the_numbers_speak_for(
    persona: Persona, champs: dict[str, int], entropy: dict[str, float], advised: float
) -> None:
    assert _dial(persona, champs, entropy).advised.strength == advised
