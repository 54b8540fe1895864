"""Questions that the job asks and what became of each: answers, and follow-ups to them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from generation.asker import Asker
from generation.cells import FOLLOW_UP, PLAIN, Cell
from generation.exemplars import nearest_exemplars
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
        with_system(system_prompt(persona, shown), prompt)
        for shown, (_, prompt) in zip(near, asked, strict=True)
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
    rows = zip(asked, zip(*found, strict=True), near, strict=True)
    return [
        Answered(cell, prompt, outcomes, (persona.record_id, *(seed.id for seed in shown)))
        for (cell, prompt), outcomes, shown in rows
    ]


def follow_up(
    asker: Asker, pool: Pool, answered: Sequence[Answered]
) -> list[tuple[Cell, Messages]]:
    """Return conversations that go on after an ordinary answer of the same topic.

    Every answer is followed up once at the most; what finds none stays missing in the pool.
    """
    persona, model = pool.persona, asker.teacher.model
    template = load_template("follow_up", persona)
    draw = random.Random(f"follow-ups:{pool.seed}")
    bases = [row for row in answered if row.texts and row.cell.kind == PLAIN]
    draw.shuffle(bases)
    found: dict[int, Messages] = {}
    wanted = [place for place, cell in enumerate(pool.cells) if cell.kind == FOLLOW_UP]
    for turn in range(1, ROUNDS + 1):
        chosen = []
        for place in (place for place in wanted if place not in pool.found):
            topic = pool.cells[place].topic
            base = next((row for row in bases if row.cell.topic == topic), None)
            if base is not None:
                bases.remove(base)
                chosen.append((place, base))
        if not chosen:
            break
        requests = [
            Asked(
                base.cell.topic,
                (place,),
                user_prompt(
                    template.render(
                        persona=persona,
                        question=last_user_turn(base.prompt),
                        answer=base.texts[0],
                        described=pool.cells[place].described(persona, ""),
                        part=f"{turn}.{place}",
                    )
                ),
                f"{base.cell.topic}:follow-up {turn}.{place}",
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
                said = Message(role="assistant", content=base.texts[0])
                found[place] = (*base.prompt, said, *user_prompt(question))
    return [(pool.cells[place], found[place]) for place in sorted(found)]
