"""Steps and tasks whose rows go each by themselves, and the LLMs that they ask.

They are distilabel's: columns in, columns out, ``format_input`` and ``format_output``. What is
mended here is that one failed request empties its whole batch there: in ours a row is asked for by
itself, and a request that failed is a :class:`~workbench.inference.completion.Completion` in its
row. :class:`~generation.distilabel.pipeline.RowPipeline` runs them, a row as far as it gets while
others wait; distilabel's own runner would run them as well, batch by batch.

Distilabel reads the annotation of ``process`` as it stands, so that here none may be a string.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from distilabel.models.llms.base import LLM
from distilabel.steps import GlobalStep, Step, StepInput
from distilabel.steps.tasks import Task
from pydantic import ConfigDict, InstanceOf

from generation.teacher_client import TeacherClient
from workbench.inference.client import run
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.inference.reply import Schema
from workbench.records import Message, Messages, as_messages

if TYPE_CHECKING:
    from distilabel.typing import GenerateOutput

Row = dict[str, Any]
Rows = list[Row]
Columns = tuple[str, ...]
LOST = "lost"
"""Column of the completion that left a row without what was asked for."""

TEACHER = "teacher"
"""Column of the place of a row's teacher among the job's."""


class EndpointLLM(LLM):  # type: ignore[misc]
    """Answers of one of a job's endpoints, each in the job's books."""

    client: InstanceOf[TeacherClient]
    step: str
    """Name under which the requests are counted."""
    endpoint: Endpoint | None = None
    """Who is asked; the row's teacher by default."""

    @property
    def endpoints(self) -> list[Endpoint]:
        """All who may be asked."""
        return [self.endpoint] if self.endpoint else list(self.client.teachers)

    @property
    def model_name(self) -> str:
        """Names of the endpoints' models."""
        return ", ".join(one.model for one in self.endpoints)

    async def complete(self, request: EndpointRequest, teacher: int = 0) -> Completion:
        """Return how a request ended; ``teacher`` is the place of a row's teacher."""
        return await self.client.complete(self.step, request, self.endpoints[teacher])

    def generate(
        self, inputs: list[Any], num_generations: int = 1, temperature: float = 0.7
    ) -> "list[GenerateOutput]":
        """Answer chats of anybody's task, each with an end of its own.

        Each of the ``num_generations`` answers to a chat is asked for with another seed.
        """
        seeds = [self.client.seed + number for number in range(num_generations)]
        requests = [
            EndpointRequest(chat_of(chat), temperature=temperature, seed=seed)
            for chat in inputs
            for seed in seeds
        ]
        completions = run(self._all(requests))
        starts = range(0, len(completions), num_generations)
        return [_output(completions[start : start + num_generations]) for start in starts]

    async def _all(self, requests: Sequence[EndpointRequest]) -> list[Completion]:
        async with self.client.asking(self.endpoints):
            return list(await asyncio.gather(*(self.complete(one) for one in requests)))


def chat_of(turns: Sequence[dict[str, Any]]) -> Messages:
    """Return a chat in OpenAI's format as messages."""
    return tuple(Message.model_validate(turn) for turn in turns)


def _output(completions: Sequence[Completion]) -> "GenerateOutput":
    return {
        "generations": [one.text if one.ok else None for one in completions],
        "statistics": {
            "input_tokens": [one.input_tokens for one in completions],
            "output_tokens": [one.output_tokens for one in completions],
        },
    }


class _WithColumns:
    """Columns as a class says them; a step whose columns depend on its fields says them itself."""

    takes: ClassVar[Columns] = ()
    """Columns that have to be there: distilabel's ``inputs``."""
    gives: ClassVar[Columns] = ()
    """Columns that it adds or changes: distilabel's ``outputs``."""

    @property
    def inputs(self) -> list[str]:
        """What a step before has to bring."""
        return list(self.takes)

    @property
    def outputs(self) -> list[str]:
        """What later steps may count on."""
        return list(self.gives)


class RowStep(_WithColumns, Step):  # type: ignore[misc]
    """A step that looks at one row at a time and asks nobody."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    label: str = ""
    """What is being done, for the progress; without one it is not shown."""

    @abstractmethod
    def change(self, row: Row) -> Row:
        """Return the columns of a row that change."""

    async def fill(self, row: Row) -> Row:
        """Return a row with what the step adds."""
        return {**row, **self.change(row)}

    def process(self, inputs: StepInput) -> Iterator[Rows]:
        """Take rows through the step, as any runner of distilabel does."""
        yield [{**row, **self.change(row)} for row in inputs]


class AllRows(_WithColumns, GlobalStep):  # type: ignore[misc]
    """A step that has to see all rows at once."""

    @abstractmethod
    def change_all(self, rows: Rows) -> Rows:
        """Return all rows with what the step adds."""

    def process(self, inputs: StepInput) -> Iterator[Rows]:
        """Take rows through the step, as any runner of distilabel does."""
        yield self.change_all(inputs)


class RowTask(_WithColumns, Task):  # type: ignore[misc]
    """A task whose rows ask each for themselves; one that has nothing to ask passes.

    A subclass says which rows ask (:meth:`wants`), what (:meth:`format_input`, or the whole
    :meth:`request`), and what the answer brings (:meth:`format_output`, or :meth:`take`, which sees
    failures as well).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    label: str = ""
    """What is being done, for the progress."""
    temperature: float = 0.7
    reply_schema: Schema | None = None
    """What a JSON answer must hold; None for text."""

    def wants(self, row: Row) -> bool:
        """Return whether a row asks anything."""
        return True

    def parts(self, row: Row) -> Rows:
        """Return a row's requests, each as the row with what tells them apart; one by default."""
        return [row]

    def format_input(self, input: Row) -> list[dict[str, str]]:
        """Return the chat that a part of a row asks."""
        return as_messages(self.request(input).messages)

    def format_output(self, output: str | None, input: Row) -> Row:
        """Return the columns that an answer brings."""
        return {}

    def request(self, row: Row) -> EndpointRequest:
        """Return what a part of a row asks."""
        return EndpointRequest(
            chat_of(self.format_input(row)),
            temperature=self.temperature,
            seed=row.get("seed", self.llm.client.seed),
            schema=self.reply_schema,
        )

    def take(self, row: Row, parts: Rows, completions: Sequence[Completion]) -> Row:
        """Return the columns that the ends of a row's requests bring."""
        (completion,) = completions
        if completion.ok:
            columns: Row = self.format_output(completion.text, row)
            return columns
        return self.lost(row, completion)

    def lost(self, row: Row, completion: Completion) -> Row:
        """Return the columns of a row whose request failed."""
        return {LOST: completion}

    async def fill(self, row: Row) -> Row:
        """Return a row with what its requests bring."""
        parts = self.parts(row) if self.wants(row) else []
        if not parts:
            return row
        teacher = 0 if self.llm.endpoint else row.get(TEACHER, 0)
        asked = [self.llm.complete(self.request(part), teacher) for part in parts]
        # One by itself needs no turn of the loop of its own.
        ended = await asyncio.gather(*asked) if asked[1:] else [await asked[0]]
        return {**row, **self.take(row, parts, ended)}

    def process(self, inputs: StepInput) -> Iterator[Rows]:
        """Take rows through the task, as any runner of distilabel does."""
        yield run(self._filled(inputs))

    async def _filled(self, rows: Rows) -> Rows:
        async with self.llm.client.asking(self.llm.endpoints):
            return list(await asyncio.gather(*(self.fill(row) for row in rows)))
