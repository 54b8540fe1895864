"""Harder preference pairs than teacher against student: hard negatives, and candidates apart."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from generation.asker import Asker
from generation.outcome import STAGE
from generation.questions import load_template
from generation.verdicts import Verdict, verdicts_of
from workbench.inference.endpoint import Endpoint
from workbench.persona import FIDELITY, Persona
from workbench.records import Drop, Example, Messages, Preference, Score, user_prompt

VOICE_OFF = "voice_off"
"""Right content in another voice."""
RULE_BROKEN = "rule_broken"
"""Right voice, one rule broken."""
CANDIDATES = "candidates"
"""The best against the worst of several answers."""


@dataclass(frozen=True)
class Chosen:
    """A row, its verdict, and the other answers that its question got."""

    example: Example
    verdict: Verdict
    others: tuple[tuple[str, Verdict], ...] = ()


@dataclass
class Pairs:
    """Pairs with both of their scores, and what did not become a pair."""

    preferences: list[Preference] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    """Two a pair: arms ``chosen`` and ``rejected``, metric fidelity."""
    dropped: list[Drop] = field(default_factory=list)

    def add(
        self, row: Chosen, rejected: str, verdict: Verdict, kind: str, margin: float, model: str
    ) -> None:
        """Take a pair whose scores are at least ``margin`` apart, else drop it by name."""
        good, bad = row.verdict.score, verdict.score
        example = row.example
        if example.answer.strip() == rejected.strip() or good - bad < margin:
            self.dropped.append(
                Drop(
                    record=example.id,
                    stage=STAGE,
                    reason="pair_too_close",
                    detail=f"{kind}: {good:.2f} and {bad:.2f}, {margin:.2f} apart are asked for",
                    source=model,
                    parents=(example.id,),
                )
            )
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
        self.preferences.append(pair)
        self.scores += [
            Score(
                arm=arm,
                prompt_id=example.id,
                response=pair.id,
                metric=FIDELITY,
                value=value,
                parents=(pair.id,),
            )
            for arm, value in (("chosen", good), ("rejected", bad))
        ]


def make_pairs(
    asker: Asker,
    persona: Persona,
    rows: Sequence[Chosen],
    *,
    hard_negatives: float,
    margin: float,
    judge: Endpoint | None,
    seed: int,
) -> Pairs:
    """Return pairs from the candidates of the rows, and from hard negatives of a share of them.

    Args:
        asker: Asks the teacher for hard negatives, and the judge.
        persona: Its rules are what hard negatives break.
        rows: The rows, each with its other candidates.
        hard_negatives: Share of the rows that get a hard negative, 0 to 1.
        margin: Least difference of the two fidelities of a pair, 0 to 1.
        judge: Where the judge is served, if one is.
        seed: Of which rows and which rules.
    """
    pairs, model = Pairs(), asker.teacher.model
    for row in rows:
        if row.others:
            text, verdict = min(row.others, key=lambda other: other[1].score)
            pairs.add(row, text, verdict, CANDIDATES, margin, model)
    draw = random.Random(f"pairs:{seed}")
    missed = draw.sample(list(rows), round(hard_negatives * len(rows)))
    if not missed:
        return pairs
    asked = list(_asked(persona, missed, draw))
    outcomes = asker.ask(
        "hard_negatives", [prompt for _, prompt in asked], label="the teacher writes hard negatives"
    )
    found = []
    for row, (kind, _), outcome in zip(missed, asked, outcomes, strict=True):
        if outcome.status == "ok":
            found.append((row, kind, outcome.text))
        else:
            dropped = outcome.drop(row.example.id, source=model, parents=(row.example.id,))
            pairs.dropped.append(dropped.evolve(detail=f"hard negative: {dropped.detail}"))
    verdicts = verdicts_of(
        asker, persona, [(row.example.prompt, text) for row, _, text in found], judge, part=2
    )
    for (row, kind, text), verdict in zip(found, verdicts, strict=True):
        pairs.add(row, text, verdict, kind, margin, model)
    return pairs


def _asked(
    persona: Persona, rows: Sequence[Chosen], draw: random.Random
) -> Iterator[tuple[str, Messages]]:
    """Yield the kind and the prompt of a hard negative of each row, the kinds in turn."""
    template = load_template("hard_negative", persona)
    rules = [*persona.must, *persona.must_not, *persona.structure]
    for number, row in enumerate(rows):
        kind = RULE_BROKEN if number % 2 else VOICE_OFF
        text = template.render(
            persona=persona,
            question=row.example.question,
            answer=row.example.answer,
            kind=kind,
            rule=draw.choice(rules),
        )
        yield kind, user_prompt(text)
