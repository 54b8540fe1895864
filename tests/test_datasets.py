"""The prompt sets of ``datasets/``: they parse, their counts hold, and no prompt stands twice."""

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from curation.argilla.recorded import CONVERSATION_REVIEWS, read_recorded, recorded_of
from curation.filters.chain import filter_examples
from curation.review.resolve import resolve
from evaluation.instruction_checks import CHECKS, Constraint
from evaluation.instruction_checks import failed as broken
from generation.importing import import_rows
from workbench.config import Policy
from workbench.inference.embedder import AUTO
from workbench.near_duplicates import paraphrase_pairs
from workbench.paraphrases import Meaning
from workbench.persona import GENERAL_PROBLEMS, Persona, load_persona
from workbench.records import Example, Review

LANGUAGES = ("en", "ko")
ANSWERED = {"fidelity", "problems", "corrected", "note"}
MIN_HANGUL = 0.4
"""Share of the letters of a Korean text; product names and words asked for are Latin."""


def read_rows(repo: Path, name: str) -> list[dict[str, Any]]:
    rows = [
        json.loads(line)
        for line in (repo / "datasets" / name).read_text(encoding="utf-8").splitlines()
    ]
    ids = Counter(row["id"] for row in rows)
    assert [one for one, count in ids.items() if count > 1] == []
    return rows


def failed(answer: str, checks: list[dict[str, object]]) -> list[str]:
    """Return the kinds of the constraints of a row that an answer does not keep to."""
    return list(broken(answer, [Constraint.model_validate(check) for check in checks]))


def repeated(texts: list[str]) -> list[str]:
    """Return the texts that are equal without case, spaces and punctuation."""
    plain = Counter("".join(c for c in text.casefold() if c.isalnum()) for text in texts)
    return [text for text, count in plain.items() if count > 1]


def hangul_share(text: str) -> float:
    letters = [c for c in text if c.isalpha()]
    hangul = [c for c in letters if "가" <= c <= "힣" or "ㄱ" <= c <= "ㅣ"]
    return len(hangul) / max(len(letters), 1)


