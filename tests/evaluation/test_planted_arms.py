"""No arm that nobody would ship is called a success: not by verdict, gate, next step or card.

Scores, comparison and verdict are the product's own, over the 36 held-out questions a language.
Losses under the embedded base are recorded (``make bench-scorers`` makes them anew); a text of
which none is recorded counts as fluent, which is the harder case.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import pytest

from evaluation.outcome import SenseReport, control_scores, outcome_of, sense_report
from evaluation.report import build_reports
from evaluation.report.inputs import ReportInput
from evaluation.report.page import summary
from evaluation.report.verdict import verdict
from evaluation.report.wording import Wording
from evaluation.scorers import ScoringInput, score_responses
from evaluation.sense import SenseInput, measure_sense
from tests.planted_arms import (
    FORM,
    GOOD,
    LABELS,
    PERSONAS,
    UNSEEN,
    arms,
    base_answers,
    labels,
    loss_key,
    planted,
    second_labels,
)
from tests.present import present
from workbench.commands import RoundOptions
from workbench.config import GateBounds
from workbench.inference.embedder import make_embedder
from workbench.language.ko.checks import loss as morpheme_loss
from workbench.persona import Language, Persona
from workbench.records import Response, Score
from workbench.stats import compare

BAD = tuple(name for name in arms("ko") if name not in (*GOOD, *UNSEEN))
SUCCESS = {"en": "and makes sense", "ko": "질문에 맞게 답합니다"}


def _cases(*seeds: int) -> list[Any]:
    # The English ones load a model of meaning.
    return [
        pytest.param((language, seed), marks=[pytest.mark.slow] if language == "en" else [])
        for language in PERSONAS
        for seed in seeds
    ]


every_arm = pytest.mark.parametrize("case", _cases(0), indirect=True, ids=list(PERSONAS))
"""What concerns arms that are no one's draw is tried with one seed."""


class Case(NamedTuple):
    """One language's arms of one seed, each evaluated beside the base."""

    language: Language
    reports: dict[str, ReportInput]


@pytest.fixture(scope="module", params=_cases(0, 1, 2), ids=lambda case: "-".join(map(str, case)))
def case(request: pytest.FixtureRequest) -> Case:
    """Evaluate a language's arms once for all tests of them: pytest asks these together.

    Of further seeds those that are drawn by them, and the reviewed answers.
    """
    language, seed = request.param
    return Case(language, evaluated(language, seed))


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """Forget what was evaluated once the module is through."""
    yield
    evaluated.cache_clear()


@lru_cache(maxsize=1)
def recorded() -> dict[str, float]:
    losses: dict[str, float] = json.loads((LABELS / "losses.json").read_text("utf-8"))
    return losses


def losses_of(language: Language, texts: Sequence[str]) -> list[float]:
    if language == "ko":
        return [morpheme_loss(text) for text in texts]
    return [recorded().get(loss_key(text), 0.0) for text in texts]


@lru_cache(maxsize=2)
def sense_input(language: Language) -> SenseInput:
    rows = planted(language)
    corpus = [row.answer for row in (*rows.train, *rows.test)]
    return SenseInput(
        language,
        rows.test,
        [row.answer for row in rows.train],
        make_embedder("auto", language, corpus),
        partial(losses_of, language),
        "recorded",
        rows.persona,
    )


@lru_cache(maxsize=3)
def evaluated(language: Language, seed: int) -> dict[str, ReportInput]:
    """Return arm → the report's input of an evaluation of it beside the base."""
    rows, inputs = planted(language), sense_input(language)
    texts = {"base": base_answers(language), **arms(language, seed)}
    if language == "en":  # told by their form, which needs no meaning: the Korean ones show it
        texts = {name: own for name, own in texts.items() if name not in FORM}
    if seed:
        first = arms(language)
        texts = {
            name: own
            for name, own in texts.items()
            if name in ("base", "reviewed") or own != first[name]
        }
    every = {arm: rows.responses(arm, own) for arm, own in texts.items()}
    responses = [one for own in every.values() for one in own]
    measures = measure_sense(responses, inputs)
    # What an arm's answers get depends on no other arm, nor do the controls: scored once for all.
    references = {row.id: row.answer for row in inputs.rows}
    scores = score_responses(
        ScoringInput(rows.persona, responses, references=references, sense=measures)
    )
    by_arm = {arm: [score for score in scores if score.arm == arm] for arm in every}
    controls = control_scores(rows.persona, inputs, seed)
    return {
        arm: _report(
            rows.persona,
            [*every["base"], *own],
            [*by_arm["base"], *by_arm[arm]],
            partial(sense_report, measures=measures, inputs=inputs, controls=controls),
            seed,
        )
        for arm, own in every.items()
        if arm != "base"
    }


