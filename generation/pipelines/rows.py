"""The pipeline of rows: a question for every place of the plan, answers in persona, hard negatives.

:func:`rows_pipeline` is to be read from top to bottom; :mod:`generation.teacher` runs it and makes
records of its rows. A row stands for one planned question from the first step to the last, whatever
becomes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pydantic import InstanceOf

from generation.distilabel.pipeline import RowPipeline, RowsOf
from generation.distilabel.tasks import AllRows, Columns, EndpointLLM, Row, Rows, RowStep, RowTask
from generation.pairs import JudgeAccount, plan_negatives
from generation.pipelines.judging import judged
from generation.pipelines.own_steps import own_steps
from generation.prompts import nearest_examples, render
from generation.questions import ROUNDS, FollowUps, Opening, Pool, Questions
from generation.teacher_client import TeacherClient
from generation.topic_plan import FOLLOW_UP, PLAIN, PlannedQuestion
from workbench.config import GenerateSettings
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.reply import Schema
from workbench.persona import Persona
from workbench.prompts import system_prompt, with_system
from workbench.records import Example, Messages, as_messages, last_user_turn, user_prompt

ANSWER_TEMPERATURE = 0.7
QUESTION_TEMPERATURE = 1.0

EMPTY: Row = {"prompt": None, "system": "", "completions": (), "texts": []}
"""Columns of a place that has no question yet."""


@dataclass
class RowJob:
    """What the steps of a job share."""

    client: TeacherClient
    pool: Pool
    settings: GenerateSettings
    judge: Endpoint | None = None
    account: JudgeAccount = field(default_factory=JudgeAccount)

    def llm(self, step: str) -> EndpointLLM:
        """Return the teacher, asked under a step's name."""
        return EndpointLLM(client=self.client, step=step)


def rows_pipeline(job: RowJob, teachers: Sequence[int]) -> RowPipeline:
    """Return the pipeline of a job's rows; ``teachers`` says whose each planned question is."""
    pool, follow_ups = job.pool, FollowUps(job.pool)
    plan = [
        {"place": place, "cell": cell, "teacher": teacher, **EMPTY}
        for place, (cell, teacher) in enumerate(zip(pool.cells, teachers, strict=True))
    ]
    with RowPipeline(name="rows") as pipeline:
        rows: Any = RowsOf(name="plan", rows=plan)
        for turn in range(1, ROUNDS + 1):
            rows = rows >> Ask(source=pool, turn=turn) >> _write(job, "questions", turn)
            rows = rows >> TakeQuestions(job=job)
        rows = _answered(rows, job, "answers")
        if any(cell.kind == FOLLOW_UP for cell in pool.cells):
            rows = rows >> OpenFollowUps(follow_ups=follow_ups)
            for turn in range(1, ROUNDS + 1):
                rows = rows >> Ask(source=follow_ups, turn=turn) >> _write(job, "follow_ups", turn)
                rows = rows >> TakeQuestions(job=job, follow_ups=follow_ups)
            rows = _answered(rows, job, "answers_to_follow_ups")
        score = partial(
            judged, persona=pool.persona, client=job.client, judge=job.judge, account=job.account
        )
        rows = score(rows, name="answers", label="the judge looks at the answers")
        rows = rows >> Choose() >> PlanNegatives(job=job)
        rows = rows >> WriteNegative(llm=job.llm("hard_negatives"), persona=pool.persona)
        score(rows, of="negatives", name="negatives", label="the judge looks at hard negatives")
    return pipeline


def _write(job: RowJob, step: str, turn: int) -> WriteQuestions:
    label = f"the teacher writes {step.replace('_', '-')} (round {turn})"
    return WriteQuestions(name=f"{step}_{turn}", llm=job.llm(step), label=label)


def _answered(rows: Any, job: RowJob, name: str) -> Any:
    """Return the last step of those that answer what has no answer yet."""
    rows = rows >> ShowExamples(name=f"examples_for_{name}", job=job)
    rows = rows >> AnswerInPersona(
        name=name, llm=job.llm("answers"), num_generations=job.settings.candidates
    )
    return own_steps(rows, job.settings.steps, job.client, name)


