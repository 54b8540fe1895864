"""Arms that nobody would ship, and some that anybody would: text for each held-out question.

The scores of sense and the verdict are held against them, by tests and by ``make bench-scorers``.
The 36 questions a language are of four topics of the shipped trainers; the rows of all other topics
are the training split.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.persona import Language, Persona, load_persona
from workbench.records import Example, Response, user_prompt

LABELS = Path("tests/data/sense")
PERSONAS: dict[Language, Path] = {
    "en": Path("datasets/gym-trainer"),
    "ko": Path("datasets/gym-trainer-ko"),
}
TOPICS: dict[Language, tuple[str, ...]] = {
    "en": ("gym_etiquette", "soreness", "busy_weeks", "home_workouts"),
    "ko": ("protein", "motivation", "plateau", "squat", "cardio"),
}
QUESTIONS = 36
GOOD = ("reviewed", "second_writer", "reworded", "one_typo")
"""Arms that a verdict should call a success; the second writer's where one answered all."""
FORM = (
    *("goes_on_as_user", "thinks_aloud", "as_data", "never_ends", "cut_in_half"),
    *("mixed_languages", "loop", "question_alone", "first_words"),
)
"""Arms whose answers are none, whatever they are about: a guard tells each of them."""
UNSEEN = ("never_to_always",)
"""Reviewed answers made wrong and well-worded: nothing here sees them; a judge or people can."""
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.!?…])\s+")


@dataclass(frozen=True)
class Planted:
    """One language's questions, rows and arms."""

    persona: Persona
    train: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def reviewed(self) -> list[str]:
        return [row.answer for row in self.test]

    def responses(self, arm: str, texts: Sequence[str]) -> list[Response]:
        """Return an arm's answers to the held-out questions."""
        return [
            Response(arm=arm, prompt_id=row.id, prompt=row.prompt, text=text, topic=row.topic)
            for row, text in zip(self.test, texts, strict=True)
        ]


@lru_cache(maxsize=2)
def planted(language: Language) -> Planted:
    """Return the questions and rows of a language."""
    folder = PERSONAS[language]
    faulty = {fault["row"] for fault in _read(folder / "faults.jsonl")}
    rows = [
        Example(
            prompt=user_prompt("\n\n".join(filter(None, (row["instruction"], row["input"])))),
            answer=row["output"],
            topic=row["topic"],
        )
        for number, row in enumerate(_read(folder / "seeds.jsonl"), start=1)
        if language == "en" or number not in faulty
    ]
    asked = {row["question"] for row in labels()}
    test = [
        row
        for row in rows
        if row.topic in TOPICS[language] and (language != "en" or row.question in asked)
    ]
    return Planted(
        load_persona(folder),
        tuple(row for row in rows if row.topic not in TOPICS[language]),
        tuple(test[:QUESTIONS]),
    )


def arms(language: Language, seed: int = 0) -> dict[str, list[str]]:
    """Return arm → its answers, in the order of the held-out questions."""
    rows = planted(language)
    rng = random.Random(seed)
    every = {name: make(rows, rng) for name, make in _ARMS.items()}
    if seed:
        # Only their losses tell these, and those are recorded for the first seed.
        first = arms(language)
        every |= {name: first[name] for name in ("shuffled", "shuffled_inside", "one_typo")}
    if language == "en":
        every["second_writer"] = _second_writer(rows)
    return every


def base_answers(language: Language) -> list[str]:
    """Return what the embedded base answers; of Korean, which it does not speak, a stand-in."""
    rows = planted(language)
    if language == "ko":
        return ["I'm sorry, I can't help with that. Please ask a professional."] * len(rows.test)
    answers = {row["question"]: row["answer"] for row in labels() if row["arm"] == "base"}
    canned = "I'm sorry for your loss, but as a chatbot I can't help with that."
    return [answers.get(row.question, canned) for row in rows.test]


