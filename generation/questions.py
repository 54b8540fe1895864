"""New questions for a persona, in the manner of self-instruct: from its audience, topics and seeds.

Wang et al. 2023, "Self-Instruct: Aligning Language Models with Self-Generated Instructions". In
goes the topic plan in a :class:`Pool`, out come its questions, and in :class:`FollowUps` the
conversations for those that follow up on an answer. :mod:`generation.pipelines.rows` asks for them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints

from generation.prompts import few_shot_pool, render
from generation.teacher_client import STAGE, drop_of
from generation.topic_plan import FOLLOW_UP, PlannedQuestion
from workbench.inference.completion import Completion
from workbench.near_duplicates import NearTextIndex
from workbench.persona import Persona
from workbench.records import Drop, Example, Message, Messages, last_user_turn, user_prompt

PER_REQUEST = 5
"""Questions that one request asks for; with more, models repeat themselves."""
SHOWN = 6
"""Earlier questions that a request shows."""
ROUNDS = 3
"""Times that missing questions are asked for."""
NEAR_DUPLICATE = 90.0
"""Similarity (0 to 100) from which two questions are the same; order of words aside."""

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Questions(BaseModel):
    """New questions of one topic."""

    model_config = ConfigDict(extra="forbid")

    questions: list[Line]


@dataclass(frozen=True)
class QuestionRequest:
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
    cells: Sequence[PlannedQuestion]
    """The topic plan; follow-ups in it are asked for elsewhere."""
    seed: int
    earlier: Sequence[Example] = ()
    """Rows of earlier rounds, which new questions must differ from as well."""
    taken: dict[int, str] = field(default_factory=dict)
    """Place in the plan → question."""
    failures: dict[int, Completion] = field(default_factory=dict)
    """Place in the plan → how the last request for its question failed."""
    dropped: list[Drop] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = NearTextIndex(NEAR_DUPLICATE)
        for row in {row.id: row for row in (*self.seeds, *self.earlier)}.values():
            self._known.add(row.id, row.question)

    @property
    def questions(self) -> list[tuple[PlannedQuestion, str]]:
        """The questions that were found, in the order of the plan."""
        return [(self.cells[place], self.taken[place]) for place in sorted(self.taken)]

    def open(self) -> dict[str, list[int]]:
        """Return the places that still lack a question, by topic; follow-ups aside."""
        places: dict[str, list[int]] = {}
        for place, cell in enumerate(self.cells):
            if place not in self.taken and cell.kind != FOLLOW_UP:
                places.setdefault(cell.topic, []).append(place)
        return places

    def requests(self, turn: int) -> list[QuestionRequest]:
        """Return the requests that ask for all that is missing, in parts."""
        requests = []
        for topic, places in self.open().items():
            for part, start in enumerate(range(0, len(places), PER_REQUEST), start=1):
                slots = tuple(places[start : start + PER_REQUEST])
                name = f"{topic}:{turn}.{part}"
                text = render(
                    "questions",
                    self.persona,
                    topic=self.persona.topic_name(topic),
                    examples=self._shown(topic, name),
                    wanted=[self._described(place) for place in slots],
                    part=f"{turn}.{part}",
                )
                requests.append(QuestionRequest(topic, slots, user_prompt(text), name))
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

    def take(self, request: QuestionRequest, completion: Completion, model: str) -> None:
        """Take the questions of one answer that are new, each for its place; drop the others."""
        if not completion.ok:
            self.failures |= dict.fromkeys(request.slots, completion)
            name = f"questions:{request.name}"
            self.dropped.append(drop_of(completion, name, source=model, parents=self._parents))
            return
        for place in request.slots:
            self.failures.pop(place, None)
        answer = Questions.model_validate_json(completion.text)
        for number, question in enumerate(answer.questions):
            reason = self.near_duplicate(question)
            if not reason and number >= request.count:
                reason = "surplus_question", f"{request.count} were asked for"
            if reason:
                self.dropped.append(self._dropped(question, *reason, source=model))
            else:
                self.add(request.slots[number], question)

    def add(self, place: int, question: str) -> None:
        """Put a question into its place."""
        self.taken[place] = question
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

    def near_duplicate(self, question: str) -> tuple[str, str] | None:
        """Return why a question is not new, and the detail; None for a new one."""
        near = self._known.nearest(question)
        return ("near_duplicate_question", f"of {near[0]}, {near[1]:.0f} of 100") if near else None


def question_id(question: str) -> str:
    """Return the id of a question that no record holds yet."""
    return f"qu-{hashlib.sha256(question.encode()).hexdigest()[:16]}"


class Opening(NamedTuple):
    """A question and its answer that a conversation goes on from."""

    topic: str
    prompt: Messages
    answer: str


@dataclass
class FollowUps:
    """The conversations that go on after an answer of the same topic.

    New answers come first, then the seeds that may be shown. Each is followed up once at the most;
    what finds none stays missing in the pool.
    """

    pool: Pool
    waiting: list[Opening] = field(default_factory=list)
    """Openings that nothing went on from yet."""
    chosen: dict[int, Opening] = field(default_factory=dict)
    """Place in the plan → where its conversation begins."""

    def open(self, openings: Sequence[Opening]) -> None:
        """Take new answers to ordinary questions, and the seeds."""
        self.waiting = list(openings)
        random.Random(f"follow-ups:{self.pool.seed}").shuffle(self.waiting)
        self.waiting += [
            Opening(seed.topic, seed.prompt, seed.answer)
            for seed in few_shot_pool(self.pool.persona, self.pool.seeds)
            if len(seed.prompt) == 1
        ]

    def requests(self, turn: int) -> list[QuestionRequest]:
        """Return a request for each follow-up that lacks a question, and has an opening."""
        chosen = self._openings()
        self.chosen |= chosen
        return [_follow_up_request(self.pool, place, chosen[place], turn) for place in chosen]

    def prompt(self, place: int) -> Messages:
        """Return the conversation up to the question of a place."""
        opening = self.chosen[place]
        answer = Message(role="assistant", content=opening.answer)
        return (*opening.prompt, answer, *user_prompt(self.pool.taken[place]))

    def _openings(self) -> dict[int, Opening]:
        """Return place → opening, for what lacks a question; take it off the list."""
        chosen: dict[int, Opening] = {}
        for place, cell in enumerate(self.pool.cells):
            if cell.kind == FOLLOW_UP and place not in self.pool.taken:
                opening = next((one for one in self.waiting if one.topic == cell.topic), None)
                if opening is not None:
                    self.waiting.remove(opening)
                    chosen[place] = opening
        return chosen


def _follow_up_request(pool: Pool, place: int, opening: Opening, turn: int) -> QuestionRequest:
    text = render(
        "follow_up",
        pool.persona,
        question=last_user_turn(opening.prompt),
        answer=opening.answer,
        described=pool.cells[place].described(pool.persona, ""),
        part=f"{turn}.{place}",
    )
    name = f"{opening.topic}:follow-up {turn}.{place}"
    return QuestionRequest(opening.topic, (place,), user_prompt(text), name)
