"""A system prompt that a teacher writes anew, held to what the base then answers: GEPA.

In: training rows to reflect on, validation rows that decide, the base in a pool and a teacher. Out:
the prompt under which the validation answers show most of voice and sense. Called where the models
answer; no test prompt comes anywhere near it, and the teacher never sees a validation row.

The search is the package ``gepa`` (Agrawal et al. 2025, "GEPA: Reflective Prompt Evolution Can
Outperform Reinforcement Learning", https://arxiv.org/abs/2507.19457): a prompt of the front answers
a few training rows, the teacher reads the answers with what is wrong with them and writes another
one, and what answers those rows better is scored on the validation rows. It draws by a seed and
both kinds of answers are kept, so that a search that was killed walks the same way again for
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.answer import answer_arms
from evaluation.arms import Arm, ModelPool
from evaluation.scorers import SENSE, ScoringInput, voice_and_sense
from evaluation.sense import AnswerSense, SenseInput, measure_sense
from workbench.config import PromptBudget
from workbench.errors import UserError
from workbench.inference.client import complete_all, raise_if_refused
from workbench.inference.endpoint import Endpoint
from workbench.inference.engines.chats import longest_context
from workbench.inference.exchange import EndpointRequest
from workbench.language import say
from workbench.parts import split_words
from workbench.persona import FIDELITY, Persona
from workbench.prompts import safety_line, system_prompt, with_system
from workbench.records import Example, Response, user_prompt

if TYPE_CHECKING:
    from gepa.core.adapter import EvaluationBatch
    from gepa.core.state import GEPAState

STEP = "reflect"
"""Under which the teacher's answers are counted and paid."""
MINIBATCH = 3
"""Training rows that one reflection reads."""
_PART = "system_prompt"
_LONGER = 2.0
"""So much longer than the persona's own a prompt is asked to be at most."""
_MAX_TOKENS = 4096


class OptimisedPrompt(NamedTuple):
    """What a search found, and what it took."""

    text: str
    """The system prompt, the persona's safety line at its end."""
    score: float
    """Mean of voice and sense over the validation rows under it, 0 to 1."""
    plain_score: float
    """The same under the persona's own system prompt."""
    candidates: int
    """Prompts that answered the validation rows, the persona's own among them."""
    answers: int
    """Of the base."""
    reflections: int
    """Questions to the teacher."""


@dataclass
class PromptTask:
    """What a search is made of, and what it has spent."""

    persona: Persona
    pool: ModelPool
    train: Sequence[Example]
    """Rows whose answers the teacher reads."""
    validation: Sequence[Example]
    """Rows that decide."""
    sense: SenseInput
    """What sense is measured with; its rows are those of both."""
    teacher: Endpoint
    budget: PromptBudget
    cache: Path
    """File of the answers of both."""
    max_new_tokens: int
    batch_size: int
    seed: int = 0
    reflections: int = 0
    error: UserError | None = None
    """Why the teacher is asked nothing more."""
    begun: float = field(default_factory=time.monotonic)

    @property
    def language(self) -> str:
        """The persona's, in which the teacher is asked."""
        return self.persona.language

    def text(self, candidate: Mapping[str, str]) -> str:
        """Return a candidate's system prompt: the persona's boundary is not the teacher's."""
        line = safety_line(self.persona)
        own = candidate[_PART].replace(line, "").strip()
        return f"{own}\n{line}" if own else ""

    def responses(self, candidate: Mapping[str, str], rows: Sequence[Example]) -> list[Response]:
        """Return the base's answers to rows under a candidate; none where there is no room."""
        text = self.text(candidate)
        arm = Arm("base", system=text)
        model, _ = self.pool.use(Arm("base"))
        room = longest_context(model) - self.max_new_tokens
        chats = (with_system(text, row.prompt) for row in rows)
        if not text or any(len(self.pool.rendered(arm, chat)) > room for chat in chats):
            return []
        unique = list({row.id: row for row in rows}.values())
        return answer_arms(
            [arm],
            unique,
            self.pool,
            batch_size=self.batch_size,
            cache=self.cache,
            max_new_tokens=self.max_new_tokens,
        )

    def scored(self, candidate: Mapping[str, str], rows: Sequence[Example]) -> list[ScoredAnswer]:
        """Return each row's answer with what it is worth; a judge is not asked."""
        responses = [one for one in self.responses(candidate, rows) if not one.unanswered]
        measures = measure_sense(responses, self.sense)
        scores = voice_and_sense(ScoringInput(self.persona, responses, sense=measures))
        values: dict[str, dict[str, float]] = {one.prompt_id: {} for one in responses}
        for score in scores:
            if score.value is not None:
                values[score.prompt_id][score.metric] = score.value
        by_row = {one.prompt_id: one for one in responses}
        return [
            ScoredAnswer(row, one, values[row.id], measures.get(one.id))
            if (one := by_row.get(row.id))
            else ScoredAnswer(row, None, {}, None)
            for row in rows
        ]

    def reflect(self, prompt: str | list[dict[str, Any]]) -> str:
        """Return what the teacher answers to GEPA's question.

        Raises:
            UserError: It refuses, or does not answer; GEPA goes on, the search ends then.
        """
        if self.error:
            raise self.error
        self.reflections += 1
        request = EndpointRequest(
            user_prompt(str(prompt)),
            temperature=1.0,
            max_tokens=_MAX_TOKENS,
            seed=self.reflections,
        )
        try:
            (completion,) = complete_all(self.teacher, [request], cache=self.cache, step=STEP)
            raise_if_refused(self.teacher, [completion])
        except UserError as error:
            self.error = error
            raise
        if not completion.ok:
            raise UserError(f"the teacher gave no prompt ({completion.reason})")
        return completion.text

    def is_over(self, gepa_state: GEPAState[Any, Any]) -> bool:
        """Return whether the budget does not pay for another turn of the search."""
        turn = 2 * MINIBATCH + len(self.validation)
        return (
            self.error is not None
            or self.reflections >= self.budget.reflections
            or gepa_state.total_num_evals + turn > self.budget.answers
            or time.monotonic() - self.begun > self.budget.seconds
        )


