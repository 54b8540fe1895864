"""The rows behind every number: each metric's scores, prompt by prompt and arm by arm."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from evaluation.report.source import Source
from evaluation.report.words import Words
from workbench.persona import FIDELITY
from workbench.records import last_user_turn


@dataclass(frozen=True)
class Entry:
    """One prompt's scores on one metric, as they are shown, in the order of the arms."""

    prompt_id: str
    question: str
    values: list[tuple[str, str]]
    """What is shown, and why there is no score; the second is empty for a score."""


def ledger(source: Source, words: Words) -> dict[str, list[Entry]]:
    """Return metric → its rows on the held-out questions, fidelity first; seeds are averaged."""
    arms = source.comparison.arms
    questions: dict[str, str] = {}
    for response in source.responses:
        if not response.probe:
            questions.setdefault(response.prompt_id, last_user_turn(response.prompt))
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    reasons: dict[tuple[str, str, str], str] = {}
    for score in source.scores:
        if score.probe:
            continue
        key = (score.metric, score.prompt_id, score.arm)
        if score.value is None:
            reasons[key] = score.unscored
        else:
            values[key].append(score.value)

    def shown(key: tuple[str, str, str]) -> tuple[str, str]:
        if given := values.get(key):
            return words.value(sum(given) / len(given)), ""
        return "–", words.reason(reasons[key]) if key in reasons else ""

    return {
        metric: [
            Entry(prompt, question, [shown((metric, prompt, arm)) for arm in arms])
            for prompt, question in questions.items()
        ]
        for metric in sorted(source.comparison.metrics, key=lambda name: name != FIDELITY)
        if any(key[0] == metric for key in values)
    }
