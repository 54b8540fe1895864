"""The topic plan: which questions a job wants, one by one, and how far it got.

A planned question has a topic, an intent, a difficulty and a tone of the asker. Beside ordinary
questions there are five kinds: evolved from a seed (in the manner of Evol-Instruct; Xu et al. 2023,
"WizardLM: Empowering Large Language Models to Follow Complex Instructions"), adversarial, out of
scope, follow-ups in a conversation, and the persona asked about itself (after the introspective
rows of Maiya et al. 2025, "Open Character Training"). In goes the persona and the configuration's
section; :mod:`generation.questions` fills the plan, :mod:`generation.cost` prices it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, product
from typing import Any

from workbench.config import ORDINARY, GenerateSettings, Kind, RowRequest
from workbench.errors import UserError, UserErrors, nearest
from workbench.language.packs import PROMPTS, pack_file, read_words
from workbench.persona import Persona

PLAIN = ""
FOLLOW_UP = "follow_up"
FIRST_PERSON = "first_person"


def phrases(language: str) -> dict[str, dict[str, Any]]:
    """Return what cells are called in a language, by axis and key."""
    return read_words(pack_file(language, f"{PROMPTS}/topic_plan.yaml"))


@dataclass(frozen=True)
class PlannedQuestion:
    """One wanted question: a cell of topic, intent, difficulty and tone, and what kind it is."""

    topic: str
    intent: str
    difficulty: str
    tone: str
    kind: str = PLAIN
    variant: str = ""
    """Which way of its kind; empty for an ordinary question."""
    trait: str = ""
    """Id of the trait that its answer has to show; empty for no one in particular."""

    @property
    def name(self) -> str:
        """Name in reports: the cell, and its kind and trait where it has them."""
        place = f"{self.topic}/{self.intent}/{self.difficulty}/{self.tone}"
        if self.trait:
            return f"{place}/{self.kind or ORDINARY}/{self.trait}"
        return f"{place}/{self.kind}" if self.kind else place

    def described(self, persona: Persona, base: str) -> str:
        """Return the cell in the persona's language; ``base`` is the question that it evolves."""
        words = phrases(persona.language)
        parts = [
            words["intents"][self.intent],
            words["difficulties"][self.difficulty],
            words["tones"][self.tone],
        ]
        if self.kind == FIRST_PERSON:
            # Nobody brings a problem: what it is about is the persona.
            parts = parts[2:]
        if self.kind:
            text = words["kinds"][self.kind][self.variant]
            parts.insert(0, text.format(name=persona.name, base=base))
        if about := self.habit(persona):
            parts.append(words["trait"]["question"].format(name=persona.name, about=about))
        return "; ".join(parts)

    def emphasis(self, persona: Persona) -> str:
        """Return what the answer must show, for whoever gives it; empty where nothing is named."""
        about = self.habit(persona)
        return phrases(persona.language)["trait"]["answer"].format(about=about) if about else ""

    def habit(self, persona: Persona) -> str:
        """Return what the named trait is, in the persona's words; empty where none is named."""
        return next((trait.about for trait in persona.traits if trait.id == self.trait), "")


def topic_plan(
    persona: Persona, settings: GenerateSettings, seed: int = 0
) -> list[PlannedQuestion]:
    """Return the wanted questions: the asks of a plan, or so many for each topic.

    The seed decides the order of combinations and where the kinds go.

    Raises:
        UserErrors: Topics or traits of the plan that the persona does not have, all at once.
    """
    if settings.plan:
        return _plan_of_asks(persona, settings.plan, seed)
    return _plan_of_topics(persona, settings.per_topic, settings.mix, seed)


