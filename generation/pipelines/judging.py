"""The steps that say which traits an answer shows, for every pipeline that asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import InstanceOf

from generation.distilabel.tasks import EndpointLLM, Row, Rows, RowStep, RowTask
from generation.pairs import JudgeAccount, TraitScores, rule_scores
from generation.teacher_client import TeacherClient
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.inference.judge import STEP, trait_questions, verdict_of, vote_of
from workbench.persona import Persona


def judged(
    answers: Any,
    persona: Persona,
    client: TeacherClient,
    judge: Endpoint | None,
    account: JudgeAccount,
    *,
    of: str = "texts",
    name: str,
    label: str = "",
) -> Any:
    """Return the last step of those that score what came of a step.

    Scores of the answers in column ``of`` go to the same name with ``_scores``. Without a judge
    only rules count; ``account`` counts what it scored.
    """
    scored = answers >> ScoreByRules(name=f"rules_{name}", persona=persona, of=of)
    if judge is None:
        return scored
    llm = EndpointLLM(client=client, step=STEP, endpoint=judge)
    return scored >> JudgeTraits(
        name=f"judge_{name}", llm=llm, persona=persona, account=account, of=of, label=label
    )


class ScoreByRules(RowStep):
    """The traits that a rule checks."""

    persona: Persona
    of: str

    @property
    def inputs(self) -> list[str]:
        """The answers."""
        return [self.of]

    @property
    def outputs(self) -> list[str]:
        """The scores of each."""
        return [f"{self.of}_scores"]

    def change(self, row: Row) -> Row:
        """Score all answers of a row."""
        return {f"{self.of}_scores": [rule_scores(self.persona, text) for text in row[self.of]]}


class JudgeTraits(RowTask):
    """The traits that no rule can check: one request for each answer and trait."""

    persona: Persona
    account: InstanceOf[JudgeAccount]
    of: str

    @property
    def inputs(self) -> list[str]:
        """The conversation, the answers to it, and what rules say of them."""
        return ["prompt", self.of, f"{self.of}_scores"]

    @property
    def outputs(self) -> list[str]:
        """The same scores, with the judge's."""
        return [f"{self.of}_scores"]

    def parts(self, row: Row) -> Rows:
        """Ask about each answer and trait by itself."""
        return [
            {"question": question, "scores": scores}
            for text, scores in zip(row[self.of], row[f"{self.of}_scores"], strict=True)
            for question in trait_questions(self.persona, row["prompt"], text)
        ]

    def request(self, row: Row) -> EndpointRequest:
        """Ask as a judge is asked anywhere."""
        request: EndpointRequest = row["question"].ask.request()
        return request

    def take(self, row: Row, parts: Rows, completions: Sequence[Completion]) -> Row:
        """Add the judge's word to the scores, or count why there is none."""
        for part, completion in zip(parts, completions, strict=True):
            scores: TraitScores = part["scores"]
            verdict = verdict_of([vote_of(completion)])
            self.account.take(scores, part["question"].metric, verdict)
        return {}
