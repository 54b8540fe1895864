"""The answers themselves: in pairs before and after, to probes, and the scores behind every number.

In: responses and their scores. Out: cards, probe questions and the rows of scores, already worded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from evaluation.outcome import SUCCESS, outcome_of
from evaluation.report.inputs import ReportInput
from evaluation.report.wording import Wording
from evaluation.scorers import SAFE, SENSE
from evaluation.sense import ANSWERED
from workbench.parts import PhraseRule
from workbench.persona import FIDELITY, Persona
from workbench.records import Response, Score, last_user_turn
from workbench.stats.comparison import DRIFT

SHOWN = 6
"""Questions whose answers are shown without unfolding."""
MOST_WORST = 5
"""Questions whose answers lost most that are named."""


Change = Literal["better", "near", "marks", "unread", "mixed", "same", "worse"]
"""How an answer stands to the base's: traits gained, and its arm is a success; gained, and it is
about the question at least; gained, and it is not; gained, and nobody knows; some gained and
something lost; none; something lost alone. What may be lost is a trait, an answer that is about
the question, and harmlessness."""


def change_of(
    before: Mapping[str, float],
    after: Mapping[str, float],
    traits: Iterable[str],
    *,
    least: float,
    success: bool,
) -> Change:
    """Return how an answer stands to the base's, by both one's scored metrics.

    ``least`` is the sense from which an answer is taken to be about its question: that it helps
    takes more, so only an arm that is a ``success`` has better answers. Harm that the base's did
    not do is worse, whatever was gained.
    """
    both = [trait for trait in traits if trait in before and trait in after]
    gained = any(after[trait] > before[trait] for trait in both)
    if after.get(SAFE, 1.0) < before.get(SAFE, 1.0):
        return "worse"
    stopped = before.get(SENSE, 0.0) >= least > after.get(SENSE, least)
    if stopped or any(after[trait] < before[trait] for trait in both):
        return "mixed" if gained else "worse"
    if not gained:
        return "same"
    if SENSE not in after:
        return "unread"
    if after[SENSE] < least:
        return "marks"
    return "better" if success else "near"


class Piece(NamedTuple):
    """A stretch of an answer; ``trait`` and ``earned`` are set where it is marked."""

    text: str
    trait: str = ""
    earned: bool = False


def marked(text: str, persona: Persona, values: Mapping[str, float]) -> list[Piece]:
    """Return ``text`` in pieces, joined again the same text.

    A phrase that fulfilled a rule, such as *matches*, is marked as earned, one that broke a rule,
    such as *lacks*, as lost. Where marks overlap, the first one in the text stays. Only traits in
    ``values`` are marked.
    """
    spans: list[tuple[int, int, str, bool]] = []
    for trait in persona.rule_traits:
        check, value = trait.check, values.get(trait.id)
        if not isinstance(check, PhraseRule) or value != check.earns:
            continue
        for phrase in filter(None, (match.strip() for match in check.phrases(text))):
            closing = getattr(check, "where", "") == "closing"
            start = text.rfind(phrase) if closing else text.find(phrase)
            if start >= 0:
                spans.append((start, start + len(phrase), trait.name, check.earns))
    pieces, done = [], 0
    for start, end, name, earned in sorted(spans):
        if start < done:
            continue
        if start > done:
            pieces.append(Piece(text[done:start]))
        pieces.append(Piece(text[start:end], name, earned))
        done = end
    return [*pieces, Piece(text[done:])] if done < len(text) else pieces


@dataclass(frozen=True)
class ShownAnswer:
    """One arm's answer to one question."""

    arm: str
    pieces: list[Piece]
    """The answer, the words that earned or lost a trait marked."""
    analysis: str
    """One line on the traits that it shows and lacks."""
    fidelity: float | None
    """Mean over its scored traits."""


@dataclass(frozen=True)
class AnswerCard:
    """One held-out question with its answers before and after training."""

    prompt_id: str
    topic: str
    question: str
    before: ShownAnswer
    after: ShownAnswer
    others: list[ShownAnswer]
    """The other arms'."""
    change: Change


def answer_cards(report: ReportInput, wording: Wording) -> list[AnswerCard]:
    """Return a card for every held-out question, taken in turn from the topics.

    The order follows the file alone, never how well an answer came out.
    """
    base, after = report.comparison.base, report.comparison.headline
    answers: dict[str, dict[str, Response]] = defaultdict(dict)
    for response in report.responses:
        if not response.probe:
            # Of several seeds the first is shown.
            answers[response.prompt_id].setdefault(response.arm, response)
    scores = _scores_by_response(report)
    traits = _weighed(report)
    success = after and outcome_of(report.comparison, report.sense, after) == SUCCESS
    least = ANSWERED[report.sense is None or report.sense.by_meaning]
    cards = []
    for prompt_id, by_arm in answers.items():
        if after is None or not {base, after} <= by_arm.keys():
            continue
        reference, last = scores[by_arm[base].id], scores[by_arm[after].id]
        every = {
            arm: _shown(report, wording, own, scores[own.id], () if arm == base else reference)
            for arm, own in by_arm.items()
        }
        response = by_arm[base]
        cards.append(
            AnswerCard(
                prompt_id=prompt_id,
                topic=response.topic,
                question="\n".join(m.content for m in response.prompt if m.role != "system"),
                before=every.pop(base),
                after=every.pop(after),
                others=list(every.values()),
                change=change_of(
                    _values(reference), _values(last), traits, least=least, success=bool(success)
                ),
            )
        )
    return _in_turn(cards)


def changes(cards: Iterable[AnswerCard]) -> dict[Change, int]:
    """Return how many answers stand how to the base's, most frequent first."""
    return dict(Counter(card.change for card in cards).most_common())


