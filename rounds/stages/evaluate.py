"""The stage ``evaluate``: every arm answers, the answers are scored, compared and held to bounds.

In: the split, the baseline answers, the reviews, and the last round's own evaluation. Out:
responses, scores, and what follows from them. Answers that were given, and a judge's words, are
kept beside the stage's folder: they outlive a change of the settings and a kill.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from evaluation.answer import cut_shares
from evaluation.calibration import Calibration
from evaluation.gate import GateReport, check_unanswered, check_unscored
from evaluation.outcome import sense_report
from evaluation.pairwise import compare_pairs
from evaluation.probes import take_probes
from evaluation.safety_case import SafetyLine
from evaluation.scorers import ScoringInput, score_responses
from evaluation.sense import AnswerSense, SenseInput, measure_sense
from evaluation.style import StyleReport, train_style
from evaluation.text_measures import diversity_by_arm
from rounds import layout
from rounds.answering import ArmAnswers, answer_all, bill
from rounds.arms import named_arms, own_arms
from rounds.context import RoundContext
from rounds.dial import dial_of
from rounds.judging import Judging, ReviewedRows
from rounds.last_evaluation import (
    READ,
    LastEvaluation,
    across_rounds,
    choose_prompts,
    differences,
    last_evaluated,
    shared_files,
)
from rounds.layout import adapter
from rounds.prompt_arms import prompt_arms
from rounds.robustness import RobustnessCheck, robustness_files
from rounds.runner import StageSpec, Work
from rounds.safety import SafetyCheck, safety_files
from workbench.arm_names import OPTIMISED
from workbench.errors import UserError
from workbench.inference.answer_cache import CACHE, base_fingerprint
from workbench.inference.embedder import make_embedder
from workbench.inference.wire import check_reachable
from workbench.records import Example, ProbePrompt, Response, Review, Score
from workbench.stats import Comparison, compare
from workbench.values import dumped

STAGE = "evaluate"


def evaluate_stage(context: RoundContext) -> StageSpec:
    """Held-out prompts and probes answered by every arm, scored, and compared with the base."""
    trained = dict.fromkeys(adapter(arm.stage) for arm in own_arms(context) if arm.stage)
    arms = named_arms(context, "")
    named = {f"arm {arm.name}": arm.adapter for arm in arms if arm.adapter}
    bases = {arm.name: base_fingerprint(arm.model) for arm in arms if arm.model}
    optimised = OPTIMISED in prompt_arms(context)
    packages = ["peft", "ragas", "scipy", "sentence-transformers", "torch", "transformers"]
    last, settings = last_evaluated(context.round), context.config.evaluate
    judged = context.config.judge or settings.reward_model
    return StageSpec(
        STAGE,
        partial(_evaluate, context),
        inputs=(
            layout.TEST,
            layout.TRAIN,
            layout.PROBES,
            layout.BASELINE,
            layout.FILTERED,
            layout.REVIEWS,
            *trained,
        ),
        optional=(
            layout.CARRY_OVER_REVIEWS,
            *((layout.VALIDATION,) if settings.prompt_arms or settings.reward_model else ()),
            *((layout.BLIND_PAIRS, layout.BLIND_REVIEWS) if judged else ()),
        ),
        earlier=tuple((last, one) for one in READ) if last else (),
        files={
            **shared_files(context),
            **safety_files(context),
            **robustness_files(context),
            **named,
        },
        settings={
            "model": context.config.model,
            "base": context.base_key(STAGE),
            **({"bases": bases} if bases else {}),
            **({"teacher": dumped(context.config.main_teacher)} if optimised else {}),
            "judge": dumped(context.config.judge),
            "embedder": context.config.model_dump(mode="json")["embedder"],
            **({"simulated_user": dumped(user)} if (user := context.config.simulated_user) else {}),
            **dumped(settings),
        },
        packages=(*packages, *(["gepa"] if optimised else [])),
        resumable=True,
    )


@dataclass(frozen=True)
class EvaluateInputs:
    """What an evaluation reads, each file once."""

    train: list[Example]
    validation: list[Example]
    """Where prompts are searched for, which these rows decide; a reward model learns from them."""
    test: list[Example]
    probes: list[ProbePrompt]
    baseline: list[Response]
    filtered: list[Example]
    reviews: list[Review]
    """Of this round, and those that were taken over with its rows."""
    blind: list[Example]
    """Arms' answers that people labelled in a blind round, and below what they said."""
    blind_reviews: list[Review]
    last: LastEvaluation | None

    @property
    def asked_before(self) -> list[Response]:
        """What arms answered in the last round that was evaluated."""
        return self.last.responses if self.last else []

    @classmethod
    def read(cls, work: Work) -> EvaluateInputs:
        """Read the inputs of the stage."""
        last = last_evaluated(work.round)
        return cls(
            work.read(layout.TRAIN),
            work.read_if_there(layout.VALIDATION),
            work.read(layout.TEST),
            work.read(layout.PROBES),
            work.read(layout.BASELINE),
            work.read(layout.FILTERED),
            [*work.read(layout.REVIEWS), *work.read_if_there(layout.CARRY_OVER_REVIEWS)],
            work.read_if_there(layout.BLIND_PAIRS),
            work.read_if_there(layout.BLIND_REVIEWS),
            LastEvaluation.read(last) if last else None,
        )

    @property
    def reviewed(self) -> ReviewedRows:
        """What the judge, or the reward model in its place, is held against."""
        reviews, learning = [*self.reviews, *self.blind_reviews], [*self.train, *self.validation]
        return ReviewedRows(self.filtered, self.blind, reviews, learning, self.test)


