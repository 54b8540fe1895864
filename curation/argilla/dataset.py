"""What a reviewer is asked: the settings and the guide of a round's Argilla dataset.

Both are rendered from the persona's specification in its language; :mod:`curation.argilla.push`
makes the dataset.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.argilla.pictures import PICTURE, picture_field
from curation.argilla.records import CHAT
from curation.argilla.similar import DIMENSIONS, VECTOR, Similarity
from workbench.errors import UserError
from workbench.language import say
from workbench.persona import Persona
from workbench.records import Example
from workbench.stats.agreement import RATINGS

if TYPE_CHECKING:
    from argilla import ChatField, ImageField, Settings, TextField

Phrase = Callable[[str], str]
"""Key after ``review.`` → the text in the persona's language."""


MAX_EXAMPLES = 3
LONGEST_GUIDE = 10_000
"""Characters of guidelines that Argilla takes."""
LABELS_IN_SIGHT = 8
"""Problems that a reviewer sees before asking for more; those that a rule suspects come first."""
LONGEST_LABEL = 500
"""Characters of a label that Argilla takes."""


def guidelines(
    persona: Persona,
    few_shot: Sequence[Example] = (),
    *,
    pairs: bool = False,
    queue: bool = False,
) -> str:
    """Return the guide as Markdown, at most two screens long.

    Args:
        persona: The specification.
        few_shot: Answers that are right; the first :data:`MAX_EXAMPLES` are shown.
        pairs: Explain how two answers are compared.
        queue: Say that this is the disagreement queue.
    """

    def phrase(key: str) -> str:
        return say(persona.language, f"review.guide.{key}", name=persona.name)

    parts = [f"# {phrase('title')}", phrase("task")]
    if queue:
        parts.append(f"**{phrase('queue')}**")
    parts += [
        persona.role.strip(),
        _numbered(persona.structure),
        f"## {phrase('rating')}",
        _bullets(phrase(f"rating.{value}") for value in (5, 4, 3, 2, 1)),
    ]
    if pairs:
        parts.append(phrase("pair"))
    parts += [
        f"## {phrase('safety')}",
        f"{phrase('safety.rule')} {persona.safety.boundary.strip()}",
        f"## {phrase('traits')}",
        _bullets(f"**{trait.name}**: {trait.about}" for trait in persona.traits),
    ]
    if few_shot:
        parts.append(f"## {phrase('examples')}")
        for example in few_shot[:MAX_EXAMPLES]:
            parts.append(f"**{_letters(example.question)}**\n\n> {_letters(example.answer)}")
    return "\n\n".join(parts)


def problem_labels(persona: Persona) -> dict[str, str]:
    """Return problem id → what a reviewer reads, what only people can tell first.

    A trait is named as broken, not as a wish.
    """
    broken = {
        trait.id: say(persona.language, "review.problem.trait", trait=trait.name)
        for trait in persona.traits
    }
    general = {key: name for key, name in persona.problems.items() if key not in broken}
    return {**general, **broken}


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _numbered(items: Sequence[str]) -> str:
    return "\n".join(f"{number}. {item.strip()}" for number, item in enumerate(items, start=1))


def _letters(text: str) -> str:
    """Return a text in one line of Markdown that shows its letters as they are."""
    return _LINE_START.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", " ".join(text.split())))


_MARKUP = re.compile(r"[\\`*_\[\]<>#|~$&]")
_LINE_START = re.compile(r"^(\d*)([-+.)])")
"""What begins a list where a line begins with it."""
_SEAL = re.compile(r"\(([0-9a-f]{16})\)\s*$")


@dataclass(frozen=True)
class DatasetShape:
    """What of the settings depends on the rows."""

    pairs: bool = False
    """Some rows show two answers."""
    pictures: int = 0
    """Most pictures that a row has."""
    queue: bool = False
    """The disagreement queue: opinions are shown beside each answer."""
    chats: bool = False
    """Some rows go on in a conversation."""


def held_shape(held: Settings) -> DatasetShape:
    """Return what the settings of a dataset that is there depend on; it can get no more fields."""
    fields = {field.name for field in held.fields}
    return DatasetShape(
        pairs="answer_a" in fields,
        pictures=sum(name.startswith(PICTURE) for name in fields),
        queue="opinions" in fields,
        chats=CHAT in fields,
    )


def settings(
    persona: Persona,
    few_shot: Sequence[Example],
    shape: DatasetShape,
    *,
    min_submitted: int,
) -> Settings:
    """Return the settings of a round's dataset, titles in the persona's language.

    Args:
        persona: The specification.
        few_shot: Answers shown in the guidelines.
        shape: What of the settings depends on the rows.
        min_submitted: Submitted reviews that complete a record.
    """
    import argilla as rg

    def phrase(key: str) -> str:
        unit = say(persona.language, f"prompt.unit.{persona.voice.length.unit}")
        return say(persona.language, f"review.{key}", name=persona.name, unit=unit)

    made = rg.Settings(
        fields=_fields(phrase, shape),
        questions=_questions(phrase, shape, problem_labels(persona)),
        vectors=[rg.VectorField(VECTOR, dimensions=DIMENSIONS, title=phrase("vector.similar"))],
        metadata=_metadata(phrase, shape),
        guidelines=guidelines(persona, few_shot, pairs=shape.pairs, queue=shape.queue),
        distribution=rg.TaskDistribution(min_submitted=min_submitted),
    )
    seal = say(
        persona.language,
        "review.guide.seal",
        persona=persona.id,
        version=persona.version,
        seal=_hash(persona, made),
    )
    made.guidelines = f"{made.guidelines}\n\n---\n\n{seal}"
    check_length(persona, made.guidelines)
    return made