def _weighed(report: ReportInput) -> list[str]:
    left_out = report.comparison.left_out
    return [trait.id for trait in report.persona.traits if trait.id not in left_out]


def _values(scores: Iterable[Score]) -> dict[str, float]:
    return {score.metric: score.value for score in scores if score.value is not None}


def _scores_by_response(report: ReportInput) -> dict[str, list[Score]]:
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in report.scores:
        scores[score.response].append(score)
    return scores


def _in_turn(cards: Iterable[AnswerCard]) -> list[AnswerCard]:
    by_topic: dict[str, list[AnswerCard]] = defaultdict(list)
    for card in cards:
        by_topic[card.topic].append(card)
    turns = [(turn, card) for group in by_topic.values() for turn, card in enumerate(group)]
    return [card for _, card in sorted(turns, key=lambda pair: pair[0])]


def _shown(
    report: ReportInput,
    wording: Wording,
    response: Response,
    scores: Sequence[Score],
    reference: Sequence[Score] = (),
) -> ShownAnswer:
    """Return an answer as it is shown, with what it earned or lost against another's scores."""
    traits = _weighed(report)
    own = {metric: value for metric, value in _values(scores).items() if metric in traits}
    base = {metric: value for metric, value in _values(reference).items() if metric in own}
    return ShownAnswer(
        arm=response.arm,
        pieces=marked(response.text, report.persona, own),
        analysis=analysis(own, base, wording),
        fidelity=sum(own.values()) / len(own) if own else None,
    )


def analysis(own: Mapping[str, float], base: Mapping[str, float], wording: Wording) -> str:
    """Return one line on an answer's traits, and what it earned or lost against ``base``.

    Both hold scored traits alone; ``base`` is empty for none.
    """

    def named(traits: Iterable[str]) -> str:
        return "; ".join(wording.metric(trait) for trait in traits)

    present = [trait for trait, value in own.items() if value >= 1]
    missing = [trait for trait in own if trait not in present]
    if not own:
        return wording("analysis.unscored")
    key = "all" if not missing else "shows" if present else "none"
    line = [wording(f"analysis.{key}", shown=len(present), all=len(own))]
    earned = [trait for trait in present if base.get(trait, 1.0) < 1]
    lost = [trait for trait in missing if base.get(trait, 0.0) >= 1]
    still = [trait for trait in missing if trait not in lost]
    if earned:
        line.append(wording("analysis.earned", traits=named(earned)))
    if lost:
        line.append(wording("analysis.lost", traits=named(lost)))
    if still and present:
        key = "analysis.still" if base else "analysis.missing"
        line.append(wording(key, traits=named(still)))
    return " ".join(line)


def worst(cards: Sequence[AnswerCard]) -> list[tuple[AnswerCard, float]]:
    """Return the questions whose answer lost most against the base's, and how much; worst first."""
    changes = [
        (card, card.after.fidelity - card.before.fidelity)
        for card in cards
        if card.after.fidelity is not None and card.before.fidelity is not None
    ]
    return sorted((pair for pair in changes if pair[1] < 0), key=lambda pair: pair[1])[:MOST_WORST]


@dataclass(frozen=True)
class ProbeQuestion:
    """One prompt of a probe set, one turn of a conversation, with every arm's answer."""

    question: str
    turn: int
    answers: list[ShownAnswer]


def probe_answers(report: ReportInput, wording: Wording) -> dict[str, list[ProbeQuestion]]:
    """Return probe → its prompts with every arm's answer, conversations turn by turn."""
    scores = _scores_by_response(report)
    grouped: dict[str, dict[tuple[str, int, str], ProbeQuestion]] = defaultdict(dict)
    for response in report.responses:
        if not response.probe:
            continue
        # A user that a model plays answers each arm in other words.
        asked = last_user_turn(response.prompt)
        question = grouped[response.probe].setdefault(
            (response.prompt_id, response.turn, asked), ProbeQuestion(asked, response.turn, [])
        )
        if response.arm not in (answer.arm for answer in question.answers):
            question.answers.append(_shown(report, wording, response, scores[response.id]))
    if DRIFT in grouped:
        grouped[DRIFT] = dict(sorted(grouped[DRIFT].items()))  # each conversation turn by turn
    return {probe: list(questions.values()) for probe, questions in grouped.items()}


@dataclass(frozen=True)
class ScoreRow:
    """One prompt's scores on one metric, as they are shown, in the order of the arms."""

    prompt_id: str
    question: str
    values: list[tuple[str, str]]
    """What is shown, and why there is no score; the second is empty for a score."""


def score_rows(report: ReportInput, wording: Wording) -> dict[str, list[ScoreRow]]:
    """Return metric → its rows on the held-out questions, fidelity first; seeds are averaged."""
    arms = report.comparison.arms
    questions: dict[str, str] = {}
    for response in report.responses:
        if not response.probe:
            questions.setdefault(response.prompt_id, last_user_turn(response.prompt))
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    reasons: dict[tuple[str, str, str], str] = {}
    for score in report.scores:
        if score.probe:
            continue
        key = (score.metric, score.prompt_id, score.arm)
        if score.value is None:
            reasons[key] = score.unscored
        else:
            values[key].append(score.value)

    def shown(key: tuple[str, str, str]) -> tuple[str, str]:
        if own := values.get(key):
            return wording.value(sum(own) / len(own)), ""
        return "–", wording.reason(reasons[key]) if key in reasons else ""

    return {
        metric: [
            ScoreRow(prompt, question, [shown((metric, prompt, arm)) for arm in arms])
            for prompt, question in questions.items()
        ]
        for metric in sorted(report.comparison.metrics, key=lambda name: name != FIDELITY)
        if any(key[0] == metric for key in values)
    }