class Ask(AllRows):
    """Puts together what the teacher is asked for the places that lack a question."""

    source: InstanceOf[Pool] | InstanceOf[FollowUps]
    turn: int

    gives: ClassVar[Columns] = ("ask",)
    """The number and the text of a request, at the first row that it is for."""

    def change_all(self, rows: Rows) -> Rows:
        """Give each request to its first row."""
        asks = {ask[1].slots[0]: ask for ask in enumerate(self.source.requests(self.turn))}
        return [{**row, "ask": asks.get(row["place"])} for row in rows]


class WriteQuestions(RowTask):
    """New questions, as JSON."""

    temperature: float = QUESTION_TEMPERATURE
    reply_schema: Schema | None = Questions

    takes: ClassVar[Columns] = ("ask",)
    gives: ClassVar[Columns] = ("reply",)
    """How the request ended."""

    def wants(self, row: Row) -> bool:
        """Return whether a request is the row's."""
        return row["ask"] is not None

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask for the questions of some places."""
        return as_messages(input["ask"][1].prompt)

    def take(self, row: Row, parts: Rows, completions: Sequence[Completion]) -> Row:
        """Keep the reply, whatever it is."""
        return {"reply": completions[0]}


class TakeQuestions(AllRows):
    """Takes those questions that are new, in the order in which they were asked for."""

    job: InstanceOf[RowJob]
    follow_ups: InstanceOf[FollowUps] | None = None

    takes: ClassVar[Columns] = ("ask", "reply")
    gives: ClassVar[Columns] = ("question", "prompt")
    """A row's question, and the conversation that ends with it."""

    def change_all(self, rows: Rows) -> Rows:
        """Fill the pool, and rows from it."""
        pool, client = self.job.pool, self.job.client
        for row in sorted((row for row in rows if row["ask"]), key=lambda row: row["ask"][0]):
            before = len(pool.dropped)
            pool.take(row["ask"][1], row["reply"], client.teachers[row["teacher"]].model)
            for drop in pool.dropped[before:]:
                client.show(row, dropped=drop.reason)
        return [{**row, **self._question(row)} for row in rows]

    def _question(self, row: Row) -> Row:
        place = row["place"]
        question = self.job.pool.taken.get(place)
        if row["prompt"] or question is None:
            return {}
        ups = self.follow_ups
        return {"question": question, "prompt": ups.prompt(place) if ups else user_prompt(question)}


class OpenFollowUps(AllRows):
    """Collects the new answers that a conversation may go on from; what goes on comes last."""

    follow_ups: InstanceOf[FollowUps]

    takes: ClassVar[Columns] = ("prompt", "texts")

    def change_all(self, rows: Rows) -> Rows:
        """Take the first answer to every ordinary question."""
        self.follow_ups.open(
            [
                Opening(row["cell"].topic, row["prompt"], row["texts"][0])
                for row in rows
                if row["texts"] and row["cell"].kind == PLAIN
            ]
        )
        return sorted(rows, key=lambda row: row["cell"].kind == FOLLOW_UP)


class ShowExamples(AllRows):
    """Chooses for each new question the examples that the teacher is shown."""

    job: InstanceOf[RowJob]

    takes: ClassVar[Columns] = ("prompt",)
    gives: ClassVar[Columns] = ("system", "parents")
    """The system prompt, and the ids of what the answer comes of."""

    def change_all(self, rows: Rows) -> Rows:
        """Look at all new questions at once."""
        pool = self.job.pool
        new = [row for row in rows if row["prompt"] and not row["system"]]
        asked = [(row["cell"].topic, last_user_turn(row["prompt"])) for row in new]
        for row, shown in zip(new, nearest_examples(pool.persona, pool.seeds, asked), strict=True):
            row["system"] = _system(pool.persona, shown, row["cell"])
            row["parents"] = _parents(pool.persona, pool.seeds, row["prompt"], shown)
        return rows


def _system(persona: Persona, shown: Sequence[Example], cell: PlannedQuestion) -> str:
    return "\n".join(filter(None, (system_prompt(persona, shown), cell.emphasis(persona))))


