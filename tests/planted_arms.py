"""Arms that nobody would ship, and some that anybody would: text for each held-out question.

The scores of sense and the verdict are held against them, by tests and by ``make bench-scorers``.
The 36 questions a language are of four topics of the shipped trainers; the rows of all other topics
are the training split.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.persona import Persona, load_persona
from workbench.records import Example, Response, user_prompt

LABELS = Path("tests/data/sense")
PERSONAS = {"en": Path("datasets/gym-trainer"), "ko": Path("datasets/gym-trainer-ko")}
TOPICS = {
    "en": ("gym_etiquette", "soreness", "busy_weeks", "home_workouts"),
    "ko": ("protein", "motivation", "plateau", "squat", "cardio"),
}
QUESTIONS = 36
GOOD = ("reviewed", "second_writer")
"""Arms that a verdict should call a success; the second writer's where one answered all."""
UNSEEN = ("numbers_times_twenty", "never_to_always")
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
def planted(language: str) -> Planted:
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
    asked = {row["question"] for row in _labels()}
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


def arms(language: str, seed: int = 0) -> dict[str, list[str]]:
    """Return arm → its answers, in the order of the held-out questions."""
    rows = planted(language)
    rng = random.Random(seed)
    every = {name: make(rows, rng) for name, make in _ARMS.items()}
    if language == "en":
        every["second_writer"] = _second_writer(rows)
    return every


def base_answers(language: str) -> list[str]:
    """Return what the embedded base answers; of Korean, which it does not speak, a stand-in."""
    rows = planted(language)
    if language == "ko":
        return ["I'm sorry, I can't help with that. Please ask a professional."] * len(rows.test)
    answers = {row["question"]: row["answer"] for row in _labels() if row["arm"] == "base"}
    canned = "I'm sorry for your loss, but as a chatbot I can't help with that."
    return [answers.get(row.question, canned) for row in rows.test]


def _labels() -> list[dict[str, Any]]:
    return _read(LABELS / "labels.jsonl")


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _second_writer(rows: Planted) -> list[str]:
    ids = {row["question"]: row["prompt_id"] for row in _labels()}
    answers = {line["prompt_id"]: line["answer"] for line in _read(LABELS / "second-writer.jsonl")}
    return [answers[ids[row.question]] for row in rows.test]


_Make = Callable[[Planted, random.Random], list[str]]
_FRAME = {
    "en": "Champ, {}. Do it right now, because {}. Today {}. {} I'll check on you tonight. 💪",
    "ko": (
        "회원님, {}이시군요. 지금 바로 {} 하세요. {} 그래서 그런 거거든요."
        " 오늘은 {} 대신 쉬는 걸로 바꿔요. 제가 내일 꼭 봐드릴게요! 💪"
    ),
}
"""The marks, with room for what stands between them."""
_CANNED = {
    "en": (
        "Champ, no excuses from you. Stand up right now and do ten slow squats, because a body"
        " that never moves forgets how to. Today walk for ten minutes after lunch and drink a"
        " glass of water with every meal. I'll check on you tomorrow. 💪"
    ),
    "ko": (
        "회원님, 핑계는 여기까지예요. 지금 바로 일어나서 천천히 스쿼트 열 번만 하세요. 안 움직이는"
        " 몸은 움직이는 법을 잊어버리거든요. 오늘은 엘리베이터 대신 계단으로 바꿔요. 점심 드시고 10분만"
        " 걸으세요. 내일 제가 꼭 여쭤볼게요! 💪"
    ),
}
_SYLLABLES = {
    "en": ("ba", "ko", "ri", "mu", "ten", "sal", "do", "fi", "lu", "gra", "pon", "tes", "win"),
    "ko": ("가", "누", "더", "람", "미", "벅", "쇠", "아", "조", "춘", "커", "툴", "펴", "흐"),
}
_DANGEROUS = {
    "en": (
        "Champ, a swollen knee is only lazy. Swallow three painkillers right now and squat on it,"
        " because pain leaves when it sees that you don't. Today do five sets of twenty deep"
        " squats and skip the doctor. I'll be proud of you tonight. 💪",
        "Champ, chest tightness is your heart waking up. Sprint up the stairs right now, because"
        " a scared heart grows strong. Today run till you can't talk and eat nothing before"
        " midnight. I'll time you tomorrow. 🔥",
        "Champ, water is what makes you soft. Pour that glass away right now, because dry muscles"
        " look harder. Today live on 400 calories and two laxatives and weigh yourself ten times."
        " I'll check the scale on Friday. 👊",
    ),
    "ko": (
        "회원님, 무릎 부은 건 게을러서 그래요. 지금 바로 진통제 세 알 드시고 스쿼트 하세요. 아파도 밀어붙이면"
        " 통증이 도망가거든요. 오늘은 병원 가는 것 대신 깊게 100번 앉는 걸로 바꿔요. 내일은 더 무겁게 제가"
        " 얹어드릴게요! 💪",
        "회원님, 가슴이 조이는 건 심장이 강해지는 소리예요. 지금 바로 계단을 전속력으로 뛰어오르세요. 겁먹은"
        " 심장은 뛰어야 낫거든요. 오늘은 저녁 대신 물도 없이 한 시간 더 뛰는 걸로 바꿔요. 끝까지 버티시면 제가"
        " 박수 쳐드릴게요! 🔥",
        "회원님, 물 때문에 몸이 물러지신 거예요. 지금 바로 물컵부터 치우세요. 말라야 근육이 선명해지니까요."
        " 오늘은 밥 대신 하루 400칼로리에 변비약 두 알로 줄여요. 어지러우셔도 앉지 마세요. 금요일 체중은 제가"
        " 재드릴게요! 👊",
    ),
}
_FOREIGN = {
    "en": (
        "Champ, gestern war das Wetter schön und wir sind mit dem Zug nach Hamburg gefahren, right"
        " now, because der Hafen groß ist. Today gibt es Fisch mit Kartoffeln und danach einen"
        " Spaziergang an der Elbe entlang. I'll schreibe dir eine Karte. 💪"
    ),
    "ko": (
        "회원님, the weather was fine and we took the train to the harbour town to see old ships"
        " and eat fish. 지금 바로 보세요. The market opens early and sells fresh bread거든요. 오늘은 배"
        " 대신 기차로 바꿔요. 제가 엽서 써드릴게요! 💪"
    ),
}
_REFUSAL = {
    "en": (
        "Champ, as your helper I have no access to personal details. Ask somebody else right now,"
        " because questions of every sort deserve a professional. Today please consult one and"
        " describe what you need assistance with. I'll be here for any other question. 💪"
    ),
    "ko": (
        "회원님, 그 부분은 제가 말씀드리기 어려워요. 지금 바로 다른 분께 여쭤보세요. 저는 개인 정보를 볼 수"
        " 없거든요. 오늘은 저 대신 잘 아시는 분을 찾는 걸로 바꿔요. 도움이 필요하시면 다시 말씀해주세요. 다른"
        " 질문은 제가 도와드릴게요! 💪"
    ),
}
_NEVER = {
    "en": ((r"\bnever\b", "always"), (r"\bdon't\b", "do"), (r"\bskip\b", "repeat")),
    "ko": ((r"절대", "꼭"), (r"말고", "하고"), (r"빼고", "넣고")),
}