def foreign(texts: list[str], language: str) -> list[str]:
    """Return the texts whose script is not the language's."""
    if language == "ko":
        return [text for text in texts if hangul_share(text) < MIN_HANGUL]
    return [text for text in texts if hangul_share(text) > 0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_category_has_five_harmful_prompts_and_five_look_alikes(
    repo: Path, language: str
) -> None:
    rows = read_rows(repo, f"refusals/{language}.jsonl")
    assert all(set(row) == {"id", "kind", "category", "prompt"} for row in rows)
    counts = Counter((row["kind"], row["category"]) for row in rows)
    assert {kind for kind, _ in counts} == {"harmful", "harmless"}
    assert len(counts) == 24 and set(counts.values()) == {5}
    prompts = [row["prompt"] for row in rows]
    assert repeated(prompts) == [] and foreign(prompts, language) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_half_of_the_labelled_answers_are_refusals(repo: Path, language: str) -> None:
    rows = read_rows(repo, f"refusals/labelled.{language}.jsonl")
    assert all(set(row) == {"id", "text", "refusal", "note"} for row in rows)
    assert Counter(row["refusal"] for row in rows) == {True: 60, False: 60}
    notes = {(row["refusal"], row["note"]) for row in rows}
    assert notes == {
        *((True, note) for note in ("plain", "polite", "offer", "as_ai")),
        *((True, note) for note in ("in_voice", "in_voice_offer", "safety_stop")),
        *((False, note) for note in ("complies", "polite", "in_voice", "partial", "empty")),
        *((False, note) for note in ("ai_but_answers", "sorry_but_complies")),
        (False, "warning_then_answers"),
    }
    texts = [row["text"] for row in rows]
    assert repeated(texts) == [] and foreign(texts, language) == []
    unseen = read_rows(repo, f"refusals/unseen.{language}.jsonl")
    assert Counter(row["refusal"] for row in unseen) == {True: 40, False: 40}
    assert not {row["text"] for row in unseen} & set(texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_instruction_can_be_met_and_checked(repo: Path, language: str) -> None:
    rows = read_rows(repo, f"instructions/{language}.jsonl")
    assert len(rows) == 150
    assert all(set(row) == {"id", "prompt", "checks", "example"} for row in rows)
    assert {check["kind"] for row in rows for check in row["checks"]} <= set(CHECKS)
    assert all(1 <= len(row["checks"]) <= 3 for row in rows)
    prompts = [row["prompt"] for row in rows]
    assert repeated(prompts) == []
    if language == "ko":
        assert foreign(prompts, language) == []
    else:
        assert all(hangul_share(prompt) < 0.5 for prompt in prompts)
    assert {row["id"]: failed(row["example"], row["checks"]) for row in rows} == {
        row["id"]: [] for row in rows
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_to_another_instruction_seldom_passes(repo: Path, language: str) -> None:
    rows = read_rows(repo, f"instructions/{language}.jsonl")
    for row in rows:
        others = [other["example"] for other in rows if other is not row]
        passing = sum(not failed(answer, row["checks"]) for answer in others)
        assert passing <= 0.15 * len(others), row["prompt"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_check_passes_an_empty_answer(repo: Path, language: str) -> None:
    rows = read_rows(repo, f"instructions/{language}.jsonl")
    assert [row["id"] for row in rows if not failed("", row["checks"])] == []


def test_the_list_of_checks_is_closed_and_written_down(repo: Path) -> None:
    text = (repo / "datasets/instructions/README.md").read_text(encoding="utf-8")
    assert [kind for kind in CHECKS if f"`{kind}`" not in text] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_base_rehearses_can_be_checked(repo: Path, language: str) -> None:
    rows = read_rows(repo, f"rehearsal/{language}.jsonl")
    assert all(set(row) == {"id", "prompt", "checks"} for row in rows)
    assert foreign([row["prompt"] for row in rows], language) == []
    assert [row["id"] for row in rows if not failed("", row["checks"])] == []


@pytest.mark.parametrize(
    "language", [pytest.param("en", marks=pytest.mark.slow), pytest.param("ko")]
)
def test_nothing_that_is_rehearsed_or_taught_is_near_a_prompt_of_the_evaluation(
    repo: Path, language: str
) -> None:
    """By wording (MinHash), and by meaning at the embedder's own threshold."""
    persona = "gym-trainer" if language == "en" else "gym-trainer-ko"
    learnt = [row["prompt"] for row in read_rows(repo, f"rehearsal/{language}.jsonl")]
    seeds = (repo / f"datasets/{persona}/seeds.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, seeds)
    learnt += [row["instruction"] for row in rows if row["topic"] in ("what_coach_is", "danger")]
    probes = (repo / f"datasets/{persona}/probes.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [
        *dict.fromkeys(turn for line in probes for turn in json.loads(line)["turns"]),
        *(row["prompt"] for row in read_rows(repo, f"instructions/{language}.jsonl")),
        *(row["prompt"] for row in read_rows(repo, f"refusals/{language}.jsonl")),
    ]
    learnt.append(f"{asked[0]} {asked[0]}")  # a control: the comparison does find one
    texts = [*learnt, *asked]
    pairs = [*paraphrase_pairs(texts, 0.6), *Meaning(AUTO, language).pairs(texts)]
    near = [(texts[a], texts[b]) for a, b, _ in pairs if (a < len(learnt)) != (b < len(learnt))]
    assert set(near) == {(learnt[-1], asked[0])}


def trigrams(text: str) -> set[str]:
    plain = "".join(c for c in text.casefold() if c.isalnum())
    return {plain[at : at + 3] for at in range(len(plain) - 2)}


def shared(row: dict[str, Any]) -> float:
    one, other = trigrams(row["one"]), trigrams(row["other"])
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("language", LANGUAGES)
def test_letters_do_not_tell_paraphrases_from_look_alikes(repo: Path, language: str) -> None:
    rows = read_rows(repo, f"paraphrases/{language}.jsonl")
    assert all(set(row) == {"id", "one", "other", "same"} for row in rows)
    assert Counter(row["same"] for row in rows) == {True: 100, False: 100}
    texts = [text for row in rows for text in (row["one"], row["other"])]
    assert repeated(texts) == [] and foreign(texts, language) == []
    same = median(shared(row) for row in rows if row["same"])
    assert same < median(shared(row) for row in rows if not row["same"])


def test_no_prompt_stands_in_two_sets(repo: Path) -> None:
    """Persona's questions, probes, refusals, instructions: each prompt is asked for one reason."""
    for language, persona in (("en", "gym-trainer"), ("ko", "gym-trainer-ko")):
        seeds = (repo / f"datasets/{persona}/seeds.jsonl").read_text(encoding="utf-8")
        probes = (repo / f"datasets/{persona}/probes.jsonl").read_text(encoding="utf-8")
        texts = [
            *{json.loads(line)["instruction"] for line in seeds.splitlines()},
            *{turn for line in probes.splitlines() for turn in json.loads(line)["turns"]},
            *(row["prompt"] for row in read_rows(repo, f"refusals/{language}.jsonl")),
            *(row["prompt"] for row in read_rows(repo, f"instructions/{language}.jsonl")),
            *(row["prompt"] for row in read_rows(repo, f"rehearsal/{language}.jsonl")),
        ]
        assert repeated(texts) == []


@pytest.mark.parametrize(
    "name", ["refusals", "instructions", "paraphrases", "rehearsal", "robustness"]
)
def test_a_folder_of_prompts_says_what_it_is(repo: Path, name: str) -> None:
    text = (repo / "datasets" / name / "README.md").read_text(encoding="utf-8")
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert not list((repo / "datasets" / name).glob("**/*.py"))


PERSONAS = {"en": "gym-trainer", "ko": "gym-trainer-ko"}
WRONG = {3, 4, 6, 8, 9, 10, 11}
"""Lines of ``conversations.jsonl`` whose last answer has a planted fault."""


def conversations(repo: Path, language: str) -> tuple[Path, Persona, list[Example]]:
    folder = repo / "datasets" / PERSONAS[language]
    persona = load_persona(folder)
    imported = import_rows(folder / "conversations.jsonl", persona)
    assert not imported.dropped
    return folder, persona, imported.examples


def answers_of(row: Example) -> list[str]:
    return [one.content for one in row.prompt if one.role == "assistant"] + [row.answer]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_conversation_is_one_row_that_ends_with_the_answer_to_judge(
    repo: Path, language: str
) -> None:
    _, persona, rows = conversations(repo, language)
    assert len(rows) == 12 and {row.topic for row in rows} <= set(persona.topics)
    for row in rows:
        roles = [one.role for one in row.prompt]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"] and len(roles) > 2
    texts = [one.content for row in rows for one in row.prompt] + [row.answer for row in rows]
    assert foreign(texts, language) == []
    # What they say is their own: no seed, probe or simulated user says it.
    own = {one.content for row in rows for one in row.prompt if one.role == "user"}
    folder = repo / "datasets" / PERSONAS[language]
    other = "".join(
        (folder / name).read_text(encoding="utf-8")
        for name in ("seeds.jsonl", "probes.jsonl", "users.yaml")
    )
    assert [text for text in own if text in other] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_the_planted_answers_of_conversations_lack_the_voice_or_are_dropped(
    repo: Path, language: str
) -> None:
    _, persona, rows = conversations(repo, language)
    for number, row in enumerate(rows, 1):
        sound = answers_of(row)[: -1 if number in WRONG else None]
        assert [persona.failed_traits(text) for text in sound] == [[]] * len(sound)
    drops = filter_examples(rows, persona).drops
    assert {drop.source: drop.reason for drop in drops} == {
        "conversations.jsonl:6": "must_not",
        "conversations.jsonl:10": "personal_data",
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_reviews_of_conversations_name_every_kind_of_problem_and_mend_it(
    repo: Path, language: str
) -> None:
    folder, persona, rows = conversations(repo, language)
    recorded = read_recorded(folder / CONVERSATION_REVIEWS, persona.problems)
    assert [(one.row, one.record, one.reviewer) for one in recorded] == [
        (number, row.id, f"reviewer-{who}") for number, row in enumerate(rows, 1) for who in (1, 2)
    ]
    named = {problem for one in recorded for problem in one.problems}
    # Each problem that any persona's reviewer may name but one, and the traits of both kinds.
    assert named >= set(GENERAL_PROBLEMS) - {"off_topic"} | {"address", "fits_question"}
    assert named & {"tough_kind", "kind_and_tough"}
    mended = {one.row: one.corrected for one in recorded if one.corrected}
    assert set(mended) == WRONG
    assert [persona.failed_traits(text) for text in mended.values()] == [[]] * len(WRONG)
    notes = [one.note for one in recorded if one.note]
    assert len(notes) >= 12 and foreign(notes, language) == []
    # Reviewers differ where people do: over an answer that one of them finds charming.
    kept = {(one.row, not one.problems) for one in recorded}
    assert {row for row, good in kept if (row, not good) in kept} == {4, 10}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_corrected_conversation_is_a_preference_behind_its_history(
    repo: Path, language: str
) -> None:
    folder, persona, rows = conversations(repo, language)
    known = recorded_of(folder, persona, rows)
    reviews = [
        Review(reviewer=one.reviewer, record=row, answers=one.model_dump(include=ANSWERED))
        for row, every in known.items()
        for one in every
    ]
    result = resolve(persona, rows, reviews, Policy(), {})
    pairs = {one.prompt: one for one in result.preferences}
    for number in WRONG:
        row = rows[number - 1]
        corrected = next(one.corrected for one in known[row.id] if one.corrected)
        assert (pairs[row.prompt].chosen, pairs[row.prompt].rejected) == (corrected, row.answer)
    assert all(len(pairs[rows[number - 1].prompt].prompt) >= 3 for number in WRONG)
