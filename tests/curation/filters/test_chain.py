"""Filters: each drop has the right reason, and good rows are left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import process_time

import pytest

from curation.filters import filter_examples
from curation.filters.rules import find_personal_data, mask_personal_data
from workbench.conduct import crisis_care, discloses
from workbench.config import FilterSettings
from workbench.near_duplicates import jaccard, repeats, shingles
from workbench.paraphrases import Meaning
from workbench.persona import Persona, load_persona
from workbench.records import Example, Preference, user_prompt
from workbench.store import read_json_lines

GOOD = (
    "That stiff neck, champ, comes from eight hours of chin-first typing. Sit tall right now and "
    "pull your chin straight back ten times. It works because the deep neck muscles wake up. "
    "Today, swap the plank for two sets of ten rows. I'll check your screen height on Monday. 💪"
)
KOREAN = (
    "회원님, 목이 뻣뻣하셨군요. 지금 바로 턱을 뒤로 당겨 보세요. "
    "오늘은 플랭크 대신 로우를 두 세트만 해요. 제가 월요일에 꼭 확인할게요. "
    "화면 높이도 같이 봐 드릴게요, 아셨죠. 물도 자주 드시고 한 시간마다 "
    "꼭 일어나서 어깨를 크게 돌려 주세요, 그래야 목이 편해져요. 일찍 주무시고요."
)
GERMAN = (
    "Der steife Nacken kommt vom langen Sitzen, mein Freund. Setz dich jetzt gerade hin und zieh "
    "das Kinn zehnmal zurück. Heute lassen wir die Planke weg und machen zwei Sätze Rudern. Am "
    "Montag sehe ich mir an, wie hoch dein Bildschirm steht. Das hilft, versprochen. 💪"
)


@pytest.fixture(scope="module")
def persona(repo: Path) -> Persona:
    return load_persona(repo / "datasets" / "gym-trainer")


def _example(answer: str, question: str = "My neck is stiff, what now?", line: int = 1) -> Example:
    return Example(
        prompt=user_prompt(question), answer=answer, topic="desk_posture", source=f"s.jsonl:{line}"
    )


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (GOOD + " As an AI, I don't have personal experience of necks.", "refusal"),
        ("I'm sorry, but I can't help with necks. " + GOOD, "refusal"),
        (GOOD.replace("Sit tall", "Push through the sharp pain and sit tall"), "unsafe_advice"),
        ("Sit up, champ. 💪", "too_short"),
        (GOOD * 3, "too_long"),
        (GOOD + " Write to coach@example.com.", "personal_data"),
        (KOREAN, "wrong_language"),
        (GERMAN, "wrong_language"),
        (GOOD.replace("Sit tall", "Perhaps sit tall"), "must_not"),
        ("There are several causes. " + GOOD, "must_not"),
    ],
)
def test_a_faulty_answer_is_dropped_with_its_reason(
    persona: Persona, answer: str, reason: str
) -> None:
    filtered = filter_examples([_example(answer)], persona)
    assert [drop.reason for drop in filtered.drops] == [reason]
    assert (filtered.examples, filtered.preferences) == ([], [])


def test_a_good_row_is_kept_as_it_came(persona: Persona) -> None:
    row = _example(GOOD)
    assert filter_examples([row], persona).examples == [row]


def test_a_broken_must_not_names_the_trait_and_the_phrase(persona: Persona) -> None:
    (gone,) = filter_examples([_example("It depends, champ. " + GOOD)], persona).drops
    assert gone.detail == "no_hedging: It depends"


def test_a_team_may_leave_must_nots_to_the_reviewers(persona: Persona) -> None:
    row = _example("It depends, champ. " + GOOD)
    assert filter_examples([row], persona, FilterSettings(must_not="keep")).examples == [row]


@pytest.mark.parametrize(
    ("name", "question", "answer", "script"),
    [
        ("gym-trainer", "스쿼트를 하고 나면 무릎 앞쪽이 아픈데 계속해도 되나요?", GOOD, "Hangul"),
        ("gym-trainer", "Почему у меня болит колено после приседаний?", GOOD, "Cyrillic"),
        ("gym-trainer-ko", "How often should I train my back?", KOREAN, "Latin"),
        ("gym-trainer-ko", "PT 받고 있는데 squat 100kg 3 set 괜찮아요?", KOREAN, ""),
        ("gym-trainer", "목", GOOD, ""),
    ],
)
def test_a_question_in_another_script_is_another_language(
    repo: Path, name: str, question: str, answer: str, script: str
) -> None:
    spec = load_persona(repo / "datasets" / name)
    dropped = filter_examples([_example(answer, question)], spec).drops
    expected = [("wrong_language", f"the question is in {script} letters")] if script else []
    assert [(d.reason, d.detail) for d in dropped if d.reason == "wrong_language"] == expected


def test_a_contested_row_passes_all_but_repetitions_and_personal_data(persona: Persona) -> None:
    row, private = _example("Sit."), _example("Mail a@example.com.", line=2)
    settings = FilterSettings(personal_data="drop")
    filtered = filter_examples(
        [row, row, private], persona, settings, contested={row.id, private.id}
    )
    assert filtered.examples == [row]
    assert [drop.reason for drop in filtered.drops] == ["exact_duplicate", "personal_data"]
    assert filter_examples([row], persona, settings).drops[0].reason == "too_short"


def test_an_exact_repetition_from_another_source_is_named_so(persona: Persona) -> None:
    again = _example(GOOD.replace(". ", ".  "), line=9)
    (gone,) = filter_examples([_example(GOOD), again], persona).drops
    assert (gone.record, gone.reason, gone.detail) == (
        again.id,
        "exact_duplicate",
        "the same as s.jsonl:1",
    )


def _pair(chosen: str, rejected: str = "No.", line: int = 1) -> Preference:
    question = user_prompt("My neck is stiff, what now?")
    return Preference(prompt=question, chosen=chosen, rejected=rejected, source=f"p.jsonl:{line}")


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (_pair("I'm sorry, but I can't help with necks. " + GOOD), "refusal"),
        (_pair(GOOD.replace("Sit tall", "Work through the pain and sit")), "unsafe_advice"),
        (_pair("Sit up. 💪"), "too_short"),
        (_pair(GOOD, "Write to coach@example.com."), "personal_data"),
        (_pair("It depends, champ. " + GOOD), "must_not"),
    ],
)
def test_a_pair_is_dropped_for_its_chosen_answer_or_any_personal_data(
    persona: Persona, pair: Preference, reason: str
) -> None:
    filtered = filter_examples([], persona, preferences=[pair])
    assert [(d.record, d.reason) for d in filtered.drops] == [(pair.id, reason)]
    assert filtered.preferences == []


def test_a_faulty_rejected_answer_is_what_a_pair_is_for(persona: Persona) -> None:
    pairs = [_pair(GOOD, "As an AI, I can't."), _pair(GOOD, "It depends.")]
    again = _pair(GOOD, "It depends. ", line=3)
    filtered = filter_examples([], persona, preferences=[*pairs, again])
    assert filtered.preferences == pairs
    assert [(d.record, d.reason) for d in filtered.drops] == [(again.id, "exact_duplicate")]


def test_personal_data_is_masked_on_both_sides_of_a_pair(persona: Persona) -> None:
    pair = _pair(GOOD + " a@example.com", "Call 202-555-0142.")
    settings = FilterSettings(personal_data="mask")
    (kept,) = filter_examples([], persona, settings, preferences=[pair]).preferences
    assert kept.chosen.endswith("[e-mail]") and kept.rejected == "Call [phone number]."
    assert kept.parents == (pair.id,)


def test_a_later_stage_names_itself_in_its_drops(persona: Persona) -> None:
    (gone,) = filter_examples([_example("Sit.")], persona, stage="resolve").drops
    assert (gone.stage, gone.reason) == ("resolve", "too_short")


def test_the_later_of_two_near_duplicates_goes_and_names_the_earlier(persona: Persona) -> None:
    rows = [_example(GOOD), _example(GOOD.replace("Monday", "Tuesday"), line=2)]
    filtered = filter_examples(rows, persona)
    assert filtered.examples == rows[:1]
    (gone,) = filtered.drops
    assert (gone.record, gone.reason) == (rows[1].id, "near_duplicate")
    assert gone.detail.endswith("alike to s.jsonl:1")


def test_the_same_answer_to_another_question_is_no_near_duplicate(persona: Persona) -> None:
    other = "Is it bad that I skipped three weeks of training because of the quarterly report?"
    long = f"{other} I also slept badly, ate at my desk and took the lift every single day."
    rows = [_example(GOOD), _example(GOOD.replace("neck", "hip"), question=long, line=2)]
    assert filter_examples(rows, persona, FilterSettings(near_duplicate=0.9)).examples == rows


def test_masked_rows_keep_their_story(persona: Persona) -> None:
    row = _example(GOOD + " Write to coach@example.com.")
    (kept,) = filter_examples([row], persona, FilterSettings(personal_data="mask")).examples
    assert kept.answer.endswith("Write to [e-mail].")
    assert kept.parents == (row.id,)


def test_a_drop_does_not_repeat_the_personal_data(persona: Persona) -> None:
    (gone,) = filter_examples([_example(GOOD + " coach@example.com")], persona).drops
    assert gone.detail == "e-mail"


@pytest.mark.parametrize(
    ("text", "language", "kinds"),
    [
        ("mail me: a.b+c@mail.example.org!", "en", ["e-mail"]),
        ("call 202-555-0142 tonight", "en", ["phone number"]),
        ("전화는 010-1234-5678 입니다", "ko", ["phone number"]),
        ("card 4111 1111 1111 1111", "en", ["card number"]),
        ("card 4111 1111 1111 1112", "en", []),
        ("주민번호 900101-1234568", "ko", ["resident number"]),
        ("주민번호 900101-1234567", "ko", []),
        ("3 sets of 8 to 12, rest 90 seconds, 10,000 steps, 2026-11-21", "en", []),
        ("오늘은 12회씩 3세트, 1분 30초 쉬고 5,000보 걸어요", "ko", []),
    ],
)
def test_personal_data_is_found_by_its_check_digits(
    text: str, language: str, kinds: list[str]
) -> None:
    assert [f.kind for f in find_personal_data(text, language)] == kinds


def test_masking_leaves_the_rest_of_the_text() -> None:
    text = "a@example.com or 202-555-0142, champ"
    assert mask_personal_data(text, "en") == "[e-mail] or [phone number], champ"


def test_likeness_is_jaccard_over_shingles() -> None:
    assert shingles("Abcd ef!") == {"abcd ", "bcd e", "cd ef"}
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5


def test_repeats_are_what_comparing_all_pairs_finds() -> None:
    texts = [f"{GOOD[:60]} {'squat walk rest chair '[: 3 * (n % 7)] * 4} {n}" for n in range(40)]
    sets = [shingles(text) for text in texts]
    firsts: list[int] = []
    for place, own in enumerate(sets):
        if all(jaccard(sets[first], own) < 0.7 for first in firsts):
            firsts.append(place)
    later = [one for _, one, _ in repeats(texts, 0.7)]
    assert later == [place for place in range(40) if place not in firsts] and len(firsts) > 1


def test_the_later_of_two_rows_that_say_the_same_in_other_words_goes(persona: Persona) -> None:
    reworded = (
        "Champ, your neck is stiff because you type with the chin out all day. Right now sit up "
        "and draw the chin back, ten repetitions: that wakes the small muscles deep in the neck. "
        "Do two sets of ten rows instead of the plank today. On Monday I look at how high your "
        "screen is. 💪"
    )
    other = (
        "Everyone starts there, champ. Put your hands on the desk right now and do five push-ups "
        "against it. It works because the angle makes you lighter. Today, swap the floor for the "
        "desk and add one each day. I'll count with you on Friday. 💪"
    )
    asked = "I'm ashamed that I'm unable to do even one push-up."
    rows = [
        _example(GOOD, "I can't do a single push-up. Not one. It's embarrassing."),
        _example(reworded, asked, line=2),
        _example(other, asked, line=3),
    ]
    assert len(filter_examples(rows[:2], persona).examples) == 2, "their wording differs"
    filtered = filter_examples(rows, persona, meaning=Meaning())
    assert [drop.source for drop in filtered.drops] == ["s.jsonl:2"]
    assert filtered.drops[0].reason == "near_duplicate"
    assert "says the same as s.jsonl:1: question 0." in filtered.drops[0].detail


CROWDS: dict[str, Callable[[int], str]] = {
    "alike": lambda n: f"{GOOD} That makes {n}.",
    "half alike": lambda n: f"{GOOD[: len(GOOD) // 2]} {sha256(str(n).encode()).hexdigest()}",
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_crowd_of_alike_rows_takes_no_more_time_a_row_than_others(
    persona: Persona, crowd: str
) -> None:
    spent = []
    for count in (300, 1200):
        rows = [_example(CROWDS[crowd](n), f"Is it {n} squats?") for n in range(count)]
        started = process_time()
        filtered = filter_examples(rows, persona)
        spent.append(process_time() - started)
        assert len(filtered.examples) + len(filtered.drops) == count
    assert spent[1] / spent[0] < 8, "4 times the rows; comparing all with all takes 16 times"


@pytest.mark.parametrize("where", ["question", "answer"])
def test_one_huge_row_costs_no_more_than_its_size(persona: Persona, where: str) -> None:
    huge = "How deep should I squat today? " * 60_000
    row = _example(GOOD, huge) if where == "question" else _example(huge)
    started = process_time()
    filtered = filter_examples([row, _example(GOOD)], persona)
    assert process_time() - started < 20
    assert [drop.reason for drop in filtered.drops] == ([] if where == "question" else ["too_long"])


HONEST = {
    "gym-trainer": (
        "Caught, champ: I'm an AI and have no knees at all. Stand up right now and bend yours five "
        "times, because they are the ones that count. Today, take the stairs twice and rest well "
        "in between. I'll ask you about them tomorrow. 🤖",
        "As an AI I can't see that knee, champ, so stop right now and sit down. I send you to a "
        "doctor because a swollen joint wants real eyes. Today, no squats at all, put the leg up. "
        "I'll build the week around what the doctor allows. ❤️",
    ),
    "gym-trainer-ko": (
        "회원님, 들켰네요, 저는 AI라 무릎도 종아리도 없어요. 지금 바로 일어나서 무릎을 다섯 번만 "
        "천천히 굽혀보세요. 세어야 하는 건 회원님 무릎이거든요. 오늘은 엘리베이터 말고 계단으로 "
        "두 번 오르세요. 내일 다리가 어땠는지 제가 꼭 물어볼게요! 🤖",
        "회원님, 저는 사람이 아니라 AI예요, 뒤에서 답하는 직원은 없어요. 지금 바로 데스크 직원분께 "
        "자세를 보여드리세요. 눈으로 봐야 아는 게 있거든요. 오늘은 무게 말고 거울 앞에서 자세만 "
        "잡으세요. 다녀오시면 다음 단계는 제가 짜드릴게요! 🤖",
    ),
}
"""Said to a sincere question; each of the first phrases of these was a reason to drop the row."""
IN_DANGER = {
    "gym-trainer": "Stop right now, champ, this is no training matter and I can't help with it by "
    "coaching. Call the emergency number because a tight chest can't wait. Training is over for "
    "today, seek medical advice at once. I'll want to hear what the doctor said. ❤️",
    "gym-trainer-ko": "회원님, 운동은 여기서 멈춰요, 이건 제가 도와드릴 수 없는 일이에요. 지금 "
    "당장 119에 전화하세요. 가슴이 조이는 건 기다려주지 않거든요. 오늘은 운동 말고 전문의에게 "
    "진료와 상담을 받으세요. 의사 선생님이 뭐라고 하셨는지 제가 꼭 들을게요. ❤️",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_disclosure_is_neither_dropped_nor_punished(repo: Path, name: str) -> None:
    persona = load_persona(repo / "datasets" / name)
    assert [persona.failed_traits(answer) for answer in HONEST[name]] == [[], []]
    asked = user_prompt("Are you a person?" if persona.language == "en" else "사람이에요?")
    rows = [_example(answer).evolve(prompt=asked) for answer in HONEST[name]]
    assert filter_examples(rows, persona).drops == []


@pytest.mark.parametrize("name", IN_DANGER)
def test_sending_a_person_in_danger_to_help_is_no_refusal(repo: Path, name: str) -> None:
    persona = load_persona(repo / "datasets" / name)
    drops = filter_examples([_example(IN_DANGER[name])], persona).drops
    assert [(drop.reason, drop.detail) for drop in drops if drop.reason == "refusal"] == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_an_excuse_of_being_a_machine_is_still_a_refusal(repo: Path, language: str) -> None:
    name = "gym-trainer" if language == "en" else "gym-trainer-ko"
    excuse = {
        "en": "As an AI language model, I am not able to give advice on squats, champ.",
        "ko": "회원님, 저는 AI라서 스쿼트 조언은 드릴 수 없어요.",
    }[language]
    persona = load_persona(repo / "datasets" / name)
    (drop,) = filter_examples([_example(excuse)], persona).drops
    assert drop.reason == "refusal"


@pytest.mark.parametrize("name", ["gym-trainer", "gym-trainer-ko"])
def test_the_seeds_teach_disclosure_and_help_in_danger(repo: Path, name: str) -> None:
    folder = repo / "datasets" / name
    persona = load_persona(folder)
    what_it_is, danger = persona.train_only
    rows = [row for _, row in read_json_lines(folder / "seeds.jsonl")]
    honest = [row["output"] for row in rows if row["topic"] == what_it_is]
    caring = [row["output"] for row in rows if row["topic"] == danger]
    assert (len(honest), len(caring)) == ({"gym-trainer": 20, "gym-trainer-ko": 14}[name], 6)
    assert [text for text in honest if not discloses(text, persona.language)] == []
    assert [t for t in caring if not crisis_care(t, persona.language).is_right] == []
    assert [
        persona.failed_traits(text) for text in honest + caring if persona.failed_traits(text)
    ] == []


@pytest.mark.parametrize("name", ["gym-trainer", "gym-trainer-ko"])
def test_on_the_shipped_seeds_only_planted_faults_are_dropped(repo: Path, name: str) -> None:
    folder = repo / "datasets" / name
    persona = load_persona(folder)
    rows = [
        Example(
            prompt=user_prompt(row["instruction"], row["input"]),
            answer=row["output"],
            topic=row["topic"],
            source=f"seeds.jsonl:{line}",
        )
        for line, row in read_json_lines(folder / "seeds.jsonl")
    ]
    faults = {
        f"seeds.jsonl:{r['row']}": r["fault"] for _, r in read_json_lines(folder / "faults.jsonl")
    }
    filtered = filter_examples(rows, persona, meaning=Meaning(language=persona.language))
    wrongly = [drop.source for drop in filtered.drops if drop.source not in faults]
    reasons = Counter((faults[d.source], d.reason) for d in filtered.drops if d.source in faults)
    assert wrongly == []
    assert reasons["near_duplicate", "near_duplicate"] == 3
    assert reasons["refusal", "refusal"] == 2
    assert reasons["unsafe_advice", "unsafe_advice"] >= 2
    assert reasons["personal_data", "personal_data"] >= 1


def test_an_answer_in_another_language_is_dropped_by_its_script_or_its_words(
    persona: Persona,
) -> None:
    dropped = filter_examples([_example(KOREAN), _example(GERMAN)], persona).drops
    assert [drop.detail for drop in dropped] == [
        "the answer is in Hangul letters",
        "de, the persona speaks en",
    ]
