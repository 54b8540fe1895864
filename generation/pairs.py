"""Which traits an answer shows, and pairs of answers that differ in them.

Pairs of a teacher's answers are harder than teacher against student: hard negatives, and candidates
far apart. The pipelines score answers, by rules first and a judge's yes or no for the traits that
no rule can check; :mod:`generation.teacher` and :mod:`generation.conversations` make pairs.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from generation.teacher_client import STAGE
from workbench.inference.judge import JudgeVerdict
from workbench.persona import FIDELITY, Persona
from workbench.records import Drop, Example, Preference, Score

VOICE_OFF = "voice_off"
"""Right content in another voice."""
RULE_BROKEN = "rule_broken"
"""Right voice, one rule broken."""
CANDIDATES = "candidates"
"""The best against the worst of several answers."""


@dataclass(frozen=True)
class TraitScores:
    """Trait → whether one answer shows it; a trait that nobody could score is absent."""

    shown: dict[str, bool]

    @property
    def share(self) -> float:
        """Share of the scored traits that the answer shows, 0 to 1."""
        return sum(self.shown.values()) / len(self.shown)

    @property
    def missing(self) -> tuple[str, ...]:
        """The scored traits that the answer does not show."""
        return tuple(trait for trait, there in self.shown.items() if not there)


@dataclass
class JudgeAccount:
    """What the judge said, and what is left to rules alone since it said nothing."""

    scored: int = 0
    """Traits of answers that the judge scored."""
    unscored: Counter[str] = field(default_factory=Counter)
    """Kind of failure → traits of answers without a score."""

    def take(self, scores: TraitScores, trait: str, verdict: JudgeVerdict) -> None:
        """Take the judge's word on a trait into an answer's scores, or count why there is none."""
        if verdict.value is None:
            self.unscored[verdict.failure] += 1
        else:
            self.scored += 1
            scores.shown[trait] = bool(verdict.value)


def rule_scores(persona: Persona, text: str) -> TraitScores:
    """Return the scores of the traits that a rule checks."""
    return TraitScores({trait.id: bool(trait.passes(text)) for trait in persona.rule_traits})


@dataclass(frozen=True)
class Chosen:
    """A row, its scores, and the other answers that its question got."""

    example: Example
    scores: TraitScores
    others: tuple[tuple[str, TraitScores], ...] = ()


@dataclass
class Pairs:
    """Pairs with both of their scores, and what did not become a pair."""

    preferences: list[Preference] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    """Two a pair: arms ``chosen`` and ``rejected``, metric fidelity."""
    dropped: list[Drop] = field(default_factory=list)

    def add(
        self, row: Chosen, rejected: str, scores: TraitScores, kind: str, margin: float
    ) -> None:
        """Take a pair of a row's answer and another one, as :meth:`take` does."""
        example = row.example
        if example.answer.strip() == rejected.strip():
            self._drop(example.id, kind, row.scores.share, scores.share, margin, example.source)
            return
        pair = Preference(
            prompt=example.prompt,
            chosen=example.answer,
            rejected=rejected,
            topic=example.topic,
            kind=kind,
            origin="teacher",
            source=example.source,
            parents=(example.id,),
        )
        self.take(pair, row.scores.share, scores.share, margin)

    def take(self, pair: Preference, good: float, bad: float, margin: float) -> None:
        """Take a pair whose scores are at least ``margin`` apart, else drop it by name.

        The first of its parents is its row.
        """
        row = pair.parents[0]
        if good - bad < margin:
            self._drop(row, pair.kind, good, bad, margin, pair.source)
            return
        self.preferences.append(pair)
        self.scores += [
            Score(
                arm=arm,
                prompt_id=row,
                response=pair.id,
                metric=FIDELITY,
                value=value,
                parents=(pair.id,),
            )
            for arm, value in (("chosen", good), ("rejected", bad))
        ]

    def _drop(
        self, row: str, kind: str, good: float, bad: float, margin: float, model: str
    ) -> None:
        self.dropped.append(
            Drop(
                record=row,
                stage=STAGE,
                reason="pair_too_close",
                detail=f"{kind}: {good:.2f} and {bad:.2f}, {margin:.2f} apart are asked for",
                source=model,
                parents=(row,),
            )
        )


class HardNegative(NamedTuple):
    """An answer to be written that lacks something on purpose."""

    place: int
    """Of its row."""
    kind: str
    rule: str
    """The rule that it breaks, where it breaks one."""


def plan_negatives(persona: Persona, rows: int, share: float, seed: int) -> list[HardNegative]:
    """Return the hard negatives that a share of so many rows gets, the kinds in turn."""
    draw = random.Random(f"pairs:{seed}")
    rules = [*persona.must, *persona.must_not, *persona.structure]
    return [
        HardNegative(place, RULE_BROKEN if number % 2 else VOICE_OFF, draw.choice(rules))
        for number, place in enumerate(draw.sample(range(rows), round(share * rows)))
    ]
