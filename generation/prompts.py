"""What a teacher, or any chat, is shown: templates in the persona's language, few-shot examples.

Questions, answers and hard negatives are asked with these prompts (:mod:`generation.questions`,
:mod:`generation.teacher`, :mod:`generation.pairs`); ``persona prompt`` prints one of them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence

from workbench.language.packs import PROMPTS, pack_file
from workbench.persona import Persona
from workbench.prompts import load_template, system_prompt
from workbench.records import Example

FEW_SHOT = 3
"""Examples that a teacher is shown."""
_PLAYED = "user"
"""The prompt that plays a simulated user: no row is asked for by it."""
_SHOWN_IN_CHAT = 2
_DIGITS = 8


def render(name: str, persona: Persona, **values: object) -> str:
    """Return one of our prompts in the persona's language."""
    return load_template(name, persona.language).render(persona=persona, **values)


def prompt_versions(persona: Persona) -> dict[str, str]:
    """Return name → the first hex digits of the SHA-256 of every prompt in the persona's language.

    ``system`` is the persona's rendered system prompt without examples; the others are templates,
    the judge's too, and ``topic_plan`` the words that describe a wanted question.
    """
    texts = {"system": system_prompt(persona, [])}
    for path in sorted(pack_file(persona.language, PROMPTS).iterdir()):
        if path.stem != _PLAYED:
            texts[path.stem] = path.read_text(encoding="utf-8")
    return {
        name: hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] for name, text in texts.items()
    }


def few_shot_pool(persona: Persona, seeds: Sequence[Example]) -> list[Example]:
    """Return every seed that may be shown: those that the persona names first, then sound ones."""
    named = {f"seeds.jsonl:{line}" for line in persona.few_shot}
    sound = [
        seed
        for seed in seeds
        if seed.source not in named
        and not persona.failed_traits(seed.answer)
        and not persona.safety.unsafe(seed.answer)
    ]
    return [seed for seed in seeds if seed.source in named] + sound


def nearest_examples(
    persona: Persona, seeds: Sequence[Example], questions: Sequence[tuple[str, str]]
) -> list[list[Example]]:
    """Return for each (topic, question) the seeds whose questions are most like it, best first.

    A row and what it was shown may not be in two splits, so that a topic is shown its own seeds:
    an example of two topics would put all their rows into one split. Seeds of no topic are dealt
    out among the persona's topics. A topic that has none is shown none.

    Similarity is the cosine of TF-IDF weights over character 2- to 4-grams within words, which
    suits Korean as well as English.
    """
    pool = few_shot_pool(persona, seeds)
    if not (pool and questions):
        return [[] for _ in questions]
    from sklearn.feature_extraction.text import TfidfVectorizer

    topics = _shown_topics(persona, pool)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    known = vectorizer.fit_transform(seed.question for seed in pool)
    alike = (vectorizer.transform(question for _, question in questions) @ known.T).toarray()
    nearest = []
    for (topic, _), row in zip(questions, alike.tolist(), strict=True):
        own = [place for place, shown in enumerate(topics) if shown == topic]
        own.sort(key=lambda place: -row[place])
        nearest.append([pool[place] for place in own[:FEW_SHOT]])
    return nearest


def _shown_topics(persona: Persona, pool: Sequence[Example]) -> list[str]:
    """Return for each seed of the pool the topic whose rows it may be shown to."""
    dealt = itertools.cycle(persona.topics)
    return [seed.topic or next(dealt, "") for seed in pool]


def dataset_prompt(
    persona: Persona, seeds: Sequence[Example], *, count: int, topics: Sequence[str] = ()
) -> str:
    """Return the prompt that lets any chat write rows, for people who have no endpoint.

    It is in the persona's language and names role, context, task with counts, and form. Two sound
    seeds are shown. The rows are shared out evenly over the topics, all of the persona's by
    default; the first ones get what is over.
    """
    asked = list(topics or persona.topics)
    share, over = divmod(count, len(asked))
    counts = {topic: share + (place < over) for place, topic in enumerate(asked)}
    return render(
        "dataset",
        persona,
        character=system_prompt(persona),
        total=count,
        counts={topic: rows for topic, rows in counts.items() if rows},
        form=_row("…", "…", "…"),
        examples=[
            _row(seed.question, seed.answer, seed.topic)
            for seed in few_shot_pool(persona, seeds)[:_SHOWN_IN_CHAT]
        ],
    )


def _row(question: str, answer: str, topic: str) -> str:
    return json.dumps(
        {"instruction": question, "output": answer, "topic": topic}, ensure_ascii=False
    )