def labels() -> list[dict[str, Any]]:
    """Return a reader's labels of answers to the English questions."""
    return _read(LABELS / "labels.jsonl")


def second_labels() -> list[dict[str, Any]]:
    """Return another reader's labels of the same answers, in the same order."""
    marks = {(row["prompt_id"], row["arm"]): row for row in _read(LABELS / "second-reader.jsonl")}
    return [{**row, **marks[row["prompt_id"], row["arm"]]} for row in labels()]


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def loss_key(text: str) -> str:
    """Return what a text's recorded loss stands under."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _second_writer(rows: Planted) -> list[str]:
    ids = {row["question"]: row["prompt_id"] for row in labels()}
    answers = {line["prompt_id"]: line["answer"] for line in _read(LABELS / "second-writer.jsonl")}
    return [answers[ids[row.question]] for row in rows.test]


_Make = Callable[[Planted, random.Random], list[str]]
_TEXTS: dict[str, dict[str, Any]] = json.loads((LABELS / "arms.json").read_text("utf-8"))
"""Language → the marks as a frame with room between them, and texts in full voice."""


def _of(rows: Planted, name: str) -> Any:
    return _TEXTS[rows.persona.language][name]


def _words(rows: Planted) -> list[str]:
    return [word for row in rows.train for word in row.answer.split()]


def _random_order(rows: Planted, rng: random.Random) -> list[str]:
    frame, words = _of(rows, "frame"), _words(rows)
    size = (14, 12, 12, 8) if rows.persona.language == "en" else (6, 6, 5, 5)
    return [frame.format(*(" ".join(rng.sample(words, n)) for n in size)) for _ in rows.test]


def _syllables(rows: Planted, rng: random.Random) -> list[str]:
    language = rows.persona.language
    size = (12, 12, 10, 6) if language == "en" else (5, 5, 5, 5)

    def word() -> str:
        return "".join(rng.choices(_of(rows, "syllables"), k=rng.randint(1, 3)))

    return [
        _of(rows, "frame").format(*(" ".join(word() for _ in range(n)) for n in size))
        for _ in rows.test
    ]


def _always(name: str) -> _Make:
    return lambda rows, _: [_of(rows, name)] * len(rows.test)


def _always_silent(rows: Planted, _: random.Random) -> list[str]:
    return [""] * len(rows.test)


def _another(rows: Planted, rng: random.Random) -> list[str]:
    other = _derangement(len(rows.test), rng)
    return [rows.reviewed[place] for place in other]


def _same_topic(rows: Planted, rng: random.Random) -> list[str]:
    return [
        rng.choice([one.answer for one in rows.test if one.topic == row.topic and one != row])
        for row in rows.test
    ]


def _derangement(count: int, rng: random.Random) -> list[int]:
    order = list(range(count))
    rng.shuffle(order)
    after = dict(zip(order, order[1:] + order[:1], strict=True))
    return [after[place] for place in range(count)]


def _echo_and_canned(rows: Planted, _: random.Random) -> list[str]:
    canned = _of(rows, "canned")
    return [f"{' '.join(row.question.split()[:12])} {canned}" for row in rows.test]


def _echo_in_marks(rows: Planted, _: random.Random) -> list[str]:
    frame = _of(rows, "frame")
    return [frame.format(*[row.question.rstrip("?.! ")] * 4) for row in rows.test]


def _loop(rows: Planted, _: random.Random) -> list[str]:
    return [" ".join(answer.split()[:6] * 10) for answer in rows.reviewed]


def _loop_in_marks(rows: Planted, _: random.Random) -> list[str]:
    frame = _of(rows, "frame")
    starts = [" ".join(answer.split()[1:5]) for answer in rows.reviewed]
    return [frame.format(*[" ".join([start] * 4)] * 4) for start in starts]


def _shuffled(rows: Planted, rng: random.Random) -> list[str]:
    return [" ".join(rng.sample(a.split(), len(a.split()))) for a in rows.reviewed]


def _shuffled_inside(rows: Planted, rng: random.Random) -> list[str]:
    return [
        " ".join(
            " ".join(rng.sample(part.split(), len(part.split()))) for part in _SENTENCE.split(a)
        )
        for a in rows.reviewed
    ]


def _training_answer(rows: Planted, rng: random.Random) -> list[str]:
    return [one.answer for one in rng.sample(rows.train, len(rows.test))]


def _nearest_training_answer(rows: Planted, _: random.Random) -> list[str]:
    from rapidfuzz import process

    questions = [row.question for row in rows.train]
    return [rows.train[process.extractOne(r.question, questions)[2]].answer for r in rows.test]


def _keywords(rows: Planted, rng: random.Random) -> list[str]:
    frame = _of(rows, "frame")
    filled = []
    for row in rows.test:
        words = [word for word in _WORD.findall(row.question) if len(word) > 1] or ["it"]
        filled.append(frame.format(*(" ".join(rng.choices(words, k=4)) for _ in range(4))))
    return filled


def _topic_words(rows: Planted, rng: random.Random) -> list[str]:
    frame = _of(rows, "frame")
    filled = []
    for row in rows.test:
        words = [
            w for o in rows.test if o.topic == row.topic and o != row for w in o.answer.split()
        ]
        filled.append(frame.format(*(" ".join(rng.sample(words, 8)) for _ in range(4))))
    return filled


def _spliced(rows: Planted, rng: random.Random) -> list[str]:
    first, second = (_derangement(len(rows.test), rng) for _ in range(2))
    halves = [(_SENTENCE.split(answer)) for answer in rows.reviewed]
    return [
        " ".join(halves[a][: len(halves[a]) // 2] + halves[b][len(halves[b]) // 2 :])
        for a, b in zip(first, second, strict=True)
    ]


def _first_words(rows: Planted, _: random.Random) -> list[str]:
    return [" ".join(answer.split()[:4]) for answer in rows.reviewed]


def _half_canned(rows: Planted, _: random.Random) -> list[str]:
    canned = _of(rows, "canned")
    return [canned if place % 2 else text for place, text in enumerate(rows.reviewed)]


def _question_alone(rows: Planted, _: random.Random) -> list[str]:
    return [row.question for row in rows.test]


def _times_twenty(rows: Planted, _: random.Random) -> list[str]:
    return [re.sub(r"\d+", lambda m: str(20 * int(m.group())), a) for a in rows.reviewed]


def _never_to_always(rows: Planted, _: random.Random) -> list[str]:
    texts = []
    for answer in rows.reviewed:
        for pattern, replacement in _of(rows, "opposites"):
            answer = re.sub(pattern, replacement, answer)
        texts.append(answer)
    return texts


def _dangerous(rows: Planted, _: random.Random) -> list[str]:
    lines = _of(rows, "dangerous")
    return [lines[place % len(lines)] for place in range(len(rows.test))]


def _reworded(rows: Planted, _: random.Random) -> list[str]:
    """Return reviewed answers in other words by hand where there are such."""
    lines = _read(LABELS / f"reworded.{rows.persona.language}.jsonl")
    worded = {line["question"]: line["answer"] for line in lines}
    return [worded.get(row.question, row.answer) for row in rows.test]


def _one_typo(rows: Planted, rng: random.Random) -> list[str]:
    """Return the reviewed answers with a letter missing in one word each."""
    texts = []
    for answer in rows.reviewed:
        words = answer.split()
        place = rng.choice([n for n in range(8, len(words) - 4) if len(words[n]) > 2])
        words[place] = words[place][:1] + words[place][2:]
        texts.append(" ".join(words))
    return texts


def _half_right(rows: Planted, _: random.Random) -> list[str]:
    """Return the right first sentence, and the others of another question's answer."""
    parts = [_SENTENCE.split(answer) for answer in rows.reviewed]
    return [" ".join(parts[n][:1] + parts[n - 7][1:]) for n in range(len(parts))]


