"""Six rows that differ in what the search engine can ask for."""

from __future__ import annotations

from typing import Any

RATING = {"type": "rating", "options": [{"value": value} for value in range(6)]}
LABELS = [{"value": value, "text": value} for value in ("a", "b", "tie")]
TRAITS = [{"value": value, "text": value} for value in ("voice", "fact", "unsafe")]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "fields": [
        {"name": name, "title": name, "required": name == "question", "settings": settings}
        for name, settings in {
            "question": {"type": "text"},
            "answer": {"type": "text"},
            "talk": {"type": "chat"},
            "extra": {"type": "custom", "template": "{{x}}"},
        }.items()
    ],
    "questions": [
        {"name": name, "title": name, "required": name == "fidelity", "settings": settings}
        for name, settings in {
            "fidelity": RATING,
            "better": {"type": "label_selection", "options": LABELS},
            "wrong": {"type": "multi_label_selection", "options": TRAITS},
            "edit": {"type": "text"},
        }.items()
    ],
    "metadata-properties": [
        {"name": name, "title": name, "settings": {"type": kind}, "visible_for_annotators": True}
        for name, kind in {"topic": "terms", "length": "integer", "share": "float"}.items()
    ],
    "vectors-settings": [{"name": "meaning", "title": "meaning", "dimensions": 3}],
}
ROWS: dict[str, dict[str, Any]] = {
    "r0": {
        "fields": {"question": "Squat hurts my knee 💪", "answer": "Bend less."},
        "metadata": {"topic": "knee", "length": 10, "share": 0.5},
        "vectors": {"meaning": [2, 0, 0]},
    },
    "r1": {
        "fields": {"question": "무릎이 아파요", "answer": "Squats can wait, don’t push."},
        "metadata": {"topic": ["knee", "pain"], "length": 20, "share": 1.5},
        "vectors": {"meaning": [0.6, 0.8, 0]},
    },
    "r2": {
        "fields": {"question": "허리가 뻐근해요 🏋🏽‍♀️", "answer": "KNEE over toe is fine at 3.5 kg"},
        "metadata": {"topic": "back", "length": 30},
        "vectors": {"meaning": [0, 1, 0]},
    },
    "r3": {
        "fields": {"question": "What about sleep?", "answer": "Sleep long, then squat slowly"},
        "metadata": {"topic": "sleep", "length": 40, "share": -1.0},
        "vectors": {"meaning": [-1, 0, 0]},
    },
    "r4": {
        "fields": {
            "question": "one",
            "talk": [
                {"role": "user", "content": "Straße or café?"},
                {"role": "assistant", "content": "무릎 통증 먼저"},
            ],
        }
    },
    "r5": {
        "fields": {"question": "two", "extra": {"note": {"tag": "Zanzibar", "n": [1, "quokka"]}}}
    },
}
# record → question → (value, score, agent, type)
SUGGESTIONS: dict[str, dict[str, tuple[Any, Any, str, str]]] = {
    "r0": {"fidelity": (5, 0.9, "rules", "model"), "wrong": (["voice"], [0.2], "judge", "model")},
    "r1": {
        "fidelity": (3, 0.4, "judge", "human"),
        "wrong": (["voice", "fact"], [0.1, 0.8], "judge", "model"),
    },
    "r2": {"fidelity": (1, 0.1, "rules", "model")},
}
