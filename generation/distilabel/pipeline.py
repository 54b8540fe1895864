"""Our one pipeline, prompts in and one completion each out, and the two LLMs that run in it.

The process of :mod:`generation.distilabel.worker` makes it of a
:class:`~generation.distilabel.jobs.Job`; distilabel forks a process for each of its steps.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distilabel.models.llms.base import LLM
from distilabel.pipeline import Pipeline, local
from distilabel.pipeline.base import _STEP_LOAD_FAILED_CODE, _STEP_NOT_LOADED_CODE
from distilabel.steps import LoadDataFromDicts, StepResources
from distilabel.steps.tasks import ChatGeneration
from pydantic import PrivateAttr

from generation.distilabel.jobs import SCHEMAS, Job, LocalModel, Served, Tally, send_news
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache, Answers
from workbench.inference.client import EndpointClient
from workbench.inference.completion import Completion
from workbench.inference.exchange import EndpointRequest
from workbench.records import Message, Messages

if TYPE_CHECKING:
    from distilabel.typing import GenerateOutput

    from workbench.inference.engines.chats import ChatAnswer

COMPLETION = "completion"
"""Key of the completion in what an LLM returns; a task names its column ``llm_<task>_…``."""
STEP = "answers"
"""Name of the step that asks the LLM."""
COMPLETION_COLUMN = f"llm_{STEP}_{COMPLETION}"
_REASON_SECONDS = 10.0


class PromptPipeline(Pipeline):  # type: ignore[misc]
    """Distilabel's pipeline, which looks for its loaded steps every 50 ms instead of 2.5 s."""

    def _run_steps(self, steps: Any) -> None:
        super()._run_steps(steps)
        # What comes next looks at once, and then again only after 2.5 s.
        while not self._stop_called and any(
            self._steps_load_status[step] == _STEP_NOT_LOADED_CODE for step in steps
        ):
            time.sleep(0.05)
        # A failure is known before its reason, which comes from the worker by another way.
        end = time.monotonic() + _REASON_SECONDS
        failed = _STEP_LOAD_FAILED_CODE in (self._steps_load_status[step] for step in steps)
        while failed and local._SUBPROCESS_EXCEPTION is None and time.monotonic() < end:
            time.sleep(0.05)


