"""What a reviewer is asked: the settings of a round's Argilla dataset."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.argilla.guide import guidelines, problem_labels
from curation.argilla.similar import DIMENSIONS, VECTOR
from workbench.language import say
from workbench.persona import Persona
from workbench.records import Example

if TYPE_CHECKING:
    from argilla import Settings

RATINGS = [1, 2, 3, 4, 5]
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)\s]+")
_SEAL = re.compile(r"\(([0-9a-f]{16})\)\s*$")


@dataclass(frozen=True)
class Shape:
    """What of the settings depends on the rows."""

    pairs: bool = False
    """Some rows show two answers."""
    images: bool = False
    """Some rows hold an image as Markdown, which text fields then render."""
    queue: bool = False
    """The disagreement queue: opinions are shown beside each answer."""


def shape_of(examples: Sequence[Example], alternatives: Mapping[str, str], *, queue: bool) -> Shape:
    """Return what the rows need of the settings."""
    shown = [*(conversation_text(example) for example in examples), *alternatives.values()]
    return Shape(
        pairs=any(example.id in alternatives for example in examples),
        images=any(_IMAGE.search(text) for text in shown),
        queue=queue,
    )


def conversation_text(example: Example) -> str:
    """Return the prompt's text as a whole, to look for images in it."""
    return "\n".join(message.content for message in example.prompt)


def settings(
    persona: Persona, exemplars: Sequence[Example], shape: Shape, *, min_submitted: int
) -> Settings:
    """Return the settings of a round's dataset, titles in the persona's language.

    Args:
        persona: The specification.
        exemplars: Answers shown in the guidelines.
        shape: What of the settings depends on the rows.
        min_submitted: Submitted reviews that complete a record.
    """
    import argilla as rg

    def phrase(key: str) -> str:
        unit = say(persona.language, f"prompt.unit.{persona.voice.length.unit}")
        return say(persona.language, f"review.{key}", name=persona.name, unit=unit)

    def text(name: str, *, required: bool = False) -> rg.TextField:
        return rg.TextField(
            name=name, title=phrase(f"field.{name}"), required=required, use_markdown=shape.images
        )

    def about(name: str) -> dict[str, str]:
        return {
            "name": name,
            "title": phrase(f"asked.{name}"),
            "description": phrase(f"asked.{name}.about"),
        }

    fields = [text("question", required=True), text("answer", required=not shape.pairs)]
    questions: list[Any] = [rg.RatingQuestion(values=RATINGS, **about("fidelity"))]
    hidden = []
    if shape.pairs:
        fields += [text("answer_a"), text("answer_b")]
        labels = {side: phrase(f"asked.better.{side}") for side in ("a", "b", "tie", "both_bad")}
        questions.append(
            rg.LabelQuestion(
                name="better", title=phrase("asked.better"), labels=labels, required=False
            )
        )
        hidden.append(
            rg.TermsMetadataProperty(
                name="order", title=phrase("metadata.order"), visible_for_annotators=False
            )
        )
    if shape.queue:
        fields.append(text("opinions", required=True))
    questions += [
        rg.MultiLabelQuestion(labels=problem_labels(persona), required=False, **about("problems")),
        rg.TextQuestion(required=False, **about("corrected")),
        rg.TextQuestion(required=False, **about("note")),
    ]
    made = rg.Settings(
        fields=fields,
        questions=questions,
        vectors=[rg.VectorField(VECTOR, dimensions=DIMENSIONS, title=phrase("vector.similar"))],
        metadata=[
            rg.TermsMetadataProperty(name="topic", title=phrase("metadata.topic")),
            rg.IntegerMetadataProperty(name="length", title=phrase("metadata.length")),
            rg.TermsMetadataProperty(name="origin", title=phrase("metadata.origin")),
            rg.TermsMetadataProperty(name="round", title=phrase("metadata.round")),
            *hidden,
        ],
        guidelines=guidelines(persona, exemplars, pairs=shape.pairs, queue=shape.queue),
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
    return made


def _hash(persona: Persona, made: Settings) -> str:
    """Return 16 hex digits over the specification and all that a reviewer sees of it."""
    seen = made.serialize()
    del seen["distribution"]  # how many review a record changes nothing of what they see
    text = json.dumps([persona.record_id, seen], ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seal_of(text: str | None) -> str:
    """Return the seal at the end of a dataset's guidelines, or an empty string."""
    found = _SEAL.search(text or "")
    return found.group(1) if found else ""
