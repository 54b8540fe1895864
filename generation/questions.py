"""New questions for a persona, in the manner of self-instruct: from its audience, topics and seeds.

Wang et al. 2023, "Self-Instruct: Aligning Language Models with Self-Generated Instructions".
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from generation.cells import FOLLOW_UP, Cell
from generation.outcome import STAGE, Outcome
from generation.shapes import Questions, read_shape
from workbench.near_duplicates import NearTextIndex
from workbench.persona import Persona
from workbench.records import Drop, Example, Messages, user_prompt

if TYPE_CHECKING:
    from jinja2 import Template

PER_REQUEST = 5
"""Questions that one request asks for; with more, models repeat themselves."""
SHOWN = 6
"""Earlier questions that a request shows."""
ROUNDS = 3
"""Times that missing questions are asked for."""
TWINS = 90.0
"""Similarity (0 to 100) from which two questions are the same; order of words aside."""


@dataclass(frozen=True)
class Asked:
    """One request for new questions."""

    topic: str
    slots: tuple[int, ...]
    """Places in the plan that the answer's questions are for, in their order."""
    prompt: Messages
    name: str
    """Names the request in drops: topic, round and part."""

    @property
    def count(self) -> int:
        """Questions that are asked for."""
        return len(self.slots)


@dataclass
class Pool:
    """The wanted questions, those that were found, and everything that they must differ from."""

    persona: Persona
    seeds: Sequence[Example]
    cells: Sequence[Cell]
    """The topic plan; follow-ups in it are asked for elsewhere."""
    seed: int
    earlier: Sequence[Example] = ()
    """Rows of earlier rounds, which new questions must differ from as well."""
    found: dict[int, str] = field(default_factory=dict)
    """Place in the plan → question."""
    dropped: list[Drop] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = NearTextIndex(TWINS)
        for row in {row.id: row for row in (*self.seeds, *self.earlier)}.values():
            self._known.add(row.id, row.question)

    @property
    def questions(self) -> list[tuple[Cell, str]]:
        """The questions that were found, in the order of the plan."""
        return [(self.cells[place], self.found[place]) for place in sorted(self.found)]

    def open(self) -> dict[str, list[int]]:
        """Return the places that still lack a question, by topic; follow-ups aside."""
        places: dict[str, list[int]] = {}
        for place, cell in enumerate(self.cells):
            if place not in self.found and cell.kind != FOLLOW_UP:
                places.setdefault(cell.topic, []).append(place)
        return places

    def requests(self, turn: int) -> list[Asked]:
        """Return the requests that ask for all that is missing, in parts."""
        template = load_template("questions", self.persona)
        requests = []
        for topic, places in self.open().items():
            for part, start in enumerate(range(0, len(places), PER_REQUEST), start=1):
                slots = tuple(places[start : start + PER_REQUEST])
                name = f"{topic}:{turn}.{part}"
                text = template.render(
                    persona=self.persona,
                    topic=self.persona.topic_name(topic),
                    examples=self._shown(topic, name),
                    wanted=[self._described(place) for place in slots],
                    part=f"{turn}.{part}",
                )
                requests.append(Asked(topic, slots, user_prompt(text), name))
        return requests

    def _described(self, place: int) -> str:
        cell = self.cells[place]
        seeds = [seed for seed in self.seeds if seed.topic == cell.topic] or self.seeds
        draw = random.Random(f"{self.seed}:{place}")
        base = draw.choice(seeds).question if seeds else self.persona.topic_name(cell.topic)
        return cell.described(self.persona, " ".join(base.split()))

    def _shown(self, topic: str, name: str) -> list[str]:
        """Return earlier questions of a topic, filled up with others, for one request."""
        draw = random.Random(f"{self.seed}:{name}")
        own = [seed.question for seed in self.seeds if seed.topic == topic]
        own += [question for cell, question in self.questions if cell.topic == topic]
        rest = [seed.question for seed in self.seeds if seed.topic != topic]
        shown = draw.sample(own, min(SHOWN, len(own)))
        return shown + draw.sample(rest, min(SHOWN - len(shown), len(rest)))

    def take(self, asked: Asked, outcome: Outcome, model: str) -> None:
        """Take the questions of one answer that are new, each for its place; drop the others."""
        if outcome.status != "ok":
            name = f"questions:{asked.name}"
            self.dropped.append(outcome.drop(name, source=model, parents=self._parents))
            return
        answer = read_shape("questions", outcome.text)
        assert isinstance(answer, Questions)
        for number, question in enumerate(answer.questions):
            reason = self.twin(question)
            if not reason and number >= asked.count:
                reason = "surplus_question", f"{asked.count} were asked for"
            if reason:
                self.dropped.append(self._dropped(question, *reason, source=model))
            else:
                self.add(asked.slots[number], question)

    def add(self, place: int, question: str) -> None:
        """Put a question into its place."""
        self.found[place] = question
        self._known.add(question_id(question), question)

    @property
    def _parents(self) -> tuple[str, ...]:
        """What a question that became no record was asked for."""
        return (self.persona.record_id,)

    def _dropped(self, question: str, reason: str, detail: str, *, source: str) -> Drop:
        return Drop(
            record=question_id(question),
            stage=STAGE,
            reason=reason,
            detail=detail,
            source=source,
            parents=self._parents,
        )

    def twin(self, question: str) -> tuple[str, str] | None:
        """Return why a question is not new, and the detail; None for a new one."""
        twin = self._known.nearest(question)
        return ("near_duplicate_question", f"of {twin[0]}, {twin[1]:.0f} of 100") if twin else None


def load_template(name: str, persona: Persona) -> Template:
    """Return one of our prompts in the persona's language."""
    from jinja2 import Environment, StrictUndefined

    source = Path(__file__).with_name(f"{name}.{persona.language}.j2")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(source.read_text(encoding="utf-8"))


def question_id(question: str) -> str:
    """Return the id of a question that no record holds yet."""
    return f"qu-{hashlib.sha256(question.encode()).hexdigest()[:16]}"