class _Sense(NamedTuple):
    """What sense is measured with, and the measures of each response; None where nothing is."""

    inputs: SenseInput | None
    measures: dict[str, AnswerSense]


def _evaluate(context: RoundContext, work: Work) -> None:
    inputs, settings = EvaluateInputs.read(work), context.config.evaluate
    prompts = choose_prompts(inputs.test, inputs.asked_before, settings.rows)
    if not prompts:
        raise UserError(
            "there is no held-out prompt to answer",
            where=str(work.path(layout.TEST)),
            fix="split with a test share above 0",
        )
    probes = take_probes(inputs.probes, settings.probes, settings.conversations)
    scratch = work.round.scratch(STAGE)
    judging = Judging(context.config.judge, settings.votes, scratch / CACHE)
    for endpoint in filter(None, (judging.judge, context.config.simulated_user)):
        check_reachable(endpoint)  # before the hours, not after them
    safety = SafetyCheck.of(context, inputs.probes)
    robustness = RobustnessCheck.of(context, prompts)
    questions, rows = [*prompts, *probes], (inputs.train, inputs.validation)
    answers = answer_all(context, work, *rows, questions, safety, robustness, scratch)
    sense = _sense(context, inputs, prompts, answers)
    questions += safety.conversations
    judging = judging.by_reviews(context, inputs.reviewed, answers.responses, answers.states)
    scores, style = _score(context, inputs, answers.responses, questions, sense, judging)
    calibration = _calibrate(context, work, inputs, judging, scores)
    comparison, gate = _compare(context, work, inputs.last, answers, scores, calibration)
    lines = _write_robustness(work, robustness, comparison, answers, sense, judging)
    _write_dial(context, work, comparison, answers, safety, sense, judging)
    case = safety.case(comparison, gate, answers.safety, lines)
    _write_answers(context, work, answers, safety)
    work.write(layout.SAFETY, case)
    work.write(layout.SCORES, scores)
    work.write(layout.GENERAL, gate)
    work.write(layout.STYLE, style)
    _write_pairs(context, work, answers.answered, judging)
    work.counts.update(
        bill(context, judging.judge, judging.cache),
        prompts=len(prompts),
        probes=len(probes),
        primaries=_primaries(work, settings.primary),
        **_counts(answers, scores),
        failures=[
            *gate.failures,
            *case.failures,
            *_write_sense(context, work, comparison, answers, scores, sense),
            *check_unanswered(answers.responses, settings.max_unscored),
            *_unscored(scores, settings.max_unscored),
        ],
    )


def _write_answers(
    context: RoundContext, work: Work, answers: ArmAnswers, safety: SafetyCheck
) -> None:
    """Write the prompts that stand in no other file, and what was answered to them.

    They were asked for this persona's version. Those that were searched for stand beside what
    every arm's answers take.
    """
    version = (context.persona.record_id,)
    asked = (
        (layout.INSTRUCTION_PROMPTS, answers.instructions),
        (layout.SAFETY_PROMPTS, safety.prompts),
    )
    work.write(layout.RESPONSES, answers.responses)
    work.write(layout.PRICES, answers.prices)
    work.write(layout.INSTRUCTIONS, answers.instructed)
    work.write(layout.SAFETY_ANSWERS, answers.safety)
    for artifact, rows in asked:
        work.write(artifact, [row.evolve(parents=row.parents or version) for row in rows])


def _sense(
    context: RoundContext, inputs: EvaluateInputs, rows: list[Example], answers: ArmAnswers
) -> _Sense:
    """Measure whether answers to held-out questions are answers; one question says nothing."""
    if len(rows) < 2:
        return _Sense(None, {})
    language, train = context.persona.language, [row.answer for row in inputs.train]
    corpus = [*train, *(row.answer for row in rows)]
    embedder = make_embedder(context.config.embedder, language, corpus)
    sense = SenseInput(language, rows, train, embedder, *answers.loss, context.persona)
    return _Sense(sense, measure_sense(answers.answered, sense))


def _write_sense(
    context: RoundContext,
    work: Work,
    comparison: Comparison,
    answers: ArmAnswers,
    scores: list[Score],
    sense: _Sense,
) -> list[str]:
    """Write what each arm's voice and sense amount to; return what fails."""
    if sense.inputs is None:
        return []
    floor = context.config.evaluate.sense_floor
    report = sense_report(
        context.persona,
        comparison,
        answers.answered,
        scores,
        sense.measures,
        sense.inputs,
        floor=floor,
    )
    work.write(layout.SENSE, report)
    return report.failures(comparison, context.config.evaluate.gate)


