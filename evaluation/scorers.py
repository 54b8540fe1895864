"""Scores of responses: rules, judge, style, sense and variety, and fidelity as the traits' mean.

In: a persona and the responses of all arms. Out: one :class:`Score` for each response and metric.
Called by the stage of evaluation, once for the arms and once for the rows that calibrate the judge.

To add a scorer, write a function that takes a :class:`ScoringInput` and returns one score for each
response and metric, and name it in :data:`SCORERS`. What it cannot score it returns with the reason
as ``unscored``: never a 0, never nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.judge import CONTENT, HANDLED, by_ragas, content_question, probe_question
from evaluation.safety import SAFETY_SETS, fault_of
from evaluation.sense import BROKEN, AnswerSense
from evaluation.text_measures import chrf, varieties
from workbench.console import track
from workbench.inference.agreement import is_broken, unlooped
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import (
    JudgeQuestion,
    ask_judge,
    meaning_of,
    trait_questions,
    transcript,
)
from workbench.persona import FIDELITY, Persona
from workbench.records import ProbePrompt, Response, Score

if TYPE_CHECKING:
    from evaluation.style import StyleClassifier

SAFE = "safe"
"""Metric: 1.0 where rules find no harm in the answer (of a probe: none of the spec's own unsafe
phrases), which may be unsafe all the same; silence is unscored."""
CONDUCT = "conduct"
"""Metric: 1.0 where an answer to a probe of a safety set is as it has to be."""
STYLE = "style"
"""Metric: the style classifier's probability that the answer is the persona's."""
REFERENCE = "reference_chrf"
"""Metric: chrF of the answer against the reviewed answer of its question, 0 to 1."""
ON_QUESTION = "on_question"
"""Metric: share of other questions that the answer, without its own question's words, is less near
to than to its own, 0 to 1; 0.5 is chance."""
SENSE = "sense"
"""Metric: agreement, and 0 where the answer is none; 0 is chance, 1 the reviewed answers' mean."""
AGREEMENT = "agreement"
"""Metric: how near the answer is to its reviewed one and not to others; the same scale."""
ECHO = "echo"
"""Metric: share of the answer's words copied from its question, 0 to 1."""
COPY = "copy"
"""Metric: largest share of the answer's words copied from one training answer, 0 to 1."""
FLUENT = "fluent"
"""Metric: 1.0 where a language model finds the answer no stranger than the reviewed ones."""
LANGUAGE = "language"
"""Metric: 1.0 where the answer is in the persona's language."""
VARIETY = "variety"
"""Metric: 1 less the mean likeness to the arm's answers to other questions, 0 to 1."""
UNLOOPED = "unlooped"
"""Metric: share of an answer's runs of four words that are new in it, 0 to 1."""

NO_JUDGE = "no_judge"
"""Why a judge's metric is unscored where no judge is configured."""
NO_TRAIT = "no_trait_scored"
"""Why fidelity is unscored where no trait could be scored in every arm."""
NO_REFERENCE = "no_reference"
"""Why an answer cannot be held against a reviewed one."""
NO_MEANING = "no_meaning"
"""Why an answer has no rank on its question: the embedder sees wording alone."""
EMPTY = "empty_answer"
"""Why a measure of words is unscored where there is no word."""
ALONE = "only_answer"
"""Why the variety of an arm's only answer is unscored."""
_Prompt = tuple[str, str, int, int]
"""What was asked: prompt, probe set, turn and seed."""


@dataclass(frozen=True)
class ScoringInput:
    """What a scorer works on."""

    persona: Persona
    """Whose traits are scored."""
    responses: Sequence[Response]
    judge: Endpoint | None = None
    """Without one its metrics are unscored, but for what ``words`` says."""
    votes: int = 1
    """How often the judge is asked each question."""
    cache: Path | None = None
    """File of the judge's answers, read before asking and added to; None to keep none."""
    words: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Response id → trait → the reward model's word, where there is no judge
    (:func:`evaluation.reward_model.trait_words`)."""
    style: StyleClassifier | None = None
    """Without it, as without ``sense``, there are none of its scores."""
    references: Mapping[str, str] = field(default_factory=dict)
    """Prompt id → the reviewed answer to it; of a probe, what is expected."""
    sense: Mapping[str, AnswerSense] = field(default_factory=dict)
    """Response id → its measures of sense, of answers to held-out questions."""
    probes: Mapping[str, ProbePrompt] = field(default_factory=dict)
    """Prompt id → the probe, with what its answer is held to."""

    def is_broken(self, response: Response) -> bool:
        """Return whether a response is no answer at all: no trait shows in it."""
        if (own := self.sense.get(response.id)) is not None:
            return own.guard in BROKEN
        return is_broken(response.text)

    def is_harmful(self, response: Response) -> bool:
        """Return whether rules find harm in a response; of a probe, the persona's phrases alone."""
        if (own := self.sense.get(response.id)) is not None:
            return bool(own.harm)
        return bool(self.persona.safety.unsafe(response.text))

    @property
    def held_out(self) -> list[Response]:
        """The responses to held-out questions, probes left out."""
        return [response for response in self.responses if not response.probe]


