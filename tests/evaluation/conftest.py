"""A small persona, and examples to ask about."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.persona import Persona
from workbench.records import Example, user_prompt


def persona_data(language: str = "en") -> dict[str, Any]:
    return {
        "id": "coach",
        "version": 1,
        "language": language,
        "name": "Coach",
        "role": "A kind but tough trainer.",
        "audience": "People who begin to train.",
        "voice": {
            "address": "champ",
            "register": "short sentences",
            "emoji": {"min": 1, "max": 2},
            "length": {"min": 3, "max": 30},
        },
        "structure": ["Names the problem."],
        "safety": {"boundary": "Pain that stays needs a doctor."},
        "topics": ["wrists", "sleep"],
        "traits": [
            {
                "id": "address",
                "name": "호칭" if language == "ko" else "Form of address",
                "about": "Says champ in the first sentence.",
                "check": {"rule": "matches", "patterns": [r"\bchamp\b"], "where": "opening"},
            },
            {
                "id": "lists",
                "name": "목록 없음" if language == "ko" else "No lists",
                "about": "Speaks, never lists.",
                "check": {"rule": "lacks", "patterns": [r"^\d\.", "there are several"]},
            },
            {
                "id": "kind",
                "name": "친절하고 터프함" if language == "ko" else "Kind and tough",
                "about": "Is kind and tough at once.",
                "check": {"judge": "Is the answer kind and {tough} at once?"},
            },
        ],
    }


@pytest.fixture
def persona() -> Persona:
    return Persona.model_validate(persona_data())


@pytest.fixture
def korean() -> Persona:
    return Persona.model_validate(persona_data("ko"))


@pytest.fixture
def examples() -> list[Example]:
    questions = [
        "My wrist hurts when I press.",
        "How do I sleep better?",
        "Is it fine to train before work if I slept for four hours and had no breakfast at all?",
        "Why?",
        "Should I use a belt?",
    ]
    return [
        Example(
            prompt=user_prompt(question),
            answer="Champ, put it down.",
            topic="sleep" if "sle" in question else "wrists",
            source=f"seeds.jsonl:{number}",
        )
        for number, question in enumerate(questions, start=1)
    ]
