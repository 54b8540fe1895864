"""What a reviewer sees of one row: fields, suggestions, metadata and a vector.

Examples come in from the push, records of Argilla's SDK go out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.argilla.pictures import picture_field
from curation.argilla.similar import Similarity
from workbench.language import say
from workbench.parts import length
from workbench.persona import Persona
from workbench.records import Example

if TYPE_CHECKING:
    from argilla import Record


CHAT = "chat"
"""Field of what was said before the question, turn by turn."""


_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|&(?=[#\w])")
"""What HTML takes for a tag or an entity; all else stays as it is, so that searches find it."""
CANDIDATE_FIRST, CANDIDATE_SECOND = "ab", "ba"


@dataclass(frozen=True)
class JudgeOpinion:
    """What a judge model suggests for one answer."""

    fidelity: int
    score: float
    """Share of the persona's traits that the answer shows, 0 to 1."""
    agent: str
    """Name of the model."""


def question_text(persona: Persona, example: Example) -> str:
    """Return the question; where there are several turns, all of them with their speakers."""
    if len(example.prompt) == 1:
        return example.question
    return "\n\n".join(
        f"{say(persona.language, f'review.speaker.{m.role}', name=persona.name)}: {m.content}"
        for m in example.prompt
    )


def earlier_turns(persona: Persona, example: Example) -> list[dict[str, str]]:
    """Return what was said before the question as Argilla's chat field takes it."""
    return [
        {
            "role": say(persona.language, f"review.speaker.{m.role}", name=persona.name),
            "content": letters(m.content),
        }
        for m in example.prompt[:-1]
    ]


def letters(text: str) -> str:
    """Return what Argilla's page shows as the letters of ``text``.

    Argilla 2.8.0 puts the value of a text or chat field into its page as HTML, though the field is
    no Markdown (``TextField.vue``, ``ChatField.vue``): ``<b>`` would go, ``&lt;`` become ``<``, and
    a script run.
    """
    return _MARKUP.sub(lambda match: {"<": "&lt;", "&": "&amp;"}[match.group()], text)


def order_of(example: Example, round_name: str) -> str:
    """Return which answer of a pair comes first, by a coin that the record's id throws."""
    coin = hashlib.sha256(f"{round_name}\0{example.id}".encode()).digest()[0] & 1
    return CANDIDATE_FIRST if coin else CANDIDATE_SECOND


def place_of(better: str, order: str) -> str:
    """Return the place on the screen, ``a`` or ``b``, of the answer that was found better."""
    if better not in ("candidate", "alternative"):
        return better
    return "a" if (better == "candidate") == (order == CANDIDATE_FIRST) else "b"


def records(
    persona: Persona,
    round_name: str,
    examples: Sequence[Example],
    alternatives: Mapping[str, str],
    judged: Mapping[str, JudgeOpinion],
    opinions: Mapping[str, str] | None = None,
    pictures: Mapping[str, Sequence[str]] | None = None,
    similar: Similarity | None = None,
    *,
    chats: bool = True,
) -> list[Record]:
    """Return the records of ``examples``, with suggestions, metadata and vectors.

    Args:
        persona: Its rules suggest what is wrong.
        round_name: Goes into the metadata.
        examples: The candidates; their ids become the records' ids.
        alternatives: Example id → the other answer of a pair.
        judged: Example id → what a judge suggests.
        opinions: Example id → the reviewers' opinions, for the disagreement queue.
        pictures: Example id → addresses of its pictures.
        similar: What questions are compared by; without it a record has no vector.
        chats: What was said before has a field of its own; else it stands above the question.
    """
    import argilla as rg

    made = []
    questions = [question_text(persona, example) for example in examples]
    vectors = similar.vectors(questions) if similar else [None] * len(questions)
    for example, whole, vector in zip(examples, questions, vectors, strict=True):
        alternative = alternatives.get(example.id, "")
        order = order_of(example, round_name) if alternative else ""
        texts = {"question": example.question if chats else whole}
        texts |= _answers(example, alternative, order, opinions)
        fields: dict[str, Any] = {name: letters(text) for name, text in texts.items()}
        if chats and (turns := earlier_turns(persona, example)):
            fields[CHAT] = turns
        addresses = (pictures or {}).get(example.id, ())
        fields |= {picture_field(number): one for number, one in enumerate(addresses)}
        made.append(
            rg.Record(
                id=example.id,
                fields=fields,
                metadata=_metadata(persona, round_name, example, order),
                vectors={similar.name: vector} if similar else None,
                suggestions=_suggestions(persona, example, judged.get(example.id), bool(order)),
            )
        )
    return made


def _answers(
    example: Example, alternative: str, order: str, opinions: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the answer, or both in their order, and opinions of it, by their fields' names."""
    answers = [example.answer, alternative]
    first, second = answers if order == CANDIDATE_FIRST else answers[::-1]
    pair = {"answer_a": first, "answer_b": second}
    about = {} if opinions is None else {"opinions": opinions[example.id]}
    return (pair if alternative else {"answer": example.answer}) | about


def _metadata(persona: Persona, round_name: str, example: Example, order: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "length": length(example.answer, persona.voice.length.unit),
        "origin": say(persona.language, f"review.origin.{example.origin}"),
        "round": round_name,
        **({"order": order} if order else {}),
    }
    if example.topic:
        metadata["topic"] = persona.topic_name(example.topic)
    return metadata


def _suggestions(
    persona: Persona, example: Example, opinion: JudgeOpinion | None, paired: bool
) -> list[Any]:
    """Return what reviewers find filled in beforehand.

    For a pair nothing is: a suggestion would tell which of the two is the candidate.
    """
    import argilla as rg

    if paired:
        return []
    suggestions = [rg.Suggestion("corrected", example.answer, agent=example.origin)]
    failed = persona.failed_traits(example.answer)
    if persona.safety.unsafe(example.answer):
        failed.append("unsafe_advice")
    if failed:
        # Without a score: a rule is always certain, and a number beside each label says nothing.
        suggestions.append(rg.Suggestion("problems", failed, agent="rules", type="model"))
    if opinion:
        suggestions.append(
            rg.Suggestion(
                "fidelity",
                opinion.fidelity,
                score=opinion.score,
                agent=opinion.agent,
                type="model",
            )
        )
    return suggestions