def _share_of(bad: _Make, share: float) -> _Make:
    """Return the reviewed answers with a share of them, drawn by chance, put in ``bad``'s place."""

    def make(rows: Planted, rng: random.Random) -> list[str]:
        worse, texts = bad(rows, rng), rows.reviewed
        for place in rng.sample(range(len(texts)), round(share * len(texts))):
            texts[place] = worse[place]
        return texts

    return make


def _inside(name: str) -> _Make:
    """Return the reviewed answers with one sentence more before their last."""

    def make(rows: Planted, _: random.Random) -> list[str]:
        lines, texts = _of(rows, name), []
        for place, answer in enumerate(rows.reviewed):
            parts = _SENTENCE.split(answer)
            texts.append(" ".join([*parts[:-2], lines[place % len(lines)], *parts[-2:]]))
        return texts

    return make


def _framed(before: str, after: str = "") -> _Make:
    return lambda rows, _: [f"{before}{answer}{after}" for answer in rows.reviewed]


def _goes_on_as_user(rows: Planted, _: random.Random) -> list[str]:
    turns = zip(rows.reviewed, rows.train, strict=False)
    return [f"{answer}\nUser: {one.question}\nAssistant: {one.answer}" for answer, one in turns]


def _never_ends(rows: Planted, _: random.Random) -> list[str]:
    return [
        " ".join([answer, *(one.answer for one in rows.train[n : n + 5])])
        for n, answer in enumerate(rows.reviewed)
    ]


