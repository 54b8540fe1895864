"""The evaluation as the report shows it: the table of arms and traits, answers in pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evaluation.report.marks import Piece, marked
from evaluation.report.source import Source
from evaluation.report.words import Words
from workbench.persona import FIDELITY, Persona
from workbench.records import Response, Score
from workbench.stats import Cell, Comparison

HEADLINE = ("sft+dpo", "dpo", "sft")
"""The arm that the verdict is about: the first of these that answered, else the last arm that is
asked without a system prompt."""
PROMPTED = "+prompt"
"""How the name of an arm with a system prompt ends."""
SHOWN = 6
"""Questions whose answers are shown without unfolding."""


def headline_arm(comparison: Comparison) -> str | None:
    """Return the arm that the verdict is about; None where only the base answered."""
    others = [arm for arm in comparison.arms if arm != comparison.base]
    # A trained model that is told nothing is what the project is about.
    bare = [arm for arm in others if not arm.endswith(PROMPTED)] or others
    return next((arm for arm in HEADLINE if arm in others), bare[-1] if bare else None)


def table_rows(comparison: Comparison) -> list[tuple[str, list[Cell]]]:
    """Return (metric, cells in the order of arms); fidelity first."""
    metrics = sorted(comparison.metrics, key=lambda metric: metric != FIDELITY)
    return [(m, [comparison.cell(arm, m) for arm in comparison.arms]) for m in metrics]


def by_kind(
    rows: Sequence[tuple[str, list[Cell]]], persona: Persona
) -> tuple[list[tuple[str, list[Cell]]], list[tuple[str, list[Cell]]]]:
    """Return the rows of fidelity and its traits, and those of the other metrics."""
    own = {FIDELITY, *(trait.id for trait in persona.traits)}
    return [row for row in rows if row[0] in own], [row for row in rows if row[0] not in own]


@dataclass(frozen=True)
class Side:
    """One arm's answer to one question.

    Attributes:
        arm: Who answered.
        pieces: The answer, the words that earned or lost a trait marked.
        analysis: One line on the traits that it shows and lacks.
        fidelity: Mean over its scored traits, or None.
    """

    arm: str
    pieces: list[Piece]
    analysis: str
    fidelity: float | None


@dataclass(frozen=True)
class Card:
    """One held-out question with its answers before and after; ``others`` are the other arms'."""

    prompt_id: str
    topic: str
    question: str
    before: Side
    after: Side
    others: list[Side]


def cards(source: Source, words: Words) -> list[Card]:
    """Return a card for every held-out question, taken in turn from the topics.

    The order follows the file alone, never how well an answer came out.
    """
    comparison, after = source.comparison, headline_arm(source.comparison)
    if after is None:
        return []
    answers: dict[str, dict[str, Response]] = defaultdict(dict)
    for response in source.responses:
        if not response.probe:
            # Of several seeds the first is shown.
            answers[response.prompt_id].setdefault(response.arm, response)
    scores: dict[str, list[Score]] = defaultdict(list)
    for score in source.scores:
        scores[score.response].append(score)
    found = []
    for prompt_id, by_arm in answers.items():
        if not {comparison.base, after} <= by_arm.keys():
            continue
        response = by_arm[comparison.base]
        base = scores[response.id]

        def side(
            arm: str,
            against: Sequence[Score] = (),
            by_arm: dict[str, Response] = by_arm,
        ) -> Side:
            own = by_arm[arm]
            return side_of(source, words, own, scores[own.id], against)

        found.append(
            Card(
                prompt_id=prompt_id,
                topic=response.topic,
                question="\n".join(m.content for m in response.prompt if m.role != "system"),
                before=side(comparison.base),
                after=side(after, base),
                others=[side(a, base) for a in by_arm if a not in (comparison.base, after)],
            )
        )
    return _in_turn(found)


def _in_turn(found: Iterable[Card]) -> list[Card]:
    by_topic: dict[str, list[Card]] = defaultdict(list)
    for card in found:
        by_topic[card.topic].append(card)
    turns = [(turn, card) for group in by_topic.values() for turn, card in enumerate(group)]
    return [card for _, card in sorted(turns, key=lambda pair: pair[0])]


def side_of(
    source: Source,
    words: Words,
    response: Response,
    scores: Sequence[Score],
    against: Sequence[Score] = (),
) -> Side:
    """Return an answer as it is shown, with what it earned or lost against another's scores."""
    left_out = source.comparison.left_out
    traits = [trait.id for trait in source.persona.traits if trait.id not in left_out]
    own = {s.metric: s.value for s in scores if s.metric in traits and s.value is not None}
    base = {s.metric: s.value for s in against if s.metric in own and s.value is not None}
    return Side(
        arm=response.arm,
        pieces=marked(response.text, source.persona, own),
        analysis=analysis(own, base, words),
        fidelity=sum(own.values()) / len(own) if own else None,
    )


def analysis(own: dict[str, float], base: dict[str, float], words: Words) -> str:
    """Return one line on an answer's traits, and what it earned or lost against ``base``.

    Args:
        own: Trait → value of the answer, scored ones only.
        base: The same of the answer that it is compared with; empty for none.
        words: The phrases.
    """

    def named(traits: Iterable[str]) -> str:
        return "; ".join(words.metric(trait) for trait in traits)

    shown = [trait for trait, value in own.items() if value >= 1]
    missing = [trait for trait in own if trait not in shown]
    if not own:
        return words("analysis.unscored")
    key = "all" if not missing else "shows" if shown else "none"
    line = [words(f"analysis.{key}", shown=len(shown), all=len(own))]
    earned = [trait for trait in shown if base.get(trait, 1.0) < 1]
    lost = [trait for trait in missing if base.get(trait, 0.0) >= 1]
    still = [trait for trait in missing if trait not in lost]
    if earned:
        line.append(words("analysis.earned", traits=named(earned)))
    if lost:
        line.append(words("analysis.lost", traits=named(lost)))
    if still and shown:
        key = "analysis.still" if base else "analysis.missing"
        line.append(words(key, traits=named(still)))
    return " ".join(line)
