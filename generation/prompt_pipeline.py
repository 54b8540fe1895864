"""Our one pipeline: prompts in, one answer each out, in distilabel's own steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from distilabel.pipeline import Pipeline, local
from distilabel.pipeline.base import _STEP_LOAD_FAILED_CODE, _STEP_NOT_LOADED_CODE
from distilabel.steps import LoadDataFromDicts, StepResources
from distilabel.steps.tasks import ChatGeneration

from generation.jobs import Job, Served
from generation.llms import OUTCOME, make_llm

ANSWERS = "answers"
"""Name of the step that asks the LLM."""
_REASON_SECONDS = 10.0
OUTCOME_COLUMN = f"llm_{ANSWERS}_{OUTCOME}"


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
    # Batches are barriers, so a worker gets one; the LLM bounds what is under way inside it. All
    # rows are loaded at once, or the second worker would wait until the first is done.
    part = -(-len(rows) // workers)
    pipeline = PromptPipeline(name=job.name, cache_dir=cache_dir)
    with pipeline:
        load = LoadDataFromDicts(name="prompts", data=rows, batch_size=len(rows))
        chat = ChatGeneration(
            name=ANSWERS,
            llm=make_llm(llm),
            input_batch_size=part,
            resources=StepResources(replicas=workers),
            add_raw_input=False,
            add_raw_output=False,
        )
        load >> chat
    return pipeline