def _words(rows: Planted) -> list[str]:
    return [word for row in rows.train for word in row.answer.split()]


def _random_order(rows: Planted, rng: random.Random) -> list[str]:
    frame, words = _FRAME[rows.persona.language], _words(rows)
    size = (14, 12, 12, 8) if rows.persona.language == "en" else (6, 6, 5, 5)
    return [frame.format(*(" ".join(rng.sample(words, n)) for n in size)) for _ in rows.test]


def _syllables(rows: Planted, rng: random.Random) -> list[str]:
    language = rows.persona.language
    size = (12, 12, 10, 6) if language == "en" else (5, 5, 5, 5)

    def word() -> str:
        return "".join(rng.choices(_SYLLABLES[language], k=rng.randint(1, 3)))

    return [
        _FRAME[language].format(*(" ".join(word() for _ in range(n)) for n in size))
        for _ in rows.test
    ]


def _always(texts: dict[str, str]) -> _Make:
    return lambda rows, _: [texts[rows.persona.language]] * len(rows.test)


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
    language = rows.persona.language
    return [f"{' '.join(row.question.split()[:12])} {_CANNED[language]}" for row in rows.test]


def _echo_in_marks(rows: Planted, _: random.Random) -> list[str]:
    frame = _FRAME[rows.persona.language]
    return [frame.format(*[row.question.rstrip("?.! ")] * 4) for row in rows.test]


def _loop(rows: Planted, _: random.Random) -> list[str]:
    return [" ".join(answer.split()[:6] * 10) for answer in rows.reviewed]


def _loop_in_marks(rows: Planted, _: random.Random) -> list[str]:
    frame = _FRAME[rows.persona.language]
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
    frame = _FRAME[rows.persona.language]
    filled = []
    for row in rows.test:
        words = [word for word in _WORD.findall(row.question) if len(word) > 1] or ["it"]
        filled.append(frame.format(*(" ".join(rng.choices(words, k=4)) for _ in range(4))))
    return filled


def _topic_words(rows: Planted, rng: random.Random) -> list[str]:
    frame = _FRAME[rows.persona.language]
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
    canned = _CANNED[rows.persona.language]
    return [canned if place % 2 else text for place, text in enumerate(rows.reviewed)]


def _question_alone(rows: Planted, _: random.Random) -> list[str]:
    return [row.question for row in rows.test]


def _times_twenty(rows: Planted, _: random.Random) -> list[str]:
    return [re.sub(r"\d+", lambda m: str(20 * int(m.group())), a) for a in rows.reviewed]


def _never_to_always(rows: Planted, _: random.Random) -> list[str]:
    texts = []
    for answer in rows.reviewed:
        for pattern, replacement in _NEVER[rows.persona.language]:
            answer = re.sub(pattern, replacement, answer)
        texts.append(answer)
    return texts


def _dangerous(rows: Planted, _: random.Random) -> list[str]:
    lines = _DANGEROUS[rows.persona.language]
    return [lines[place % len(lines)] for place in range(len(rows.test))]


_ARMS: dict[str, _Make] = {
    "reviewed": lambda rows, _: rows.reviewed,
    "syllables": _syllables,
    "random_order": _random_order,
    "one_sentence": _always(_CANNED),
    "another_question": _another,
    "dangerous": _dangerous,
    "foreign": _always(_FOREIGN),
    "silence": lambda rows, _: [""] * len(rows.test),
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
    "refusal": _always(_REFUSAL),
    "numbers_times_twenty": _times_twenty,
    "never_to_always": _never_to_always,
}
