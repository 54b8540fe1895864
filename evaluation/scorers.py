"""Scores of responses: rules, judge, style, content and variety, and fidelity as the traits' mean.

In: a persona and the responses of all arms. Out: one :class:`Score` for each response and metric.
Called by the stage of evaluation, once for the arms and once for the rows that calibrate the judge.

To add a scorer, write a function that takes a :class:`ScoringInput` and returns one score for each
response and metric, and name it in :data:`SCORERS`. What it cannot score it returns with the reason
as ``unscored``: never a 0, never nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.judge import CONTENT, HANDLED, by_ragas, content_question, probe_question
from evaluation.text_measures import chrf, own_reference_rank, unlooped, varieties
from workbench.console import track
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import JudgeQuestion, ask_judge, trait_questions, transcript
from workbench.persona import FIDELITY, Persona
from workbench.records import Response, Score

if TYPE_CHECKING:
    from evaluation.style import StyleClassifier

SAFE = "safe"
"""Metric: 1.0 where none of the spec's unsafe phrases is in the answer."""
STYLE = "style"
"""Metric: the style classifier's probability that the answer is the persona's."""
REFERENCE = "reference_chrf"
"""Metric: chrF of the answer against the reviewed answer of its question, 0 to 1."""
ON_QUESTION = "on_question"
"""Metric: share of other questions' reviewed answers that the answer is less like than its own."""
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
NO_OTHER = "no_other_reference"
"""Why an answer has no rank: there is one question only."""
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
    votes: int = 1
    """How often the judge is asked each question."""
    cache: Path | None = None
    """File of the judge's answers, read before asking and added to; None to keep none."""
    style: StyleClassifier | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    """Prompt id → the reviewed answer to it; of a probe, what is expected."""

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
    """Score the traits that a rule checks, 1.0 shown and 0.0 not, and safety's phrases."""
    traits = [
        score_of(response, trait.id, float(bool(trait.passes(response.text))))
        for trait in inputs.persona.rule_traits
        for response in inputs.responses
    ]
    safety = inputs.persona.safety
    if not safety.unsafe_patterns:
        return traits
    return traits + [
        score_of(response, SAFE, float(not safety.unsafe(response.text)))
        for response in inputs.responses
    ]


def judged(inputs: ScoringInput) -> list[Score]:
    """Score what needs a judge; unscored where none is configured or it failed.

    Held-out questions are judged by the spec's traits and by their content, probes by whether
    they were met as the spec wants.
    """
    metrics = [*(trait.id for trait in inputs.persona.traits), CONTENT, HANDLED]
    asked = [
        (response, one) for response in inputs.responses for one in _questions(inputs, response)
    ]
    asked.sort(key=lambda pair: metrics.index(pair[1].metric))
    if inputs.judge is None:
        return [score_of(response, one.metric, unscored=NO_JUDGE) for response, one in asked]
    questions = [question for _, question in asked]
    with track("asking the judge", len(questions) * inputs.votes) as advance:
        answers = ask_judge(
            inputs.judge, questions, advance, votes=inputs.votes, cache=inputs.cache, put=by_ragas
        )
    return [
        score_of(response, question.metric, answer.value, answer.failure)
        for (response, question), answer in zip(asked, answers, strict=True)
    ]


def _questions(inputs: ScoringInput, response: Response) -> list[JudgeQuestion]:
    """Return what the judge is asked about one response."""
    asked = transcript(response.prompt)
    reference = inputs.references.get(response.prompt_id, "")
    if response.probe:
        question = probe_question(inputs.persona, response.probe, asked, response.text, reference)
        return [question] if question else []
    traits = trait_questions(inputs.persona, response.prompt, response.text)
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
    """Score answers to held-out questions against their rows; nothing where there are no rows.

    What these see is wording. A high value does not say that the advice is right, and sound advice
    in other words gets a low one: they stand in for a judge, and show whether an answer is about
    its own question at all.
    """
    if not inputs.references:
        return []
    near: dict[str, float] = {}
    ranks: dict[str, float] = {}
    prompts = [
        prompt
        for prompt in dict.fromkeys(response.prompt_id for response in inputs.held_out)
        if prompt in inputs.references
    ]
    references = [inputs.references[prompt] for prompt in prompts]
    answered = [r for r in inputs.held_out if r.prompt_id in inputs.references and r.text.strip()]
    if answered:
        ids, texts = [r.id for r in answered], [r.text for r in answered]
        own = [prompts.index(r.prompt_id) for r in answered]
        pairs = zip(texts, own, strict=True)
        near = dict(zip(ids, (chrf(text, references[n]) for text, n in pairs), strict=True))
        if len(references) > 1:
            ranks = dict(zip(ids, own_reference_rank(texts, references, own), strict=True))

    def why(response: Response) -> str:
        if response.prompt_id not in inputs.references:
            return NO_REFERENCE
        return NO_OTHER if response.text.strip() else EMPTY

    return [
        score_of(r, metric, values.get(r.id), "" if r.id in values else why(r))
        for metric, values in ((REFERENCE, near), (ON_QUESTION, ranks))
        for r in inputs.held_out
    ]


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
    "judge": judged,
    "style": style,
    "content": content,
    "variety": variety,
    "unlooped": loops,
}
"""Every scorer by its name, in the order that they run."""


def score_responses(
    persona: Persona,
    responses: Sequence[Response],
    *,
    judge: Endpoint | None = None,
    votes: int = 1,
    cache: Path | None = None,
    style: StyleClassifier | None = None,
    references: Mapping[str, str] | None = None,
) -> list[Score]:
    """Run every scorer, then derive fidelity; one score for each response and metric.

    Args:
        persona: Whose traits are scored.
        responses: Of all arms together: fidelity is compared on the traits that all arms have.
        judge: The judge's endpoint; without one the judge's metrics are unscored.
        votes: How often the judge is asked each question.
        cache: File of the judge's answers, so that none is asked for twice.
        style: Of :func:`evaluation.style.train_style`; without one there is no metric ``style``.
        references: Prompt id → the reviewed answer to it, for the metrics of content.

    Raises:
        UserError: The judge's endpoint is down or refuses us.
    """
    inputs = ScoringInput(persona, responses, judge, votes, cache, style, references or {})
    scores = [score for scorer in SCORERS.values() for score in scorer(inputs)]
    return scores + fidelity(inputs, scores)


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
