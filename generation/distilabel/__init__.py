"""Distilabel, with everything that only repairs it, and Ray.

Its language is ours: steps and tasks with columns in and out, an LLM that they ask, pipelines
joined by ``>>`` and checked before they run. Its runner is not. Repaired here is distilabel 1.5.3,
its last release; ``tests/generation/test_distilabel.py`` fails where a repair is no longer needed:

- one request that fails empties its whole batch, tokens and all: in ours every row asks for itself
  (:class:`~generation.distilabel.tasks.RowTask`), in the job's own books
  (:class:`~generation.distilabel.tasks.EndpointLLM`);
- a pipeline that was killed hangs when it is resumed from its own cache (issue 1065 there), waits
  for ever for a worker that was killed, and leaves workers behind; it forks, which a process in
  which torch has computed does not survive; batches are barriers. So pipelines run in the caller's
  process (:class:`~generation.distilabel.pipeline.RowPipeline`), and answers are kept below them;
- it takes over how errors are printed (:mod:`generation.pipelines` gives that back).
"""
