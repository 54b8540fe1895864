"""The prompt that lets any chat write rows, for people who have no endpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence

from generation.exemplars import exemplars_of
from generation.questions import load_template
from workbench.persona import Persona
from workbench.prompts import system_prompt
from workbench.records import Example

_EXAMPLES = 2


def dataset_prompt(
    persona: Persona, seeds: Sequence[Example], *, count: int, topics: Sequence[str] = ()
) -> str:
    """Return the prompt in the persona's language: role, context, task with counts, form.

    Args:
        persona: Whose rows they are.
        seeds: Two sound ones of them are shown.
        count: Rows in all, shared out evenly over the topics, the first ones getting what is over.
        topics: All of the persona's by default.
    """
    asked = list(topics or persona.topics)
    share, over = divmod(count, len(asked))
    counts = {topic: share + (place < over) for place, topic in enumerate(asked)}
    return load_template("prompt", persona).render(
        persona=persona,
        character=system_prompt(persona),
        total=count,
        counts={topic: rows for topic, rows in counts.items() if rows},
        form=_row("…", "…", "…"),
        examples=[
            _row(seed.question, seed.answer, seed.topic)
            for seed in exemplars_of(persona, seeds)[:_EXAMPLES]
        ],
    )


def _row(question: str, answer: str, topic: str) -> str:
    return json.dumps(
        {"instruction": question, "output": answer, "topic": topic}, ensure_ascii=False
    )
