"""Which traits an answer shows, and pairs of answers that differ in them.

:mod:`generation.teacher` scores its candidates here, by rules first and a judge's yes or no for the
traits that no rule can check, and gets pairs that are harder than teacher against student: hard
negatives, and candidates far apart.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from generation.distilabel.jobs import VERDICT
from generation.prompts import render
from generation.teacher_client import STAGE, TeacherClient, drop_of
from workbench.config import GenerateSettings
from workbench.inference.endpoint import Endpoint
from workbench.inference.judge import STEP as JUDGE_STEP
from workbench.inference.judge import JudgeVerdict, trait_questions, verdict_of, vote_of
from workbench.persona import FIDELITY, Persona
from workbench.records import Drop, Example, Messages, Preference, Score, user_prompt

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


def trait_scores(
    client: TeacherClient,
    persona: Persona,
    answers: Sequence[tuple[Messages, str]],
    judge: Endpoint | None,
    account: JudgeAccount,
    *,
    part: int = 1,
) -> list[TraitScores]:
    """Return the scores of each (prompt, answer).

    Args:
        client: Asks the judge, one request for each answer and trait.
        persona: Its traits.
        answers: Prompts without a system message, and an answer to each.
        judge: Where the judge is served; without one only rules count.
        account: Counts what the judge scored.
        part: Number of the part of the step.
    """
    scores = [rule_scores(persona, text) for _, text in answers]
    asked = [
        (place, question)
        for place, answer in enumerate(answers)
        for question in trait_questions(persona, *answer)
    ]
    if judge is None or not asked:
        return scores
    requests = [question.ask.request() for _, question in asked]
    completions = client.ask(
        JUDGE_STEP,
        [request.messages for request in requests],
        label="the judge looks at the answers",
        endpoint=judge,
        part=part,
        temperature=requests[0].temperature,
        seed=requests[0].seed,
        schema_name=VERDICT,
    )
    for (place, question), completion in zip(asked, completions, strict=True):
        account.take(scores[place], question.metric, verdict_of([vote_of(completion)]))
    return scores


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
        self, row: Chosen, rejected: str, scores: TraitScores, kind: str, margin: float, model: str
    ) -> None:
        """Take a pair of a row's answer and another one, as :meth:`take` does."""
        example = row.example
        if example.answer.strip() == rejected.strip():
            self._drop(example.id, kind, row.scores.share, scores.share, margin, model)
            return
        pair = Preference(
            prompt=example.prompt,
            chosen=example.answer,
            rejected=rejected,
            topic=example.topic,
            kind=kind,
            origin="teacher",
            source=model,
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


def make_pairs(
    client: TeacherClient,
    persona: Persona,
    rows: Sequence[Chosen],
    settings: GenerateSettings,
    *,
    judge: Endpoint | None,
    account: JudgeAccount,
    seed: int,
) -> Pairs:
    """Return pairs from the candidates of the rows, and from hard negatives of a share of them.

    Args:
        client: Asks the teacher for hard negatives, and the judge.
        persona: Its rules are what hard negatives break.
        rows: The rows, each with its other candidates.
        settings: ``hard_negatives``, a share of the rows, and ``margin``.
        judge: Where the judge is served, if one is.
        account: Counts what the judge scored.
        seed: Of which rows and which rules.
    """
    pairs, model = Pairs(), client.teacher.model
    for row in rows:
        if row.others:
            text, scores = min(row.others, key=lambda other: other[1].share)
            pairs.add(row, text, scores, CANDIDATES, settings.margin, model)
    draw = random.Random(f"pairs:{seed}")
    drawn = draw.sample(list(rows), round(settings.hard_negatives * len(rows)))
    negatives = _hard_negatives(client, persona, drawn, draw, pairs)
    texts = [(row.example.prompt, text) for row, _, text in negatives]
    scored = trait_scores(client, persona, texts, judge, account, part=2) if texts else []
    for (row, kind, text), scores in zip(negatives, scored, strict=True):
        pairs.add(row, text, scores, kind, settings.margin, model)
    return pairs


def _hard_negatives(
    client: TeacherClient,
    persona: Persona,
    rows: Sequence[Chosen],
    draw: random.Random,
    pairs: Pairs,
) -> list[tuple[Chosen, str, str]]:
    """Return row, kind and text of every hard negative that came; drop the others."""
    if not rows:
        return []
    requests = list(_requests(persona, rows, draw))
    completions = client.ask(
        "hard_negatives",
        [prompt for _, prompt in requests],
        label="the teacher writes hard negatives",
    )
    negatives = []
    for row, (kind, _), completion in zip(rows, requests, completions, strict=True):
        if completion.ok:
            negatives.append((row, kind, completion.text))
        else:
            source, parents = client.teacher.model, (row.example.id,)
            drop = drop_of(completion, row.example.id, source=source, parents=parents)
            pairs.dropped.append(drop.evolve(detail=f"hard negative: {drop.detail}"))
    return negatives


def _requests(
    persona: Persona, rows: Sequence[Chosen], draw: random.Random
) -> Iterator[tuple[str, Messages]]:
    """Yield the kind and the prompt of a hard negative of each row, the kinds in turn."""
    rules = [*persona.must, *persona.must_not, *persona.structure]
    for number, row in enumerate(rows):
        kind = RULE_BROKEN if number % 2 else VOICE_OFF
        text = render(
            "hard_negative",
            persona,
            question=row.example.question,
            answer=row.example.answer,
            kind=kind,
            rule=draw.choice(rules),
        )
        yield kind, user_prompt(text)