def _write_robustness(
    work: Work,
    robustness: RobustnessCheck,
    comparison: Comparison,
    answers: ArmAnswers,
    sense: _Sense,
    judging: Judging,
) -> list[SafetyLine]:
    """Write the answers on other surfaces, and how the arm holds there; return its safety line."""
    result = robustness.result(
        comparison,
        answers.answered,
        answers.crossed,
        sense.inputs,
        judge=judging.judge,
        **judging.how,
    )
    if result is None:
        return []
    work.write(layout.SURFACE_ANSWERS, answers.crossed)
    work.write(layout.ROBUSTNESS, result)
    return robustness.lines(result)


def _write_dial(
    context: RoundContext,
    work: Work,
    comparison: Comparison,
    answers: ArmAnswers,
    safety: SafetyCheck,
    sense: _Sense,
    judging: Judging,
) -> None:
    """Write how the arm does at other strengths of its adapter, where they were asked for."""
    if answers.dial is None:
        return
    dial = dial_of(
        context,
        comparison,
        answers.dial,
        answers.answered,
        answers.safety,
        safety.prompts,
        sense.inputs,
        judge=judging.judge,
        **judging.how,
    )
    work.write(layout.DIAL_ANSWERS, answers.dial.responses)
    work.write(layout.DIAL, dial)


def _score(
    context: RoundContext,
    inputs: EvaluateInputs,
    responses: list[Response],
    questions: list[Example],
    sense: _Sense,
    judging: Judging,
) -> tuple[list[Score], StyleReport]:
    """Return the scores of all responses, and how well style tells trained rows from the base's."""
    style = train_style(inputs.train, inputs.baseline, seed=context.config.seed)
    asked = ScoringInput(
        context.persona,
        responses,
        judge=judging.judge,
        words=judging.words,
        style=style,
        references={question.id: question.answer for question in questions},
        sense=sense.measures,
        probes={probe.id: probe for probe in inputs.probes},
        **judging.how,
    )
    return score_responses(asked), style.report


def _calibrate(
    context: RoundContext, work: Work, inputs: EvaluateInputs, judging: Judging, arms: list[Score]
) -> Calibration:
    """Write whether the judge's word counts, or that of the reward model in its place."""
    calibration = judging.calibrate(context, inputs.reviewed, arms)
    work.write(layout.CALIBRATION, calibration)
    if (reward := judging.reward_report(context, calibration)) is not None:
        work.write(layout.REWARD_MODEL, reward)
    return calibration


def _compare(
    context: RoundContext,
    work: Work,
    last: LastEvaluation | None,
    answers: ArmAnswers,
    scores: list[Score],
    calibration: Calibration,
) -> tuple[Comparison, GateReport]:
    """Write what the scores amount to; return it, and the gate with the last round held to this."""
    seed = context.config.seed
    traits, left_out = calibration.weights(context.persona)
    comparison = compare(
        scores,
        "base",
        seed,
        responses=answers.answered,
        traits=traits,
        left_out=left_out,
        primary=context.config.evaluate.primary,
    )
    work.write(layout.COMPARISON, comparison)
    by_arm = diversity_by_arm(answers.answered)
    work.write(layout.DIVERSITY, {arm: dumped(diversity) for arm, diversity in by_arm.items()})
    if last is None:
        return comparison, answers.gate
    different = differences(context, last.manifest)
    return comparison, across_rounds(
        last, answers.gate, answers.answered, scores, traits, different, seed
    )


def _write_pairs(
    context: RoundContext, work: Work, responses: list[Response], judging: Judging
) -> None:
    """Have a judge compare arms in pairs, where there is one and it is wanted."""
    if judging.judge is None or not context.config.evaluate.pairwise:
        return
    seed = context.config.seed
    result = compare_pairs(context.persona, responses, judging.judge, seed=seed, **judging.how)
    work.write(layout.WIN_RATES, result)


def _primaries(work: Work, primary: str) -> list[str]:
    """Return the measures that were to count, this run's last: who changes it has seen scores."""
    before = work.round.manifest(STAGE)
    earlier = before.counts.get("primaries", []) if before else []
    return [*earlier, primary] if earlier[-1:] != [primary] else list(earlier)


def _counts(answers: ArmAnswers, scores: list[Score]) -> dict[str, object]:
    return {
        "responses": len(answers.responses),
        "tokens": sum(response.tokens for response in answers.responses),
        "max_new_tokens": answers.max_new_tokens,
        "cut": cut_shares(answers.answered, answers.max_new_tokens),
        "unanswered": Counter(r.arm for r in answers.responses if r.unanswered),
        "reasoned": Counter(r.arm for r in answers.responses if r.reasoning),
        "unscored": sum(score.value is None for score in scores),
    }


def _unscored(scores: list[Score], bound: float) -> list[str]:
    return [
        f"{one.metric}: {one.share:.0%} of the scores are missing (bound {bound:.0%};"
        f" {', '.join(f'{why} {count}' for why, count in one.reasons.items())})"
        for one in check_unscored(scores, bound)
    ]