def score_of(
    response: Response, metric: str, value: float | None = None, unscored: str = ""
) -> Score:
    """Return the score of a response: a value, or why there is none."""
    return Score(
        arm=response.arm,
        prompt_id=response.prompt_id,
        response=response.id,
        metric=metric,
        value=value,
        unscored=unscored,
        probe=response.probe,
        turn=response.turn,
        parents=(response.id,),
    )


def rules(inputs: ScoringInput) -> list[Score]:
    """Score the traits that a rule checks, 1.0 shown and 0.0 not, and safety's phrases.

    In a text that is empty, goes in circles or can't be read, no trait shows, whatever its marks.
    """
    broken = {response.id for response in inputs.responses if inputs.is_broken(response)}
    traits = [
        score_of(
            response,
            trait.id,
            float(response.id not in broken and bool(trait.passes(response.text))),
        )
        for trait in inputs.persona.rule_traits
        for response in inputs.responses
    ]
    safety = inputs.persona.safety
    asked = [one for one in inputs.responses if safety.unsafe_patterns or one.id in inputs.sense]
    return traits + [
        score_of(response, SAFE, float(not inputs.is_harmful(response)))
        if response.text.strip()
        else score_of(response, SAFE, unscored=EMPTY)
        for response in asked
    ]


def conduct(inputs: ScoringInput) -> list[Score]:
    """Score answers to the probes of the safety sets by what they have to do; silence gets 0."""
    language = inputs.persona.language
    return [
        score_of(response, CONDUCT, float(fault_of(probe, response.text, language) is None))
        for response in inputs.responses
        if (probe := inputs.probes.get(response.prompt_id)) and probe.kind in SAFETY_SETS
    ]


def judged(inputs: ScoringInput) -> list[Score]:
    """Score what needs a judge; unscored where none is configured or it failed.

    In its place a reward model of the reviews may tell the traits.

    Held-out questions are judged by the spec's traits and by their content, probes by whether
    they were met as the spec wants.
    """
    traits = (name for t in inputs.persona.traits for name in (t.id, meaning_of(t.id)))
    metrics = [*traits, CONTENT, HANDLED]
    pairs = [
        (response, one) for response in inputs.responses for one in _questions(inputs, response)
    ]
    pairs.sort(key=lambda pair: metrics.index(pair[1].metric))
    if inputs.judge is None:
        return [_offline(inputs, response, one.metric) for response, one in pairs]
    # What is no answer is not asked about: nothing shows in it.
    questions = [one for response, one in pairs if not inputs.is_broken(response)]
    with track("asking the judge", len(questions) * inputs.votes) as advance:
        verdicts = ask_judge(
            inputs.judge, questions, advance, votes=inputs.votes, cache=inputs.cache, put=by_ragas
        )
    answers = iter(verdicts)
    scores = []
    for response, question in pairs:
        if inputs.is_broken(response):
            scores.append(score_of(response, question.metric, 0.0))
        else:
            answer = next(answers)
            scores.append(score_of(response, question.metric, answer.value, answer.failure))
    return scores


def _offline(inputs: ScoringInput, response: Response, metric: str) -> Score:
    """Return the reward model's word on a response; unscored where it has none."""
    word = inputs.words.get(response.id, {}).get(metric)
    if word is None:
        return score_of(response, metric, unscored=NO_JUDGE)
    return score_of(response, metric, 0.0 if inputs.is_broken(response) else word)


def _questions(inputs: ScoringInput, response: Response) -> list[JudgeQuestion]:
    """Return what the judge is asked about one response."""
    asked = transcript(response.prompt)
    reference = inputs.references.get(response.prompt_id, "")
    if response.probe:
        question = probe_question(inputs.persona, response.probe, asked, response.text, reference)
        return [question] if question else []
    traits = trait_questions(inputs.persona, response.prompt, response.text, meanings=True)
    return [*traits, content_question(inputs.persona, asked, response.text, reference)]


def style(inputs: ScoringInput) -> list[Score]:
    """Score how much every answer reads like the persona's training answers, 0 to 1.

    Nothing where no classifier was trained.
    """
    if inputs.style is None:
        return []
    worded = [response for response in inputs.responses if response.text.strip()]
    chances = inputs.style.probabilities([response.text for response in worded])
    values = dict(zip((response.id for response in worded), chances, strict=True))
    return [
        score_of(r, STYLE, values.get(r.id), "" if r.id in values else EMPTY)
        for r in inputs.responses
    ]


def content(inputs: ScoringInput) -> list[Score]:
    """Score the wording of answers to held-out questions; nothing where there are no rows.

    A high value does not say that the advice is right, and sound advice in other words gets a low
    one.
    """
    if not inputs.references:
        return []

    def score(response: Response) -> Score:
        reference = inputs.references.get(response.prompt_id)
        if reference is None:
            return score_of(response, REFERENCE, unscored=NO_REFERENCE)
        if not response.text.strip():
            return score_of(response, REFERENCE, unscored=EMPTY)
        return score_of(response, REFERENCE, chrf(response.text, reference))

    return [score(response) for response in inputs.held_out]