def _report(
    persona: Persona,
    responses: list[Response],
    scores: list[Score],
    sense: Callable[..., SenseReport],
    seed: int,
) -> ReportInput:
    comparison = compare(scores, "base", seed, responses=responses, resamples=2000)
    return ReportInput(
        round="round-001",
        at=RoundOptions(Path("datasets/coach")),
        persona=persona,
        comparison=comparison,
        responses=responses,
        scores=scores,
        sense=sense(persona, comparison, responses, scores),
    )


def calls_success(report: ReportInput, language: Language) -> set[str]:
    """Return which of the outcome, the verdict and the numbers call the arm a success.

    Page, Markdown and card take their words from the same verdict.
    """
    arm, numbers = report.comparison.arms[-1], summary(report)
    says = set()
    if outcome_of(report.comparison, report.sense, arm) == "success":
        says.add("outcome")
    if numbers["outcome"] == "success":
        says.add("numbers")
    if SUCCESS[language] in " ".join(verdict(report, Wording(report.persona))):
        says.add("verdict")
    return says


def test_no_arm_that_nobody_would_ship_is_called_a_success(case: Case) -> None:
    language, reports = case
    calling = {name: calls_success(reports[name], language) for name in BAD if name in reports}
    assert len(calling) >= 8
    assert {name: by for name, by in calling.items() if by} == {}


@every_arm
def test_good_answers_are_called_one_everywhere(case: Case) -> None:
    language, reports = case
    for name in GOOD:
        if name not in reports:
            continue
        report = reports[name]
        assert calls_success(report, language) == {"outcome", "numbers", "verdict"}, name
        assert present(report.sense).failures(report.comparison, GateBounds()) == []


def test_page_and_card_say_what_the_verdict_says() -> None:
    for name, calls in (("reviewed", True), ("one_sentence", False)):
        forms = build_reports(evaluated("ko", 0)[name])
        assert {SUCCESS["ko"] in text for text in forms.values()} == {calls}


@every_arm
def test_what_cannot_be_seen_is_written_down(case: Case) -> None:
    """Well-worded wrong facts pass: only a judge, people or a bound of numbers finds them."""
    language, reports = case
    assert {name for name in UNSEEN if calls_success(reports[name], language)} == set(UNSEEN)


@every_arm
def test_arms_of_one_voice_are_told_apart_by_what_they_say(case: Case) -> None:
    """Fidelity alone gives some of them all that reviewed answers get."""
    for name in ("one_sentence", "another_question", "refusal", "spliced"):
        report = case.reports[name]
        own = present(present(report.sense).arm(name))
        assert present(own.voice.mean) > 0.9
        assert present(own.sense.high) < 0.1
        assert outcome_of(report.comparison, report.sense, name) == "marks"


def test_controls_stand_beside_the_arms(case: Case) -> None:
    controls = present(case.reports["reviewed"].sense).controls
    assert list(controls) == ["echo", "wrong_question", "random_order"]
    assert controls["wrong_question"].voice > 0.9
    assert all(abs(one.sense) < 0.1 for one in controls.values())


def test_silence_has_no_voice_and_is_not_safe() -> None:
    report = evaluated("ko", 0)["silence"]
    own = present(present(report.sense).arm("silence"))
    assert (own.voice.mean, own.guards) == (0.0, {"empty": 36})
    safe = [one for one in report.scores if one.metric == "safe" and one.arm == "silence"]
    assert {one.unscored for one in safe} == {"empty_answer"}


def test_two_readers_agree_on_what_is_usable_and_harmful() -> None:
    from sklearn.metrics import cohen_kappa_score

    for name, least in (("usable", 0.8), ("harmful", 0.8), ("sound", 0.8)):
        first, second = ([row[name] for row in rows] for rows in (labels(), second_labels()))
        weights = "linear" if name == "sound" else None
        assert cohen_kappa_score(first, second, weights=weights) > least, name
    assert [row["answer"] for row in labels()] == [row["answer"] for row in second_labels()]


@pytest.mark.slow
def test_sense_orders_answers_as_the_readers_labels_do() -> None:
    """The labels were written before any score was looked at; see their README."""
    from scipy.stats import spearmanr

    rows = planted("en")
    prompts = {row.question: row for row in rows.test}
    answers = [
        (
            label,
            Response(
                arm=label["arm"],
                prompt_id=prompts[label["question"]].id,
                prompt=prompts[label["question"]].prompt,
                text=label["answer"],
            ),
        )
        for label in labels()
    ]
    measures = measure_sense([response for _, response in answers], sense_input("en"))
    senses = [measures[response.id].sense for _, response in answers]
    sound = [label["sound"] for label, _ in answers]
    assert spearmanr(senses, sound).statistic > 0.65
    again = [label["sound"] for label in second_labels()]
    assert spearmanr(senses, again).statistic > 0.65
    means = {
        arm: mean(s for s, (_, r) in zip(senses, answers, strict=True) if r.arm == arm)
        for arm in ("base", "sft", "sft+dpo", "reviewed")
    }
    # Six, six, five and all thirty-six of the answers are usable.
    assert max(means["base"], means["sft"], means["sft+dpo"]) < 0.2 < means["reviewed"]
