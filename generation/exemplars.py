"""Which seeds a teacher is shown: sound ones, near to the question that it answers."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.persona import Persona
from workbench.records import Example

EXEMPLARS = 3
SAME_TOPIC = 0.2
"""What a shared topic adds to the similarity of two questions (0 to 1)."""


def exemplars_of(persona: Persona, seeds: Sequence[Example]) -> list[Example]:
    """Return the answers to show where there is no question: the named ones, else sound ones."""
    return shelf_of(persona, seeds)[:EXEMPLARS]


def shelf_of(persona: Persona, seeds: Sequence[Example]) -> list[Example]:
    """Return every seed that may be shown, those that the persona names first."""
    named = {f"seeds.jsonl:{line}" for line in persona.few_shot}
    sound = [
        seed
        for seed in seeds
        if seed.source not in named
        and not persona.failed_traits(seed.answer)
        and not persona.safety.unsafe(seed.answer)
    ]
    return [seed for seed in seeds if seed.source in named] + sound


def nearest_exemplars(
    persona: Persona, seeds: Sequence[Example], questions: Sequence[tuple[str, str]]
) -> list[list[Example]]:
    """Return for each (topic, question) the seeds whose questions are most like it, best first.

    Similarity is the cosine of TF-IDF weights over character 2- to 4-grams within words, which
    suits Korean as well as English, and a little for a shared topic.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    shelf = shelf_of(persona, seeds)
    if len(shelf) <= EXEMPLARS or not questions:
        return [shelf for _ in questions]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    known = vectorizer.fit_transform(seed.question for seed in shelf)
    alike = (vectorizer.transform(question for _, question in questions) @ known.T).toarray()
    found = []
    for (topic, _), row in zip(questions, alike.tolist(), strict=True):
        points = [
            value + SAME_TOPIC * (seed.topic == topic)
            for value, seed in zip(row, shelf, strict=True)
        ]
        order = sorted(range(len(shelf)), key=lambda place: (-points[place], place))
        found.append([shelf[place] for place in order[:EXEMPLARS]])
    return found