def prompt_pipeline(
    job: Job, rows: list[dict[str, Any]], cache_dir: Path, bookkeeper: str = ""
) -> PromptPipeline:
    """Return the pipeline of a job over ``{"key": int, "messages": […]}`` rows.

    Args:
        job: The job.
        rows: Its rows.
        cache_dir: Folder for what distilabel leaves.
        bookkeeper: Name of the Ray actor that the workers of a cluster report to.
    """
    llm, workers = job.llm, 1
    if job.cluster and isinstance(llm, Served):
        workers = min(job.cluster.workers, llm.endpoint.concurrency, len(rows))
        llm = llm.share(workers, bookkeeper)
    # Batches are barriers, so a worker gets one; the client bounds what is under way inside it. All
    # rows are loaded at once, or the second worker would wait until the first is done.
    part = -(-len(rows) // workers)
    pipeline = PromptPipeline(name=job.name, cache_dir=cache_dir)
    with pipeline:
        load = LoadDataFromDicts(name="prompts", data=rows, batch_size=len(rows))
        chat = ChatGeneration(
            name=STEP,
            llm=make_llm(llm),
            input_batch_size=part,
            resources=StepResources(replicas=workers),
            add_raw_input=False,
            add_raw_output=False,
        )
        load >> chat
    return pipeline


def make_llm(settings: LocalModel | Served) -> LLM:
    """Return the LLM that a job asks for."""
    kind = LocalLLM if isinstance(settings, LocalModel) else EndpointLLM
    return kind(settings=settings.model_dump_json())


def as_output(completion: Completion) -> GenerateOutput:
    """Return a completion in distilabel's form."""
    return {
        "generations": [completion.text if completion.ok else None],
        "statistics": {
            "input_tokens": [completion.input_tokens],
            "output_tokens": [completion.output_tokens],
        },
        COMPLETION: [completion.model_dump_json()],
    }


class _JobLLM(LLM):  # type: ignore[misc]
    """A job's settings as distilabel's LLM: every request has an end of its own.

    Steps are pickled and dumped, so it holds its settings as JSON, and nothing else until it is
    loaded.
    """

    settings: str
    """A :class:`~generation.distilabel.jobs.Served` or a
    :class:`~generation.distilabel.jobs.LocalModel` as JSON."""

    def load(self) -> None:
        """Send the news that it works here."""
        super().load()
        send_news(worker=os.getpid())

    def unload(self) -> None:
        """Send the news that it is done."""
        super().unload()
        send_news(worker=0)

    def generate(self, inputs: list[Any], num_generations: int = 1) -> list[GenerateOutput]:
        """Answer each conversation.

        Args:
            inputs: Conversations in chat format.
            num_generations: Must be 1; further answers are asked for with another seed.

        Returns:
            One output for each input, with its
            :class:`~workbench.inference.completion.Completion`.
        """
        if num_generations != 1:
            raise ValueError("a job asks for one answer to each conversation")
        chats = [tuple(Message.model_validate(turn) for turn in chat) for chat in inputs]
        return [as_output(completion) for completion in self.complete(chats)]

    @abstractmethod
    def complete(self, chats: Sequence[Messages]) -> list[Completion]:
        """Return the completion of each chat, in their order."""


class EndpointLLM(_JobLLM):
    """Answers of an endpoint, by the one client; its key is read when it is loaded."""

    _client: EndpointClient | None = PrivateAttr(default=None)
    _cache: Answers | None = PrivateAttr(default=None)
    _loop: asyncio.AbstractEventLoop | None = PrivateAttr(default=None)

    @property
    def job(self) -> Served:
        """The settings."""
        return Served.model_validate_json(self.settings)

    @property
    def model_name(self) -> str:
        """Name of the endpoint's model."""
        return self.job.endpoint.model

    def load(self) -> None:
        """Open the client and the cache."""
        super().load()
        # A line for every request, which distilabel's logging takes longer for than we for the
        # request; distilabel itself silences the client's module by its earlier name.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        # All modules of distilabel lie on this heap; requests must not wait for walks through it.
        gc.freeze()
        job = self.job
        self._cache, self._loop = _answers(job), asyncio.new_event_loop()
        self._client = EndpointClient(
            job.endpoint,
            cache=self._cache,
            step=job.step,
            budget=job.budget,
            left_out=job.left_out,
            learnt=lambda name: send_news(left_out=name),
            tell=lambda line: send_news(note=line),
        )
        try:
            self._client.open()
        except UserError as error:
            # On a cluster distilabel does not hand a reason back.
            send_news(error=str(error), mendable=True)
            raise

    def unload(self) -> None:
        """Close client and cache, and let go of what cannot be pickled."""
        if self._client and self._loop:
            self._loop.run_until_complete(self._client.close())
            self._loop.close()
        if self._cache:
            self._cache.close()
        self._client = self._cache = self._loop = None
        super().unload()

    def complete(self, chats: Sequence[Messages]) -> list[Completion]:
        """Ask for all of them, as many at once as the endpoint is to have."""
        assert self._client is not None and self._loop is not None
        return self._loop.run_until_complete(_complete(self._client, self.job, chats))


async def _complete(
    client: EndpointClient, job: Served, chats: Sequence[Messages]
) -> list[Completion]:
    tally, price, schema = Tally(), job.endpoint.rate, SCHEMAS.get(job.schema_name)
    limited = [0]

    async def one(chat: Messages) -> Completion:
        completion = await client.complete(
            EndpointRequest(
                chat,
                temperature=job.temperature,
                max_tokens=job.max_new_tokens,
                seed=job.seed,
                schema=schema.model if schema else None,
                by_words=schema.by_words if schema else False,
                accept_cut=job.accept_cut,
            )
        )
        paid = price.of(completion.input_tokens, completion.output_tokens) if price else 0.0
        tally.add(
            done=1,
            failed=int(not completion.ok),
            paid=paid,
            limited=client.bounds.pace.limited - limited[0],
        )
        limited[0] = client.bounds.pace.limited
        return completion

    try:
        return list(await asyncio.gather(*(one(chat) for chat in chats)))
    finally:
        tally.send()


def _answers(job: Served) -> Answers:
    if job.bookkeeper:
        from generation.distilabel.cluster import RemoteAnswers

        return RemoteAnswers(job.bookkeeper)
    return AnswerCache(job.cache)


class LocalLLM(_JobLLM):
    """Greedy answers of a local chat model, in batches; equal chats are answered once.

    Distilabel's ``TransformersLLM`` answers one prompt after another; in batches, in the device's
    best type, a small model on a CPU is some ten times faster.
    """

    _tokenizer: Any = PrivateAttr(default=None)
    _model: Any = PrivateAttr(default=None)

    @property
    def job(self) -> LocalModel:
        """The settings."""
        return LocalModel.model_validate_json(self.settings)

    @property
    def model_name(self) -> str:
        """Name of the model's folder."""
        return self.job.folder.name

    def load(self) -> None:
        """Load tokenizer and model."""
        from workbench.inference.base_models import load_model, load_tokenizer

        super().load()
        self._tokenizer = load_tokenizer(self.job.folder)
        self._model = load_model(self.job.folder).eval()

    def unload(self) -> None:
        """Forget the model."""
        self._model = self._tokenizer = None
        super().unload()

    def complete(self, chats: Sequence[Messages]) -> list[Completion]:
        """Answer all of them, greedily."""
        import torch

        from workbench.inference.engines.batched import BatchedEngine
        from workbench.inference.engines.chats import greedy_answers

        job = self.job
        torch.manual_seed(job.seed)
        answers = greedy_answers(
            BatchedEngine(self._model, self._tokenizer, job.batch_size),
            chats,
            max_new_tokens=job.max_new_tokens,
            advance=lambda count: send_news(done=count),
        )
        return [
            _local_completion(answer) if answer else self._too_long(chat, job.max_new_tokens)
            for chat, answer in zip(chats, answers, strict=True)
        ]

    def _too_long(self, chat: Messages, max_new_tokens: int) -> Completion:
        from workbench.inference.engines.chats import prompt_ids

        asked = len(prompt_ids(self._tokenizer, chat))
        room = self._model.config.max_position_embeddings
        detail = f"{asked} tokens and {max_new_tokens} new ones, of at most {room}"
        return Completion(end="failed", reason="prompt_too_long", detail=detail)


def _local_completion(answer: ChatAnswer) -> Completion:
    cut = bool(answer.reasoning and not answer.ended)
    return Completion(
        end="ok" if answer.text else "cut_off" if cut else "filtered",
        reason="" if answer.text else "cut_off" if cut else "empty_answer",
        reasoning=answer.reasoning,
        text=answer.text,
        attempts=1,
        input_tokens=answer.prompt_tokens,
        output_tokens=answer.tokens,
        tokens=answer.tokens,
    )