def _parents(
    persona: Persona, seeds: Sequence[Example], prompt: Messages, shown: Sequence[Example]
) -> tuple[str, ...]:
    """Return what an answer came of: the persona, a seed that it goes on from, examples shown."""
    # A conversation that goes on from a seed holds that seed's answer.
    opened = {seed.prompt: seed.id for seed in seeds} if prompt[1:] else {}
    ids = (persona.record_id, opened.get(prompt[:1], ""), *(seed.id for seed in shown))
    return tuple(dict.fromkeys(filter(None, ids)))


class AnswerInPersona(RowTask):
    """Answers in persona, ``num_generations`` candidates to each question."""

    label: str = "the teacher answers"
    temperature: float = ANSWER_TEMPERATURE

    takes: ClassVar[Columns] = ("prompt", "system")
    """The conversation, and who the teacher is to be."""
    gives: ClassVar[Columns] = ("completions", "texts")
    """How the requests ended, and the texts that came, each once."""

    def wants(self, row: Row) -> bool:
        """Return whether a row has a question that nobody answered."""
        return bool(row["prompt"]) and not row["completions"]

    def parts(self, row: Row) -> Rows:
        """Ask for each candidate by another seed."""
        first = self.llm.client.seed
        return [{**row, "seed": first + number} for number in range(self.num_generations)]

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask in persona."""
        return as_messages(with_system(input["system"], input["prompt"]))

    def take(self, row: Row, parts: Rows, completions: Sequence[Completion]) -> Row:
        """Keep all ends; a text that came twice counts once."""
        texts = dict.fromkeys(one.text for one in completions if one.ok)
        self.llm.client.show(
            row,
            prompt=row["prompt"],
            answer=next(iter(texts), ""),
            dropped="" if texts else completions[0].reason,
        )
        return {"completions": tuple(completions), "texts": list(texts)}


class Choose(RowStep):
    """The candidate that shows most traits becomes the answer."""

    takes: ClassVar[Columns] = ("texts", "texts_scores")
    gives: ClassVar[Columns] = ("answer", "scores", "others", "negatives")
    """The best, its scores, and the other candidates with theirs."""

    def change(self, row: Row) -> Row:
        """Choose; the first of equals."""
        candidates = list(zip(row["texts"], row["texts_scores"], strict=True))
        if not candidates:
            return {"answer": None, "negatives": []}
        best = max(candidates, key=lambda pair: pair[1].share)
        others = tuple(pair for pair in candidates if pair is not best)
        return {"answer": best[0], "scores": best[1], "others": others, "negatives": []}


class PlanNegatives(AllRows):
    """Draws the rows that get a hard negative."""

    job: InstanceOf[RowJob]

    takes: ClassVar[Columns] = ("answer",)
    gives: ClassVar[Columns] = ("negative",)
    """Number and kind of a row's hard negative."""

    def change_all(self, rows: Rows) -> Rows:
        """Draw among the rows that have an answer."""
        rows = [{**row, "negative": None} for row in rows]
        answered = [row for row in rows if row["answer"] is not None]
        share, pool = self.job.settings.hard_negatives, self.job.pool
        planned = plan_negatives(pool.persona, len(answered), share, pool.seed)
        for number, negative in enumerate(planned):
            answered[negative.place]["negative"] = (number, negative)
        return rows


class WriteNegative(RowTask):
    """An answer that lacks something on purpose: the voice, or one rule."""

    label: str = "the teacher writes hard negatives"
    persona: Persona

    takes: ClassVar[Columns] = ("question", "answer", "negative")
    """The row, and how its negative is to be."""
    gives: ClassVar[Columns] = ("negatives",)
    """The hard negative, alone in a list."""

    def wants(self, row: Row) -> bool:
        """Return whether the row was drawn."""
        return row["negative"] is not None

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Ask for an answer of its kind."""
        _, negative = input["negative"]
        text = render(
            "hard_negative",
            self.persona,
            question=input["question"],
            answer=input["answer"],
            kind=negative.kind,
            rule=negative.rule,
        )
        return as_messages(user_prompt(text))

    def format_output(self, output: str | None, input: Row) -> Row:
        """Return what was written."""
        return {"negatives": [output]}