def sense(inputs: ScoringInput) -> list[Score]:
    """Score whether answers to held-out questions are answers; nothing where it was not measured.

    Probes and turns have no reviewed answer, so there it is not asked.
    """
    scores = []
    for response in inputs.held_out:
        if (own := inputs.sense.get(response.id)) is None:
            continue
        values: dict[str, float] = {
            SENSE: own.sense,
            AGREEMENT: own.agreement,
            ECHO: own.echo,
            COPY: own.copy,
            FLUENT: float(own.fluent),
            LANGUAGE: float(own.guard != "foreign"),
        }
        scores += [score_of(response, metric, value) for metric, value in values.items()]
        why = "" if own.on_question is not None else NO_MEANING
        scores.append(score_of(response, ON_QUESTION, own.on_question, why))
    return scores


def variety(inputs: ScoringInput) -> list[Score]:
    """Score each answer to a held-out question against the same arm's others."""
    arms: dict[tuple[str, int], list[Response]] = defaultdict(list)
    for response in inputs.held_out:
        arms[response.arm, response.seed].append(response)
    return [
        score_of(response, VARIETY, value, "" if value is not None else ALONE)
        for responses in arms.values()
        for response, value in zip(
            responses, varieties([one.text for one in responses]), strict=True
        )
    ]


def loops(inputs: ScoringInput) -> list[Score]:
    """Score each answer to a held-out question by how little it repeats itself.

    Rules see a form of address or a length in a text that goes round in circles, too.
    """
    return [score_of(response, UNLOOPED, unlooped(response.text)) for response in inputs.held_out]


Scorer = Callable[[ScoringInput], list[Score]]
SCORERS: dict[str, Scorer] = {
    "rules": rules,
    "conduct": conduct,
    "judge": judged,
    "style": style,
    "content": content,
    "sense": sense,
    "variety": variety,
    "unlooped": loops,
}
"""Every scorer by its name, in the order that they run."""


def score_responses(inputs: ScoringInput) -> list[Score]:
    """Run every scorer, then derive fidelity; one score for each response and metric.

    The responses are of all arms together: fidelity is compared on the traits that all arms have.

    Raises:
        UserError: The judge's endpoint is down or refuses us.
    """
    every = inputs.responses
    inputs = replace(inputs, responses=[one for one in every if not one.unanswered])
    scores = [score for scorer in SCORERS.values() for score in scorer(inputs)]
    scores += fidelity(inputs, scores)
    return scores + _unanswered(every, scores)


def voice_and_sense(inputs: ScoringInput) -> list[Score]:
    """Return the scores of traits, of fidelity and of sense, nothing else."""
    parts = [*rules(inputs), *(judged(inputs) if inputs.judge else []), *sense(inputs)]
    traits = {trait.id for trait in inputs.persona.traits}
    wanted = [score for score in parts if score.metric in {*traits, SENSE}]
    return [*wanted, *fidelity(inputs, wanted)]


def _unanswered(responses: Sequence[Response], scores: Sequence[Score]) -> list[Score]:
    """Return the metrics of responses without an answer: unscored, by the reason of each.

    They are those of answers to the same kind of prompt. An arm without an answer takes no trait
    from the others, as an answer that could not be judged does.
    """
    metrics: dict[str, dict[str, None]] = defaultdict(dict)
    for score in scores:
        metrics[score.probe].setdefault(score.metric)
    return [
        score_of(response, metric, unscored=response.unanswered)
        for response in responses
        if response.unanswered
        for metric in metrics[response.probe]
    ]


def fidelity(inputs: ScoringInput, scores: Sequence[Score]) -> list[Score]:
    """Return each response's mean over its traits; unscored where there is none.

    Only those traits count that are scored in every arm that answered the same prompt. Where the
    judge failed on one arm alone, the others lose that trait too: else the arms would be compared
    on different traits, and a hard trait that fell out would look like progress.
    """
    traits = {trait.id for trait in inputs.persona.traits}
    own: dict[str, dict[str, Score]] = defaultdict(dict)
    for score in scores:
        if score.metric in traits and score.value is not None:
            own[score.response][score.metric] = score
    common: dict[_Prompt, set[str]] = {}
    for response in inputs.responses:
        there = set(own[response.id])
        common[_prompt(response)] = common.get(_prompt(response), there) & there
    means = []
    for response in inputs.responses:
        shared = common[_prompt(response)]
        parts = [score for trait, score in own[response.id].items() if trait in shared]
        values = [score.value for score in parts if score.value is not None]
        mean = sum(values) / len(values) if values else None
        score = score_of(response, FIDELITY, mean, "" if values else NO_TRAIT)
        means.append(score.evolve(parents=(response.id, *(part.id for part in parts))))
    return means


def _prompt(response: Response) -> _Prompt:
    return (response.prompt_id, response.probe, response.turn, response.seed)
