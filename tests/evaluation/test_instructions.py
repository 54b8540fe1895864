"""Following instructions: who does as it is told, how many prompts tell it, and what is a fall."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from evaluation.gate import check_forgetting
from evaluation.instruction_checks import CHECKS, Constraint
from evaluation.instructions import (
    Instructions,
    InstructionScore,
    follow_instructions,
    instruction_fall,
    load_instructions,
)
from tests.evaluation.test_gate import followed, general
from workbench.config import GateBounds
from workbench.errors import UserErrors
from workbench.records import Response

LANGUAGES = ("en", "ko")
CANNED = {"en": "Champ, put it down and rest today! 💪", "ko": "자기야, 오늘은 쉬자! 💪"}


def answered(
    instructions: Instructions, texts: list[str], arm: str = "sft"
) -> dict[str, InstructionScore]:
    responses = [
        Response(arm=arm, prompt_id=one.id, prompt=one.prompt, text=text)
        for one, text in zip(instructions.examples, texts, strict=True)
    ]
    return follow_instructions(instructions, responses)[arm]


def reference(instructions: Instructions) -> dict[str, InstructionScore]:
    return answered(instructions, [one.answer for one in instructions.examples])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sample_holds_every_kind_before_two_of_one(repo: Path, language: str) -> None:
    folder = repo / "datasets" / "instructions"
    every = load_instructions(folder, language)
    kinds = Counter(one.topic for one in every.examples)
    assert len(every.examples) == 150 == len(every.checks)
    sample = Counter(one.topic for one in load_instructions(folder, language, 60).examples)
    assert sample.keys() == kinds.keys() and sample.total() == 60
    assert all(count == min(kinds[kind], count) and count <= 2 for kind, count in sample.items())


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("most", [60, None])
def test_noise_canned_voice_silence_and_another_prompts_answer_fail_the_gate(
    repo: Path, language: str, most: int | None
) -> None:
    """A base that meets 3 of 5 prompts, and what is left of it: each fall is beyond the bound."""
    rng = random.Random(0)
    some = load_instructions(repo / "datasets" / "instructions", language, most)
    texts = [one.answer for one in some.examples]
    words = [word for text in texts for word in text.split()]
    noise = [" ".join(rng.choices(words, k=len(text.split()))) for text in texts]
    base = [
        own if n % 5 < 3 else other for n, (own, other) in enumerate(zip(texts, noise, strict=True))
    ]
    damaged = {
        "noise": noise,
        "voice": [CANNED[language]] * len(texts),
        "silence": [""] * len(texts),
        "others": [*texts[1:], texts[0]],
    }
    scores = {arm: answered(some, own) for arm, own in {"base": base, **damaged}.items()}
    gate = check_forgetting(dict.fromkeys(scores, general(3.0)), scores, GateBounds())
    assert {arm.arm for arm in gate.arms if not arm.passed} == set(damaged)
    assert scores["silence"] and all(one.share == 0 for one in scores["silence"].values())


def test_an_arm_against_itself_falls_by_nothing_and_says_what_could_be_told() -> None:
    fall = instruction_fall(followed(40, 60), followed(40, 60), 0.0, seed=0)
    assert fall is not None
    assert (fall.difference.mean, fall.failed, fall.blind) == (0.0, False, False)
    # Six prompts lost of sixty are the least that chance does not explain.
    assert fall.detectable == pytest.approx(0.1) == fall.bound


@pytest.mark.parametrize("wanted", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("prompts", [20, 60, 150])
def test_the_bound_is_never_below_what_so_many_prompts_tell(wanted: float, prompts: int) -> None:
    rng = random.Random(prompts)
    base, tuned = followed(prompts // 2, prompts), followed(prompts // 2, prompts)
    for name in rng.sample(sorted(tuned), prompts // 5):
        tuned[name] = tuned[name].model_copy(update={"share": 1 - tuned[name].share})
    fall = instruction_fall(tuned, base, wanted, seed=0)
    assert fall is not None
    assert fall.bound >= max(wanted, fall.detectable) and fall.detectable > 0


def test_more_prompts_tell_a_smaller_fall_and_a_planted_one_is_found() -> None:
    """Half of what the base keeps is lost, and some is gained by chance."""

    def fall(prompts: int, lost: float) -> tuple[float, bool]:
        rng = random.Random(1)
        base = {name: rng.random() < 0.6 for name in followed(0, prompts)}
        tuned = {
            name: (kept and rng.random() >= lost) or rng.random() < 0.05
            for name, kept in base.items()
        }
        one, other = (
            {name: InstructionScore(prompt=name, share=float(kept)) for name, kept in own.items()}
            for own in (tuned, base)
        )
        found = instruction_fall(one, other, 0.1, seed=0)
        assert found is not None
        return found.detectable, found.failed

    few, some, many = (fall(prompts, 0.5) for prompts in (20, 60, 150))
    assert few[0] > some[0] > many[0] and many[0] < 0.15
    assert some[1] and many[1]
    assert not fall(150, 0.02)[1]


def test_where_the_base_keeps_next_to_nothing_no_fall_can_be_told() -> None:
    fall = instruction_fall(followed(0, 60), followed(3, 60), 0.1, seed=0)
    assert fall is not None and fall.blind and not fall.failed
    fall = instruction_fall(followed(0, 60), followed(30, 60), 0.1, seed=0)
    assert fall is not None and fall.failed and not fall.blind


def test_what_two_rounds_did_not_both_ask_is_left_out() -> None:
    fall = instruction_fall(followed(10, 20), followed(10, 60), 0.1, seed=0)
    assert fall is not None and fall.difference.pairs == 20
    assert instruction_fall(followed(10), {}, 0.1, seed=0) is None


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"kind": "exact_word", "count": 2}, "there is no kind 'exact_word'"),
        ({"kind": "exact_words"}, "'exact_words' takes count"),
        ({"kind": "no_commas", "count": 2}, "'no_commas' takes no parameter"),
        ({"kind": "exact_words", "count": -1}, "greater than or equal to 0"),
        ({"kind": "exact_words", "number": 1}, "Extra inputs"),
    ],
)
def test_a_mistaken_constraint_is_said_with_its_line(
    check: dict[str, object], message: str, tmp_path: Path
) -> None:
    good = {"id": "a", "prompt": "One word.", "checks": [{"kind": "no_commas"}], "example": "One"}
    rows = [good, {**good, "id": "b", "checks": [check]}]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "en.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserErrors, match=rf"en.jsonl:2.*{message}"):
        load_instructions(tmp_path, "en")


@pytest.mark.parametrize("kind", CHECKS)
def test_no_kind_is_kept_by_silence(kind: str) -> None:
    examples: dict[str, object] = {
        **dict.fromkeys(("count", "min", "max", "parts", "columns", "rows"), 1),
        **dict.fromkeys(("text", "word", "letter", "open", "close"), "a"),
        **dict.fromkeys(("texts", "phrases", "words", "letters", "keys", "choices"), ("a",)),
        "language": "en",
    }
    own = {name: examples[name] for name in CHECKS[kind].parameters}
    assert not Constraint.model_validate({"kind": kind, **own}).passes(" \n")
