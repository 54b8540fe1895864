"""Questions that the job asks and what became of each: answers, and follow-ups to them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from generation.asker import Asker
from generation.cells import FOLLOW_UP, PLAIN, Cell
from generation.exemplars import nearest_exemplars, shelf_of
from generation.outcome import Outcome
from generation.questions import ROUNDS, Asked, Pool, load_template
from workbench.persona import Persona
from workbench.prompts import system_prompt, with_system
from workbench.records import Example, Message, Messages, last_user_turn, user_prompt

QUESTION_TEMPERATURE = 1.0
ANSWER_TEMPERATURE = 0.7


@dataclass(frozen=True)
class Answered:
    """One question of the plan and all that was answered to it."""

    cell: Cell
    prompt: Messages
    """The conversation, without a system message."""
    outcomes: tuple[Outcome, ...]
    """One a candidate."""
    parents: tuple[str, ...]
    """Ids of the persona and of the exemplars that the teacher was shown."""

    @property
    def texts(self) -> list[str]:
        """The candidates that came, each text once, in their order."""
        return list(dict.fromkeys(o.text for o in self.outcomes if o.status == "ok"))


class _Base(NamedTuple):
    """A question and its answer that a conversation goes on from."""

    topic: str
    prompt: Messages
    answer: str


def find_questions(asker: Asker, pool: Pool) -> None:
    """Fill the pool; ask again for what is missing, a few times."""
    for turn in range(1, ROUNDS + 1):
        requests = pool.requests(turn)
        if not requests:
            return
        found = asker.ask(
            "questions",
            [request.prompt for request in requests],
            label=f"the teacher writes questions (round {turn})",
            part=turn,
            temperature=QUESTION_TEMPERATURE,
            shape="questions",
        )
        for request, outcome in zip(requests, found, strict=True):
            pool.take(request, outcome, asker.teacher.model)


def answer(
    asker: Asker,
    persona: Persona,
    seeds: Sequence[Example],
    asked: Sequence[tuple[Cell, Messages]],
    *,
    candidates: int,
    part: int = 1,
) -> list[Answered]:
    """Return the teacher's answers in persona, ``candidates`` to each conversation."""
    near = nearest_exemplars(
        persona, seeds, [(cell.topic, last_user_turn(prompt)) for cell, prompt in asked]
    )
    prompts = [
        with_system(_told(persona, shown, cell), prompt)
        for shown, (cell, prompt) in zip(near, asked, strict=True)
    ]
    found: list[list[Outcome]] = []
    for number in range(candidates):
        which = f" (candidate {number + 1} of {candidates})" if candidates > 1 else ""
        found.append(
            asker.ask(
                "answers",
                prompts,
                label=f"the teacher answers{which}",
                part=part,
                draw=number,
                temperature=ANSWER_TEMPERATURE,
            )
        )
    opened = {seed.prompt: seed.id for seed in seeds}
    rows = zip(asked, zip(*found, strict=True), near, strict=True)
    return [
        Answered(
            cell,
            prompt,
            outcomes,
            # A conversation that goes on from a seed holds that seed's answer.
            tuple(
                dict.fromkeys(
                    (
                        persona.record_id,
                        *([opened[prompt[:1]]] if prompt[1:] and prompt[:1] in opened else []),
                        *(seed.id for seed in shown),
                    )
                )
            ),
        )
        for (cell, prompt), outcomes, shown in rows
    ]


def _told(persona: Persona, shown: Sequence[Example], cell: Cell) -> str:
    return "\n".join(filter(None, (system_prompt(persona, shown), cell.emphasis(persona))))


def follow_up(
    asker: Asker, pool: Pool, answered: Sequence[Answered]
) -> list[tuple[Cell, Messages]]:
    """Return conversations that go on after an ordinary answer of the same topic.

    New answers come first, then the seeds that may be shown. Each is followed up once at the most;
    what finds none stays missing in the pool.
    """
    persona, model = pool.persona, asker.teacher.model
    template = load_template("follow_up", persona)
    draw = random.Random(f"follow-ups:{pool.seed}")
    bases = [
        _Base(row.cell.topic, row.prompt, row.texts[0])
        for row in answered
        if row.texts and row.cell.kind == PLAIN
    ]
    draw.shuffle(bases)
    bases += [
        _Base(seed.topic, seed.prompt, seed.answer)
        for seed in shelf_of(persona, pool.seeds)
        if len(seed.prompt) == 1
    ]
    found: dict[int, Messages] = {}
    wanted = [place for place, cell in enumerate(pool.cells) if cell.kind == FOLLOW_UP]
    for turn in range(1, ROUNDS + 1):
        chosen = []
        for place in (place for place in wanted if place not in pool.found):
            topic = pool.cells[place].topic
            base = next((row for row in bases if row.topic == topic), None)
            if base is not None:
                bases.remove(base)
                chosen.append((place, base))
        if not chosen:
            break
        requests = [
            Asked(
                base.topic,
                (place,),
                user_prompt(
                    template.render(
                        persona=persona,
                        question=last_user_turn(base.prompt),
                        answer=base.answer,
                        described=pool.cells[place].described(persona, ""),
                        part=f"{turn}.{place}",
                    )
                ),
                f"{base.topic}:follow-up {turn}.{place}",
            )
            for place, base in chosen
        ]
        outcomes = asker.ask(
            "follow_ups",
            [request.prompt for request in requests],
            label=f"the teacher writes follow-ups (round {turn})",
            part=turn,
            temperature=QUESTION_TEMPERATURE,
            shape="questions",
        )
        for request, outcome, (place, base) in zip(requests, outcomes, chosen, strict=True):
            pool.take(request, outcome, model)
            if question := pool.found.get(place):
                said = Message(role="assistant", content=base.answer)
                found[place] = (*base.prompt, said, *user_prompt(question))
    return [(pool.cells[place], found[place]) for place in sorted(found)]
