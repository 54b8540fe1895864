"""New questions for a persona, in the manner of self-instruct: from its audience, topics and seeds.

Wang et al. 2023, "Self-Instruct: Aligning Language Models with Self-Generated Instructions".
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.outcome import STAGE, Outcome
from generation.shapes import Questions, read_shape
from workbench.persona import Persona
from workbench.records import Drop, Example, Messages, user_prompt

PER_REQUEST = 5
"""Questions that one request asks for; with more, models repeat themselves."""
SHOWN = 6
"""Earlier questions that a request shows."""
ROUNDS = 3
"""Times that a topic's missing questions are asked for."""
TWINS = 90.0
"""Similarity (0 to 100) from which two questions are the same; order of words aside."""


@dataclass(frozen=True)
class Asked:
    """One request for new questions."""

    topic: str
    count: int
    prompt: Messages
    name: str
    """Names the request in drops: topic, round and part."""


@dataclass
class Pool:
    """The new questions by topic, and everything that they must differ from."""

    persona: Persona
    seeds: Sequence[Example]
    per_topic: int
    seed: int
    questions: dict[str, list[str]] = field(default_factory=dict)
    dropped: list[Drop] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.questions = {topic: [] for topic in self.persona.topics}
        self._known = [(seed.question, seed.id) for seed in self.seeds]

    def missing(self) -> dict[str, int]:
        """Return how many questions each topic still lacks, where it lacks any."""
        lacks = {topic: self.per_topic - len(found) for topic, found in self.questions.items()}
        return {topic: count for topic, count in lacks.items() if count}

    def requests(self, turn: int) -> list[Asked]:
        """Return the requests that ask for all that is missing, in parts."""
        return list(self._requests(self.missing(), turn))

    def _requests(self, missing: Mapping[str, int], turn: int) -> Iterator[Asked]:
        from jinja2 import Environment, StrictUndefined

        source = Path(__file__).with_name(f"questions.{self.persona.language}.j2")
        template = Environment(undefined=StrictUndefined).from_string(
            source.read_text(encoding="utf-8")
        )
        for topic, lacking in missing.items():
            for part, start in enumerate(range(0, lacking, PER_REQUEST), start=1):
                count = min(PER_REQUEST, lacking - start)
                name = f"{topic}:{turn}.{part}"
                text = template.render(
                    persona=self.persona,
                    topic=self.persona.topic_name(topic),
                    examples=self._shown(topic, name),
                    count=count,
                    part=f"{turn}.{part}",
                )
                yield Asked(topic, count, user_prompt(text), name)

    def _shown(self, topic: str, name: str) -> list[str]:
        """Return earlier questions of a topic, filled up with others, for one request."""
        draw = random.Random(f"{self.seed}:{name}")
        own = [seed.question for seed in self.seeds if seed.topic == topic]
        own += self.questions[topic]
        rest = [seed.question for seed in self.seeds if seed.topic != topic]
        shown = draw.sample(own, min(SHOWN, len(own)))
        return shown + draw.sample(rest, min(SHOWN - len(shown), len(rest)))

    def take(self, asked: Asked, outcome: Outcome, model: str) -> None:
        """Take the questions of one answer that are new, and drop the others by name."""
        if outcome.status != "ok":
            self.dropped.append(outcome.drop(f"questions:{asked.name}", source=model))
            return
        answer = read_shape("questions", outcome.text)
        assert isinstance(answer, Questions)
        for question in answer.questions:
            if reason := self._reason(asked.topic, question):
                self.dropped.append(_dropped(question, *reason, source=model))
            else:
                self.questions[asked.topic].append(question)
                self._known.append((question, question_id(question)))

    def _reason(self, topic: str, question: str) -> tuple[str, str] | None:
        """Return why a question is not taken, and the detail."""
        from rapidfuzz import fuzz, process, utils

        twin = process.extractOne(
            question,
            [text for text, _ in self._known],
            scorer=fuzz.token_sort_ratio,
            processor=utils.default_process,
            score_cutoff=TWINS,
        )
        if twin:
            return "near_duplicate_question", f"of {self._known[twin[2]][1]}, {twin[1]:.0f} of 100"
        if len(self.questions[topic]) >= self.per_topic:
            return "surplus_question", f"{topic} has its {self.per_topic}"
        return None


def question_id(question: str) -> str:
    """Return the id of a question that no record holds yet."""
    return f"qu-{hashlib.sha256(question.encode()).hexdigest()[:16]}"


def _dropped(question: str, reason: str, detail: str, *, source: str) -> Drop:
    return Drop(
        record=question_id(question), stage=STAGE, reason=reason, detail=detail, source=source
    )