class ScoredAnswer(NamedTuple):
    """One answer, what it is worth, and what is wrong with it."""

    row: Example
    response: Response | None
    """None where the prompt left no room, or there was no answer."""
    values: Mapping[str, float]
    """Trait, fidelity or sense → its score."""
    sense: AnswerSense | None

    @property
    def value(self) -> float:
        """The mean of voice and sense, each 0 to 1; 0 without an answer."""
        parts = [self.values[one] for one in (FIDELITY, SENSE) if one in self.values]
        return fmean(min(max(part, 0.0), 1.0) for part in parts) if parts else 0.0

    def shown(self, persona: Persona) -> dict[str, str]:
        """Return what the teacher reads of it, in the persona's language."""
        language = persona.language
        missing = [one.name for one in persona.traits if self.values.get(one.id) == 0.0]
        fault = self.sense.guard if self.sense else None
        lines = {
            say(language, "prompt.question"): self.row.question,
            say(language, "prompt.answer"): self.response.text if self.response else "–",
            say(language, "prompt.optimise.missing"): ", ".join(missing) or "–",
            say(language, "prompt.optimise.good"): self.row.answer,
        }
        if fault:
            why = say(language, f"report.guard.{fault}")
            lines[say(language, "prompt.optimise.fault")] = why
        return lines


class _Answers:
    """GEPA's view of the base: candidates in, scores and what the teacher reads out."""

    propose_new_texts = None

    def __init__(self, task: PromptTask) -> None:
        self.task = task

    def evaluate(
        self, batch: list[Example], candidate: dict[str, str], capture_traces: bool = False
    ) -> EvaluationBatch[ScoredAnswer, str]:
        from gepa.core.adapter import EvaluationBatch

        answers = self.task.scored(candidate, batch)
        return EvaluationBatch(
            outputs=[one.response.text if one.response else "" for one in answers],
            scores=[one.value for one in answers],
            trajectories=answers if capture_traces else None,
        )

    def make_reflective_dataset(
        self,
        candidate: dict[str, str],
        eval_batch: EvaluationBatch[ScoredAnswer, str],
        components_to_update: list[str],
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        answers = eval_batch.trajectories or []
        return {_PART: [one.shown(self.task.persona) for one in answers]}


class _Silent:
    def log(self, message: str) -> None:
        """Say nothing: the search tells itself in one line."""


def optimise_prompt(task: PromptTask) -> OptimisedPrompt:
    """Return the prompt under which the validation answers are best, the persona's own included.

    Raises:
        UserError: The teacher refuses or is down; what it answered before is kept.
    """
    from gepa.api import optimize

    plain = system_prompt(task.persona)
    words = round(len(split_words(plain)) * _LONGER)
    answers: Any = _Answers(task)
    result: Any = optimize(
        {_PART: plain.replace(safety_line(task.persona), "").strip()},
        trainset=list(task.train),
        valset=list(task.validation),
        adapter=answers,
        reflection_lm=task.reflect,
        reflection_minibatch_size=min(MINIBATCH, len(task.train)),
        reflection_prompt_template=say(task.language, "prompt.optimise.ask", words=words),
        stop_callbacks=task.is_over,
        logger=_Silent(),
        track_best_outputs=False,
        seed=task.seed,
    )
    if task.error:
        raise task.error
    best = result.best_idx
    return OptimisedPrompt(
        text=task.text(result.candidates[best]),
        score=result.val_aggregate_scores[best],
        plain_score=result.val_aggregate_scores[0],
        candidates=len(result.candidates),
        answers=result.total_metric_calls or 0,
        reflections=task.reflections,
    )