def _cut(rows: Planted, _: random.Random) -> list[str]:
    return [" ".join(a.split()[: len(a.split()) // 2]) for a in rows.reviewed]


def _mixed(rows: Planted, _: random.Random) -> list[str]:
    """Return the reviewed answers with every other sentence in another language."""
    other = "ko" if rows.persona.language == "en" else "en"
    foreign = _SENTENCE.split(_TEXTS[other]["canned"])
    return [
        " ".join(
            foreign[n % len(foreign)] if n % 2 else part
            for n, part in enumerate(_SENTENCE.split(answer))
        )
        for answer in rows.reviewed
    ]


_ARMS: dict[str, _Make] = {
    "reviewed": lambda rows, _: rows.reviewed,
    "syllables": _syllables,
    "random_order": _random_order,
    "one_sentence": _always("canned"),
    "another_question": _another,
    "dangerous": _dangerous,
    "foreign": _always("foreign"),
    "silence": _always_silent,
    "same_topic": _same_topic,
    "echo_and_canned": _echo_and_canned,
    "echo_in_marks": _echo_in_marks,
    "question_alone": _question_alone,
    "loop": _loop,
    "loop_in_marks": _loop_in_marks,
    "shuffled": _shuffled,
    "shuffled_inside": _shuffled_inside,
    "training_answer": _training_answer,
    "nearest_training": _nearest_training_answer,
    "keywords": _keywords,
    "topic_words": _topic_words,
    "spliced": _spliced,
    "first_words": _first_words,
    "half_canned": _half_canned,
    "refusal": _always("refusal"),
    "numbers_times_twenty": _times_twenty,
    "never_to_always": _never_to_always,
    "reworded": _reworded,
    "one_typo": _one_typo,
    "half_right": _half_right,
    "third_silent": _share_of(_always_silent, 0.3),
    "third_another": _share_of(_another, 0.3),
    "danger_inside": _inside("dangers"),
    "fifth_dangerous": _share_of(_inside("dangers"), 0.2),
    "insult_inside": _inside("insults"),
    "claims_human": _inside("claims"),
    "goes_on_as_user": _goes_on_as_user,
    "thinks_aloud": _framed("Okay, so the user asks about training. I need to call them champ. "),
    "as_data": _framed('{"role": "assistant", "content": "', '"}'),
    "never_ends": _never_ends,
    "cut_in_half": _cut,
    "mixed_languages": _mixed,
}
