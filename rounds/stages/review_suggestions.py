"""What a judge, where one is configured, suggests to the reviewers of each answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from rounds.context import RoundContext
from workbench.console import track
from workbench.records import Example

if TYPE_CHECKING:
    from curation.argilla.records import JudgeOpinion

SCRATCH = ".review.scratch"
"""Folder of the round that keeps the judge's answers, so that a second push asks nothing."""


def judge_opinions(context: RoundContext, rows: Sequence[Example]) -> dict[str, JudgeOpinion]:
    """Return row id → the fidelity that the judge suggests; nothing without a judge.

    The judge is asked about each trait that needs one, the rules are about the others. The share
    of traits shown gives the score, and on the reviewers' scale from 1 to 5 the fidelity. A row
    about which the judge answered nothing gets no suggestion.

    Args:
        context: The round.
        rows: Answers that reviewers see alone; of a pair nothing may be suggested.

    Raises:
        UserError: Nothing answers at the judge's address, or it refuses the key or the model.
    """
    from curation.argilla.records import JudgeOpinion
    from evaluation.judge import ask_judge, transcript
    from evaluation.rubrics import trait_question
    from workbench.checks import Judge

    judge, persona = context.config.judge, context.persona
    if judge is None:
        return {}
    asked = [
        (row, trait_question(persona, trait, trait.check.judge, transcript(row.prompt), row.answer))
        for row in rows
        for trait in persona.traits
        if isinstance(trait.check, Judge)
    ]
    cache = context.round.folder / SCRATCH / "judge.jsonl"
    with track("asking the judge", len(asked)) as advance:
        questions = [question for _, question in asked]
        verdicts = ask_judge(judge, questions, advance, cache=cache)
    shown: dict[str, list[float]] = defaultdict(list)
    for (row, _), verdict in zip(asked, verdicts, strict=True):
        if verdict.value is not None:
            shown[row.id].append(verdict.value)
    opinions = {}
    for row in rows:
        if row.id in shown:
            by_rule = [float(bool(trait.passes(row.answer))) for trait in persona.rule_traits]
            share = fmean([*shown[row.id], *by_rule])
            opinions[row.id] = JudgeOpinion(1 + round(4 * share), round(share, 2), judge.model)
    return opinions
