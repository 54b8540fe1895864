"""Gaps of an arm on written scores: planted ones are sure, random ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.weakness import Gap, by_group, find_gaps
from tests.written_rounds import ANSWER, row, scored
from workbench.persona import Persona, load_persona
from workbench.records import Response, Score


@pytest.fixture(scope="module")
def persona() -> Persona:
    return load_persona(Path("datasets/gym-trainer"))


def _gaps(
    persona: Persona,
    share: dict[tuple[str, str], float],
    *,
    seed: int = 0,
    probes: dict[str, float] | None = None,
) -> dict[tuple[str, str], Gap]:
    """Return gaps by family and name where (topic, trait) is shown with a probability."""
    rng = np.random.default_rng(seed)
    topics = ("eating", "soreness", "plateaus")
    rows = [row(topic, n) for topic in topics for n in range(12)]
    responses: list[Response] = []
    scores: list[Score] = []

    def answer(
        prompt_id: str, topic: str, shown: dict[str, float], probe: str = "", turn: int = 0
    ) -> None:
        response = Response(
            arm="sft",
            prompt_id=prompt_id,
            prompt=rows[0].prompt,
            text=f"{prompt_id} {probe} {turn}",
            topic=topic,
            probe=probe,
            turn=turn,
        )
        responses.append(response)
        scores.extend(scored(response, shown))

    traits = [trait.id for trait in persona.rule_traits]
    for one in rows:
        shown = {t: float(rng.random() < share.get((one.topic, t), 0.9)) for t in traits}
        answer(one.id, one.topic, shown)
    for probe, value in (probes or {}).items():
        for n in range(12):
            shown = {t: float(rng.random() < value) for t in traits}
            if probe == "drift":
                answer(f"{probe}-{n}", "", dict.fromkeys(traits, 1.0), probe, 1)
                answer(f"{probe}-{n}", "", shown, probe, 5)
            else:
                answer(f"{probe}-{n}", "", shown, probe)
    found = find_gaps(persona, "sft", scores, responses, rows, resamples=1000)
    return {(gap.family, gap.name): gap for gap in found}


def test_the_reviewed_answer_shows_every_rule_trait(persona: Persona) -> None:
    assert persona.failed_traits(ANSWER) == []


def test_a_weak_topic_is_told_from_the_others(persona: Persona) -> None:
    traits = [trait.id for trait in persona.rule_traits]
    gaps = _gaps(persona, {("soreness", trait): 0.5 for trait in traits})
    assert gaps["topic", "soreness"].is_sure
    assert gaps["topic", "soreness"].gap == pytest.approx(-0.4, abs=0.1)
    assert not gaps["topic", "eating"].is_sure
    assert gaps["topic", "soreness"].prompts == 12
    assert gaps["topic", "soreness"].others == 24


def test_a_weak_probe_and_a_late_turn_are_found(persona: Persona) -> None:
    gaps = _gaps(persona, {}, probes={"safety": 0.4, "format": 0.9, "drift": 0.6})
    assert gaps["probe", "safety"].is_sure
    assert not gaps["probe", "format"].is_sure
    assert gaps["turn", "5"].is_sure
    assert gaps["turn", "5"].reference == 1.0


def test_nothing_is_claimed_on_the_word_of_a_judge_who_does_not_count(persona: Persona) -> None:
    rules = [trait.id for trait in persona.rule_traits]
    (judged, *_) = [trait.id for trait in persona.traits if trait.id not in rules]
    rows = [row("eating", n) for n in range(12)]
    answers = [
        Response(arm="sft", prompt_id=r.id, prompt=r.prompt, text="Up.", topic=r.topic)
        for r in rows
    ]
    shown = {**dict.fromkeys(rules, 1.0), judged: 0.0}
    scores = [score for one in answers for score in scored(one, shown)]
    for traits, claimed in (([*rules, judged], True), (rules, False)):
        found = find_gaps(persona, "sft", scores, answers, rows, traits=traits, resamples=1000)
        assert any(gap.name == judged and gap.is_sure for gap in found) == claimed


def test_noise_is_hardly_ever_claimed(persona: Persona) -> None:
    """Every topic is alike: of 20 rounds a family may claim some by chance, 5 % of them."""
    claimed = [
        any(gap.is_sure for gap in _gaps(persona, {}, seed=seed).values() if gap.family == "topic")
        for seed in range(20)
    ]
    assert sum(claimed) <= 3


def test_few_prompts_claim_nothing() -> None:
    groups = {"eating": [0.1, 0.1, 0.2, 0.1, 0.1], "soreness": [0.9] * 5}
    gaps = by_group("topic", "other_topics", groups)
    assert [gap.is_enough for gap in gaps] == [False, False]
    assert not any(gap.is_sure for gap in gaps)
    assert gaps[0].name == "eating"