def _plan_of_topics(
    persona: Persona, per_topic: int, mix: Mapping[Kind, float], seed: int
) -> list[PlannedQuestion]:
    """Return ``per_topic`` questions of each topic, in the order of topics.

    Every topic goes through all combinations of intent, difficulty and tone, from another start
    and in an order that is drawn once, so that few questions spread wide as well.
    """
    words = phrases(persona.language)
    draw = random.Random(f"cells:{seed}")
    combinations = _combinations(words, draw)
    total = per_topic * len(persona.topics)
    marked = _kinds(words["kinds"], mix, total)
    kinds = [*marked, *[(PLAIN, "")] * (total - len(marked))]
    draw.shuffle(kinds)
    topics = [topic for topic in persona.topics for _ in range(per_topic)]
    return [
        PlannedQuestion(topic, *combination, *kind)
        for topic, combination, kind in zip(topics, cycle(combinations), kinds, strict=False)
    ]


def _plan_of_asks(persona: Persona, asks: Sequence[RowRequest], seed: int) -> list[PlannedQuestion]:
    """Return the wanted questions of a plan, ask by ask: just its counts of its cells."""
    _check(persona, asks)
    words = phrases(persona.language)
    combinations = _combinations(words, random.Random(f"asks:{seed}"))
    cells: list[PlannedQuestion] = []
    for ask in asks:
        ways = [("", "")]
        if ask.kind != ORDINARY:
            ways = [(ask.kind, variant) for variant in words["kinds"][ask.kind]]
        for kind, variant in islice(cycle(ways), ask.count):
            place = combinations[len(cells) % len(combinations)]
            cells.append(PlannedQuestion(ask.topic, *place, kind, variant, ask.trait))
    return cells


def _check(persona: Persona, asks: Sequence[RowRequest]) -> None:
    traits = [trait.id for trait in persona.traits]
    mistakes = [
        UserError(
            f"the persona has no {what} '{name}'",
            where=f"generate.plan.{number}.{what}",
            fix=nearest(name, known) or f"one of {', '.join(known)}",
        )
        for number, ask in enumerate(asks)
        for what, name, known in (
            ("topic", ask.topic, [*persona.topics]),
            ("trait", ask.trait, traits),
        )
        if name and name not in known
    ]
    if mistakes:
        raise UserErrors(mistakes)


def _combinations(words: Mapping[str, Any], draw: random.Random) -> list[tuple[str, str, str]]:
    combinations = list(product(words["intents"], words["difficulties"], words["tones"]))
    draw.shuffle(combinations)
    return combinations


def _kinds(
    variants: Mapping[str, Mapping[str, str]], mix: Mapping[Kind, float], total: int
) -> list[tuple[str, str]]:
    """Return the kinds of the marked questions, each with its variants in turn."""
    kinds: list[tuple[str, str]] = []
    for kind, share in mix.items():
        ways = cycle((kind, variant) for variant in variants[kind])
        kinds += islice(ways, round(share * total))
    return kinds[:total]


@dataclass(frozen=True)
class Coverage:
    """How much of the topic plan was met."""

    wanted: Counter[str]
    """Name of a planned question → how many are wanted."""
    asked: Counter[str]
    """Name → questions that the teacher came up with."""
    answered: Counter[str]
    """Name → rows that came of them."""

    @classmethod
    def of(
        cls,
        wanted: Iterable[PlannedQuestion],
        asked: Iterable[PlannedQuestion],
        answered: Iterable[PlannedQuestion],
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
        axes = ("topics", "intents", "difficulties", "tones", "kinds", "traits")
        lines = []
        for axis, label in enumerate(axes):
            wanted, answered = (self._along(axis, c) for c in (self.wanted, self.answered))
            if set(wanted) <= {ORDINARY}:
                continue
            parts = ", ".join(f"{key} {answered[key]}/{count}" for key, count in wanted.items())
            lines.append(f"{label}: {parts}")
        return lines

    @staticmethod
    def _along(axis: int, cells: Counter[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for name, count in cells.items():
            parts: Sequence[str] = name.split("/")
            counts[parts[axis] if axis < len(parts) else ORDINARY] += count
        return counts
