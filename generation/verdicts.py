"""Which of its traits an answer shows: rules first, then a judge's yes or no for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from generation.asker import Asker
from generation.questions import load_template
from generation.shapes import Verdicts, read_shape
from workbench.checks import Judge
from workbench.inference.endpoint import Endpoint
from workbench.persona import Persona
from workbench.records import Messages, user_prompt

OTHER_NUMBER = "other_number_of_verdicts"
"""Reason of a judge's reply that has more or fewer verdicts than it was asked questions."""


@dataclass(frozen=True)
class Verdict:
    """What was found of one answer, trait by trait; a trait that nobody could judge is absent."""

    shown: dict[str, bool]

    @property
    def score(self) -> float:
        """Share of the scored traits that the answer shows, 0 to 1."""
        return sum(self.shown.values()) / len(self.shown)


def verdicts_of(
    asker: Asker,
    persona: Persona,
    answers: Sequence[tuple[Messages, str]],
    judge: Endpoint | None,
    *,
    part: int = 1,
) -> list[Verdict]:
    """Return a verdict for each (prompt, answer).

    Args:
        asker: Asks the judge, one request an answer, all of the judge's traits in it.
        persona: Its traits.
        answers: Prompts without a system message, and an answer to each.
        judge: Where the judge is served; without one only rules count.
        part: Number of the part of the step.
    """
    rules = [
        {trait.id: bool(trait.passes(text)) for trait in persona.rule_traits} for _, text in answers
    ]
    asked = [(t.id, t.check.judge) for t in persona.traits if isinstance(t.check, Judge)]
    if judge is None or not asked or not answers:
        return [Verdict(shown) for shown in rules]
    template = load_template("judge", persona)
    prompts = [
        user_prompt(template.render(turns=prompt, answer=text, questions=[q for _, q in asked]))
        for prompt, text in answers
    ]
    outcomes = asker.ask(
        "judge",
        prompts,
        label="the judge looks at the answers",
        endpoint=judge,
        part=part,
        temperature=0,
        shape="verdicts",
    )
    for shown, outcome in zip(rules, outcomes, strict=True):
        if outcome.status != "ok":
            asker.unjudged[outcome.reason] += 1
            continue
        said = read_shape("verdicts", outcome.text)
        assert isinstance(said, Verdicts)
        # Another number of verdicts than of questions says nothing of any of them.
        if len(said.verdicts) != len(asked):
            asker.unjudged[OTHER_NUMBER] += 1
            continue
        asker.judged += 1
        pairs = zip(asked, said.verdicts, strict=True)
        shown.update({trait: verdict for (trait, _), verdict in pairs})
    return [Verdict(shown) for shown in rules]
