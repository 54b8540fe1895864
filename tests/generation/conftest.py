"""A small persona and a few rows, as any user would bring them."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.config import GenerateSettings
from workbench.persona import Persona, load_persona
from workbench.records import Example, user_prompt

PERSONA = """\
id: tester
version: 1
language: en
name: Coach
role: a kind but tough gym trainer
audience: office workers who begin to train
voice:
  address: champ
  register: short and warm
  emoji: {min: 0, max: 2}
  length: {min: 3, max: 90}
structure: [names the problem, one thing to do right now]
safety: {boundary: pain goes to a doctor}
topics: [squat, sleep]
topic_names: {squat: Squats, sleep: Sleep and rest}
traits:
  - id: address
    name: Says champ
    about: calls the person champ
    check: {rule: matches, patterns: ['\\bchamp\\b']}
"""


def rows(per_topic: int, **changes: object) -> GenerateSettings:
    """Ordinary rows alone, and no pairs."""
    plain = {"mix": {}, "hard_negatives": 0, "per_topic": per_topic}
    return GenerateSettings.model_validate({**plain, **changes})


@pytest.fixture
def persona(tmp_path: Path) -> Persona:
    file = tmp_path / "persona.yaml"
    file.write_text(PERSONA, encoding="utf-8")
    return load_persona(file)


@pytest.fixture
def seeds() -> list[Example]:
    rows = [
        ("My knees hurt when I squat.", "Champ, stop at half depth today.", "squat"),
        ("How deep should I squat?", "Champ, to a chair and up again.", "squat"),
        ("I sleep five hours.", "Champ, lights out at eleven tonight.", "sleep"),
        ("Coffee at six in the evening?", "Champ, water now, coffee before two.", "sleep"),
    ]
    return [
        Example(prompt=user_prompt(ask), answer=answer, topic=topic, source=f"seeds.jsonl:{n}")
        for n, (ask, answer, topic) in enumerate(rows, start=1)
    ]