def compared_by(made: Settings, similar: Similarity) -> Settings:
    """Return settings whose vectors are those of ``similar``; the guide's seal stays the same."""
    import argilla as rg

    (letters,) = made.vectors
    made.vectors = [
        rg.VectorField(similar.name, dimensions=similar.dimensions, title=letters.title)
    ]
    return made


def check_guide(persona: Persona) -> None:
    """Raise a UserError for a guide that Argilla would refuse, before anything is spent on rows."""
    check_length(persona, guidelines(persona, pairs=True, queue=True))
    for problem, label in problem_labels(persona).items():
        if len(label) > LONGEST_LABEL:
            raise UserError(
                f"the problem '{problem}' has a label of {len(label)} characters, and Argilla"
                f" takes {LONGEST_LABEL}",
                where=f"persona '{persona.id}'",
                fix="give the trait a shorter name in persona.yaml",
            )


def check_length(persona: Persona, guide: str) -> None:
    """Raise a UserError for a guide that is longer than Argilla takes."""
    if len(guide) > LONGEST_GUIDE:
        raise UserError(
            f"the reviewers' guide has {len(guide)} characters, and Argilla takes {LONGEST_GUIDE}",
            where=f"persona '{persona.id}'",
            fix="shorten role, structure and the traits' `about` in persona.yaml",
        )


def _fields(phrase: Phrase, shape: DatasetShape) -> list[ChatField | TextField | ImageField]:
    import argilla as rg

    required = {"question": True, "answer": not shape.pairs}
    if shape.pairs:
        required |= {"answer_a": False, "answer_b": False}
    if shape.queue:
        required["opinions"] = True
    texts = [
        # Never Markdown: it would render letters away.
        rg.TextField(name=name, title=phrase(f"field.{name}"), required=needed)
        for name, needed in required.items()
    ]
    title = phrase("field.picture")
    pictures = [
        rg.ImageField(
            name=picture_field(number),
            title=f"{title} {number + 1}" if number else title,
            required=False,
        )
        for number in range(shape.pictures)
    ]
    chat = rg.ChatField(
        name=CHAT, title=phrase(f"field.{CHAT}"), required=False, use_markdown=False
    )
    return [*((chat,) if shape.chats else ()), *texts, *pictures]


def _questions(phrase: Phrase, shape: DatasetShape, problems: dict[str, str]) -> list[Any]:
    import argilla as rg

    def about(name: str) -> dict[str, str]:
        return {
            "name": name,
            "title": phrase(f"question.{name}"),
            "description": phrase(f"question.{name}.about"),
        }

    better = []
    if shape.pairs:
        labels = {one: phrase(f"question.better.{one}") for one in ("a", "b", "tie", "both_bad")}
        title = phrase("question.better")
        better = [rg.LabelQuestion(name="better", title=title, labels=labels, required=False)]
    return [
        rg.RatingQuestion(values=list(RATINGS), **about("fidelity")),
        *better,
        rg.MultiLabelQuestion(
            labels=problems,
            visible_labels=LABELS_IN_SIGHT if len(problems) > LABELS_IN_SIGHT else None,
            labels_order="suggestion",
            required=False,
            **about("problems"),
        ),
        rg.TextQuestion(required=False, **about("corrected")),
        rg.TextQuestion(required=False, **about("note")),
    ]


def _metadata(phrase: Phrase, shape: DatasetShape) -> list[Any]:
    import argilla as rg

    order = rg.TermsMetadataProperty(
        name="order", title=phrase("metadata.order"), visible_for_annotators=False
    )
    return [
        rg.TermsMetadataProperty(name="topic", title=phrase("metadata.topic")),
        rg.IntegerMetadataProperty(name="length", title=phrase("metadata.length")),
        rg.TermsMetadataProperty(name="origin", title=phrase("metadata.origin")),
        rg.TermsMetadataProperty(name="round", title=phrase("metadata.round")),
        *((order,) if shape.pairs else ()),
    ]


def _hash(persona: Persona, made: Settings) -> str:
    """Return 16 hex digits over the specification and all that a reviewer sees of it."""
    seen = made.serialize()
    del seen["distribution"]  # how many review a record changes nothing of what they see
    text = json.dumps([persona.record_id, seen], ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seal_of(text: str | None) -> str:
    """Return the seal at the end of a dataset's guidelines, or an empty string."""
    match = _SEAL.search(text or "")
    return match.group(1) if match else ""
