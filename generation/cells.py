"""The topic plan: which questions a job wants, cell by cell, and how far it got.

A cell is a topic, an intent, a difficulty and a tone of the asker. Beside ordinary questions there
are four kinds: evolved from a seed (in the manner of Evol-Instruct; Xu et al. 2023, "WizardLM:
Empowering Large Language Models to Follow Complex Instructions"), adversarial, out of scope, and
follow-ups in a conversation.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import yaml

from workbench.persona import Persona

PLAIN = ""
FOLLOW_UP = "follow_up"
_FOLDER = Path(__file__).parent


@lru_cache(maxsize=4)
def phrases(language: str) -> dict[str, dict[str, Any]]:
    """Return what cells are called in a language, by axis and key."""
    text = (_FOLDER / f"cells.{language}.yaml").read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return data


@dataclass(frozen=True)
class Cell:
    """One wanted question."""

    topic: str
    intent: str
    difficulty: str
    tone: str
    kind: str = PLAIN
    variant: str = ""
    """Which way of its kind; empty for an ordinary question."""

    @property
    def name(self) -> str:
        """Name in reports: the cell, and its kind where it has one."""
        place = f"{self.topic}/{self.intent}/{self.difficulty}/{self.tone}"
        return f"{place}/{self.kind}" if self.kind else place

    def described(self, persona: Persona, base: str) -> str:
        """Return the cell in the persona's language; ``base`` is the question that it evolves."""
        words = phrases(persona.language)
        parts = [
            words["intents"][self.intent],
            words["difficulties"][self.difficulty],
            words["tones"][self.tone],
        ]
        if self.kind:
            text = words["kinds"][self.kind][self.variant]
            parts.insert(0, text.format(name=persona.name, base=base))
        return "; ".join(parts)


def plan_cells(
    persona: Persona, per_topic: int, mix: Mapping[str, float] | None = None, seed: int = 0
) -> list[Cell]:
    """Return the wanted questions of all topics, ``per_topic`` each, in the order of topics.

    Every topic goes through all combinations of intent, difficulty and tone, from another start
    and in an order that is drawn once, so that few questions spread wide as well.

    Args:
        persona: Gives topics and language.
        per_topic: Questions for each topic.
        mix: Kind → share of all questions; what is left is ordinary.
        seed: Of the order of combinations and of where the kinds go.
    """
    words = phrases(persona.language)
    draw = random.Random(f"cells:{seed}")
    combinations = list(product(words["intents"], words["difficulties"], words["tones"]))
    draw.shuffle(combinations)
    total = per_topic * len(persona.topics)
    marked = _kinds(words["kinds"], mix or {}, total)
    kinds = [*marked, *[(PLAIN, "")] * (total - len(marked))]
    draw.shuffle(kinds)
    cells = []
    for place, topic in enumerate(persona.topics):
        start = place * per_topic
        for number in range(start, start + per_topic):
            cells.append(Cell(topic, *combinations[number % len(combinations)], *kinds[number]))
    return cells


def _kinds(
    variants: Mapping[str, Mapping[str, str]], mix: Mapping[str, float], total: int
) -> list[tuple[str, str]]:
    """Return the kinds of the marked questions, each with its variants in turn."""
    found: list[tuple[str, str]] = []
    for kind, share in mix.items():
        ways = cycle((kind, variant) for variant in variants[kind])
        found += islice(ways, round(share * total))
    return found[:total]


@dataclass(frozen=True)
class Coverage:
    """How much of the topic plan was met."""

    wanted: Counter[str]
    """Cell → wanted questions."""
    asked: Counter[str]
    """Cell → questions that were found."""
    answered: Counter[str]
    """Cell → rows that came of them."""

    @classmethod
    def of(
        cls, wanted: Iterable[Cell], asked: Iterable[Cell], answered: Iterable[Cell]
    ) -> Coverage:
        """Count cells by their name."""
        return cls(*(Counter(cell.name for cell in cells) for cells in (wanted, asked, answered)))

    def to_dict(self) -> list[dict[str, Any]]:
        """Return one dictionary a cell, in the order of the plan."""
        return [
            {
                "cell": name,
                "wanted": count,
                "asked": self.asked[name],
                "answered": self.answered[name],
            }
            for name, count in self.wanted.items()
        ]

    def lines(self) -> list[str]:
        """Return the answered and wanted rows along each axis, for people."""
        axes = ("topics", "intents", "difficulties", "tones", "kinds")
        lines = []
        for axis, label in enumerate(axes):
            wanted, answered = (self._along(axis, c) for c in (self.wanted, self.answered))
            if set(wanted) == {"ordinary"}:
                continue
            told = ", ".join(f"{key} {answered[key]}/{count}" for key, count in wanted.items())
            lines.append(f"{label}: {told}")
        return lines

    @staticmethod
    def _along(axis: int, cells: Counter[str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for name, count in cells.items():
            parts: Sequence[str] = name.split("/")
            found[parts[axis] if axis < len(parts) else "ordinary"] += count
        return found
