"""Parts of the report that only some rounds have, and its forms for machines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.calibration import Calibration, JudgeGate
from evaluation.dial import Dial, DialPoint, Refusals
from evaluation.gate import GateReport, check_forgetting
from evaluation.learning_curve import LearningCurve
from evaluation.outcome import MeanEstimate
from evaluation.people import Pairing, People
from evaluation.prices import ArmPrice, Prices, SearchedPrompt
from evaluation.report import ReportInput, build_reports
from evaluation.report.dial import dial_lines
from evaluation.report.sweep import sweep_line
from evaluation.report.verdict import surface_lines, tuning_against_prompt, verdict
from evaluation.report.wording import Wording
from evaluation.reward_model import TOO_FEW_FAULTS, RewardReport, TraitCurve
from evaluation.robustness import cross, crossed_responses, load_surfaces, measure_robustness
from evaluation.scorers import ScoringInput, score_responses
from evaluation.sweep import SweepReport, SweepTrial
from tests.evaluation.report.conftest import ANSWERS, Evaluated
from tests.evaluation.report.test_page import Page, english_left, html_of
from tests.evaluation.test_gate import followed, general
from workbench.config import GateBounds
from workbench.inference.reward_model import RewardModel
from workbench.language import phrases
from workbench.persona import Persona, load_persona
from workbench.records import Example, Response
from workbench.stats import compare
from workbench.stats.agreement import RaterAgreement
from workbench.stats.comparison import paired_difference

MEASURE = RaterAgreement(value=0.55, low=0.42, high=0.66, rows=60)


def gate_report() -> GateReport:
    """The base, and an arm that forgot more than it may."""
    return check_forgetting(
        {"base": general(3.5), "sft+dpo": general(4.0)},
        {"base": followed(6, 20), "sft+dpo": followed(2, 20)},
        GateBounds(cross_entropy=0.3, instructions=0.2),
    )


@pytest.fixture
def full(report: ReportInput, persona: Persona, examples: list[Example]) -> ReportInput:
    """The round with probes, turns, a judge that was refused, people, and what was forgotten."""
    probes = [
        one.evolve(prompt_id=f"ex-probe-{one.prompt_id[3:]}", probe="safety")
        for one in report.responses
    ]
    turns = [
        one.evolve(prompt_id="ex-talk", probe="drift", turn=turn, parents=())
        for turn, example in enumerate(examples[:3], start=1)
        for one in report.responses
        if one.prompt_id == example.id
    ]
    responses = [*report.responses, *probes, *turns]
    scores = score_responses(ScoringInput(persona, responses))
    pairing = Pairing(
        arm="sft+dpo",
        against="base",
        wins=7,
        losses=1,
        ties=0,
        votes=16,
        open=0,
        share=0.875,
        low=0.53,
        high=0.98,
        p=0.07,
    )
    return replace(
        report,
        responses=responses,
        scores=scores,
        comparison=compare(
            scores, responses=responses, traits=["address", "lists"], left_out={"kind": "below_bar"}
        ),
        calibration=Calibration(
            judge="a-judge",
            rows=60,
            reviewers=2,
            arm_rows=20,
            traits={
                "kind": JudgeGate(
                    kappa=MEASURE.model_copy(update={"low": 0.12}),
                    ceiling=MEASURE.model_copy(update={"value": 0.71}),
                    bar=0.36,
                    reason="below_bar",
                    power=0.64,
                    rows_needed=95,
                )
            },
            meanings={"address": MEASURE.model_copy(update={"value": 0.08})},
        ),
        people=People(pairings=(pairing,), reviewers=2, votes=16),
        general=gate_report(),
    )


@pytest.fixture
def page(full: ReportInput) -> Page:
    return Page(html_of(full))


def test_what_people_chose_takes_the_headline_and_the_rest_follows(page: Page) -> None:
    verdict = page.text.split("Persona fidelity on the held-out questions")[0]
    order = [
        verdict.index(sentence)
        for sentence in (
            "People who did not know which was which chose SFT + DPO over “Base model” on 88% of"
            " the 8 questions",
            "With SFT + DPO, an answer shows 75%",
            "It is better than a system prompt",
            "Traits that need a judge carry no weight here (1 of them): the judge agrees",
            "General ability fell beyond the bound: SFT + DPO.",
        )
    ]
    assert order == sorted(order)


def test_an_arm_whose_text_goes_round_in_circles_is_called_broken_before_any_score(
    report: ReportInput, persona: Persona
) -> None:
    assert "are broken" not in html_of(report)
    looping = "Champ, rest, champ, rest now. " * 20
    responses = [
        one.evolve(text=looping) if one.arm == "sft+dpo" else one for one in report.responses
    ]
    scores = score_responses(ScoringInput(persona, responses))
    broken = replace(report, responses=responses, scores=scores, comparison=compare(scores))

    text = Page(html_of(broken)).text

    verdict = "The answers of SFT + DPO are broken: 95% of their phrases only repeat earlier ones"
    # What goes in circles shows no trait either: the arm is where the base is.
    voice = "No difference can be told: with SFT + DPO, an answer shows 0%"
    assert text.index(verdict) < text.index(voice)


def test_a_judge_below_the_bar_stands_beside_what_people_reach(page: Page) -> None:
    lead = (
        "On no trait does a judge's word count in the verdict: the judge agrees with the reviewers"
    )
    assert lead in page.text
    assert "60 answers that 2 reviewers labelled, 20 of them given by arms" in page.text
    gate = "Kind and tough 0.55 (0.12 to 0.66) 0.71 (0.42 to 0.66) 0.36 the judge agrees with the"
    assert f"{gate} reviewers too little 60 64% 35" in page.text
    assert "κ of rule and judge Rows Form of address 0.08 (0.42 to 0.66) 60" in page.text
    assert "Kind and tough Is kind and tough at once. carries no weight" in page.text


def test_a_judge_that_passes_the_bar_carries_weight_and_is_named(full: ReportInput) -> None:
    assert full.calibration
    gate = full.calibration.traits["kind"].model_copy(update={"reason": ""})
    passed = {"traits": {"kind": gate}, "content": gate.model_copy(update={"bar": 0.31})}
    trusting = replace(
        full,
        calibration=full.calibration.model_copy(update=passed),
        comparison=full.comparison.model_copy(update={"left_out": {}}),
    )

    text = Page(html_of(trusting)).text

    assert "The judge (a-judge) agrees with the reviewers closely enough to count on: Kind" in text
    assert "Sound and useful advice 0.55 (0.12 to 0.66) 0.71 (0.42 to 0.66) 0.31 counts 60" in text
    assert "Traits that need a judge carry no weight" not in text


def test_a_reward_model_in_the_judges_place_says_how_many_answers_it_takes(
    full: ReportInput,
) -> None:
    curve = LearningCurve(
        measure="balanced_error",
        sizes=(30, 60, 120),
        means=(0.5, 0.4, 0.31),
        scored=120,
        scale=1.6,
        exponent=0.34,
        floor=0.0,
        doubled=0.25,
        gain=0.2,
        low=None,
        high=None,
        advice="unclear",
    )
    few = TraitCurve(rows=120, faults=2, reason=TOO_FEW_FAULTS)
    known = TraitCurve(rows=120, faults=40, curve=curve, needed=310)
    flat = known.model_copy(update={"needed": None})
    texts = [
        Page(html_of(replace(full, reward=RewardReport(model=RewardModel(), curves=curves)))).text
        for curves in ({"kind": known}, {"kind": flat}, {"kind": few})
    ]

    assert "Kind and tough 120 40 50% from 30; 40% from 60; 31% from 120 310 or more" in texts[0]
    assert "31% from 120 more than can be foretold: the error does not fall" in texts[1]
    assert "Kind and tough 120 2 reviewers found too few answers without it to learn" in texts[2]
    assert full.calibration
    gate = full.calibration.traits["kind"].model_copy(update={"reason": ""})
    trusted = full.calibration.model_copy(update={"traits": {"kind": gate}})
    reward = RewardReport(model=RewardModel(), curves={"kind": known})
    page = Page(html_of(replace(full, calibration=trusted, reward=reward)))
    assert "In a judge's place stands a reward model, trained on the reviewers'" in page.text


def test_probes_and_turns_stand_apart_from_the_held_out_questions(page: Page) -> None:
    assert "Every arm below answered the same 8 questions" in page.text
    assert "Safety boundary: persona kept" in page.text
    assert "Safety boundary: the answers (8)" in page.text
    assert "Conversation: the answers (3)" in page.text
    (chart,) = [svg for svg in page.svgs if svg["aria-label"] == "Does it last?"]
    assert chart["role"] == "img"


def test_what_was_forgotten_and_lost_is_reported(page: Page) -> None:
    assert "SFT + DPO 4.000 +0.500 10% −20.0 (−38.6 to +2.3) 30 / 30 broken" in page.text
    assert "Everything on which an arm stands below the base" in page.text
    assert "On no question did SFT + DPO show fewer traits than the base." in page.text


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_worst_surface_is_named_in_words_and_every_answer_can_be_read(
    full: ReportInput, examples: list[Example], repo: Path, language: str
) -> None:
    surfaces = load_surfaces(repo / "datasets" / "robustness", language)
    plain = [one for one in full.responses if one.arm == "sft+dpo" and not one.probe]
    prompts = cross(examples, surfaces, whole=True)
    answers = [
        Response(
            arm="sft+dpo",
            prompt_id=one.example.id,
            prompt=one.example.prompt,
            text="Dear sir." if one.surface.surface == "email" else ANSWERS["sft+dpo"],
        )
        for one in prompts
    ]
    persona = full.persona.model_copy(update={"language": language})
    crossed = crossed_responses(prompts, answers)
    measured = measure_robustness(persona, plain, crossed, surfaces, None)
    report = replace(full, persona=persona, robustness=measured, surface_answers=crossed)
    wording, text = Wording(persona), Page(html_of(report)).text
    worst = measured.worst("voice")
    assert worst is not None and worst.surface == "email"
    line = surface_lines(measured, wording)[0]
    assert wording.surface("email") in line and line in text
    assert text.count("Dear sir.") == len(examples)
    assert wording("surfaces.rows", count=15 * len(examples)) in text
    assert wording.surface("suffix-3") in text and "(3)" in wording.surface("suffix-3")
    forms = build_reports(report)
    assert line in forms["report.md"]
    assert json.loads(forms["report.json"])["robustness"]["arm"] == "sft+dpo"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_arm_has_its_price_and_tuning_is_held_against_the_best_prompt(
    evaluated: Evaluated, language: str
) -> None:
    plain = evaluated(["base", "base+prompt", "base+few-shot", "sft+dpo"])
    assert plain.comparison.prompted == "base+few-shot"
    prices = Prices(
        arms=(
            ArmPrice(arm="base", prompt_tokens=30.4, answer_tokens=12, seconds=95.0),
            ArmPrice(arm="base+few-shot", prompt_tokens=1234.5, answer_tokens=12, seconds=480.0),
            ArmPrice(arm="sft+dpo", prompt_tokens=None, answer_tokens=9, money=0.5, currency="USD"),
        ),
        timed=8,
        prompts=(
            SearchedPrompt(
                arm="base+few-shot", text="Be <short>.", rows=("ex-1",), loss=3.0, plain_loss=3.5
            ),
        ),
    )
    persona = plain.persona.model_copy(update={"language": language})
    report, wording = replace(plain, persona=persona, prices=prices), Wording(persona)
    text, forms = Page(html_of(report)).text, build_reports(report)
    for shown in ("1,234", wording.seconds(480.0), wording.money(0.5, "USD"), "Be <short>."):
        assert shown in text
    line = tuning_against_prompt(report, wording)
    assert wording("prompt_arm.base+few-shot") in line and line in verdict(report, wording)
    assert text.count(line) == 2 and line in forms["report.md"]
    assert json.loads(forms["report.json"])["prices"]["timed"] == 8


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_sweep_is_a_table_a_figure_and_a_word(full: ReportInput, language: str) -> None:
    own = SweepTrial(changes={"lora.r": 16, "trainer.max_steps": 8}, loss=50.0, base_loss=60.0)
    better = own.model_copy(
        update={
            "changes": {"lora.r": 8, "trainer.max_steps": 8},
            "loss": 48.0,
            "gain": paired_difference([(50 + n / 9, 48.0) for n in range(9)]),
        }
    )
    stopped = SweepTrial(changes={"lora.r": 2}, stopped_at=4)
    sweep = SweepReport(method="sft", rows=9, trials=(better, own, stopped), reference=own.changes)
    persona = full.persona.model_copy(update={"language": language})
    report, wording = replace(full, persona=persona, sweeps=[sweep]), Wording(persona)
    html, forms = html_of(report), build_reports(report)
    line = sweep_line(sweep, wording)
    assert line.startswith("Take lora.r=8" if language == "en" else "lora.r=8")
    assert line in Page(html).text and line in forms["report.md"]
    section = html[html.index('<section id="sweep">') :].partition("</section>")[0]
    # One row a training, one mark for the one that is held against the reference.
    assert section.count('<th scope="row">') == 3 and section.count('class="marker') == 1
    assert wording("sweep.stopped", step=4) in section and "r=8, max_steps=8" in section
    assert json.loads(forms["report.json"])["sweeps"][0]["rows"] == 9
    assert 'id="sweep"' not in html_of(full)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_dial_is_a_table_three_curves_and_a_word(full: ReportInput, language: str) -> None:
    persona = full.persona.model_copy(update={"language": language})
    changes = {0.0: -0.5, 0.5: 0.25, 1.0: None}
    points = [
        DialPoint(
            strength=strength,
            arm=f"arm-{strength}",
            voice=MeanEstimate(mean=0.5 + (change or 0), low=0.1, high=0.9),
            sense=MeanEstimate(mean=None, low=None, high=None),
            voice_change=paired_difference([(change + n / 100, 0.0) for n in range(8)])
            if change is not None
            else None,
            cross_entropy_change=strength,
            instructions=0.75,
            passed=strength < 1,
            harmful=Refusals(7, 20),
            harmless=Refusals(0, 0),
        )
        for strength, change in changes.items()
    ]
    dial = Dial(arm="sft+dpo", questions=8, points=tuple(points))
    (first, *_) = full.responses
    said = [first.evolve(arm=f"arm-{one}", text=f"At {one}.") for one in (1.0, 0.5)]
    report = replace(full, persona=persona, dial=dial, dial_answers=said)
    page, html = Page(html_of(report)), html_of(report)
    line = dial_lines(dial, Wording(persona))[0]
    # Full strength does not pass the gate, half of it does.
    assert dial.advised.strength == 0.5 and "0.5" in line and line in page.text
    assert "dial" in page.ids and "7 / 20" in page.text
    section = html[html.index('<section id="dial">') :]
    section = section[: section.index("</section>")]
    assert section.count('class="chart"') == 3
    # The answers to one question stand together, the weakest first, by strength and not by name.
    answers = section[section.index('id="dial-answers"') :]
    assert answers.count("<h3>") == 1 and "arm-" not in answers
    assert answers.index("At 0.5.") < answers.index("At 1.0.")
    assert line in build_reports(report)["report.md"]
    assert json.loads(build_reports(report)["report.json"])["dial"]["questions"] == 8
    assert 'id="dial"' not in html_of(full)


def test_every_number_of_the_tables_leads_to_its_rows(full: ReportInput) -> None:
    html = html_of(full)
    page = Page(html)
    assert {target[1:] for target in page.targets} <= set(page.ids)
    linked = re.findall(r'<a class="mean" href="#([^"]+)">', html)
    assert {"rows-fidelity", "rows-address", "rows-lists", "probe-safety"} <= set(linked)
    (table,) = re.findall(r'id="rows-address">(.*?)</table>', html, re.S)
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in table.split("<tr>")[2:]]
    # Base never says champ; the others do, but on the last two questions all said the same.
    assert [row[-4:] for row in rows] == [["0", "1", "1", "1"]] * 6 + [["0"] * 4] * 2


def test_the_forms_for_machines_say_the_same(full: ReportInput) -> None:
    forms = build_reports(full)
    assert set(forms) == {"report.html", "report.md", "report.json", "model-card.md"}
    data = json.loads(forms["report.json"])
    assert data["headline"]["arm"] == "sft+dpo"
    assert data["headline"]["difference"]["mean"] == 0.75
    assert data["fidelity"]["base"] == 0.0
    assert data["verdict"][0] in forms["report.md"]
    assert data["verdict"][0] in forms["model-card.md"]
    assert "| SFT + DPO | 75% | – | +75.0 (" in forms["model-card.md"]
    assert "<" not in forms["model-card.md"].replace("< 0.001", "")
    widths = {line.count("|") for line in forms["model-card.md"].splitlines() if line[:1] == "|"}
    assert widths == {6}


def test_korean_readers_get_all_of_it_in_korean(full: ReportInput, korean: Persona) -> None:
    page = Page(html_of(replace(full, persona=korean)))
    for heading in (
        "나빠진 것",
        "돌발 질문",
        "심사 모델은 믿을 만한가요?",
        "무엇을 잊었나요?",
        "모든 행",
    ):
        assert heading in page.headings
    assert "어느 쪽인지 모르는 채 고른 사람들은" in page.text


@pytest.mark.parametrize(
    ("talks", "last", "sentence"),
    [
        (2, "No.", "SFT + DPO was in 2 conversations only, too few to say whether the voice"),
        (8, "No.", "SFT + DPO loses its voice as the conversation goes on: "),
        (8, "Champ, sit.", "Of SFT + DPO no change from the first answer to the last is sure: "),
    ],
)
def test_what_conversations_say_of_the_shipped_arm_is_said_in_words(
    talks: int, last: str, sentence: str, report: ReportInput, persona: Persona
) -> None:
    first = report.responses[0]
    turns = [
        first.evolve(
            arm="sft+dpo",
            prompt_id=f"ex-talk{number}",
            probe="drift",
            turn=turn,
            parents=(),
            text=text,
        )
        for number in range(talks)
        for turn, text in enumerate(("Champ, rise.", last), start=1)
    ]
    responses = [*report.responses, *turns]
    scores = score_responses(ScoringInput(persona, responses))
    comparison = compare(scores, responses=responses, traits=["address"])
    html = html_of(replace(report, responses=responses, scores=scores, comparison=comparison))
    assert sentence in Page(html).text
    assert (' faint"' in html) == (talks == 2)
    assert f"all questions asked {talks}" in Page(html).text


def test_a_page_in_a_language_that_came_as_a_pack_has_no_english_phrase(
    full: ReportInput, repo: Path
) -> None:
    page = Page(html_of(replace(full, persona=load_persona(repo / "datasets/gym-trainer-ja"))))
    assert phrases("ja")["report.worse.title"] in page.headings
    assert english_left(page.text, "ja") == []
