"""Distilabel, in a process of its own, with everything that only repairs it.

The other files of the room know :class:`~generation.distilabel.runner.Distilabel` and its jobs, and
nothing of the library. Repaired here is distilabel 1.5.3, its last release;
``tests/generation/test_distilabel.py`` fails where one of the repairs is no longer needed:

- one request that fails empties its whole batch, tokens and all: in ours every request has an end
  of its own (:class:`~generation.distilabel.pipeline.EndpointLLM`);
- a pipeline that was killed hangs when it is resumed from its own cache (issue 1065 there): answers
  are kept below it, and its cache is off (:mod:`~generation.distilabel.worker`);
- loaded steps are looked for every 2.5 s
  (:class:`~generation.distilabel.pipeline.PromptPipeline`);
- a worker that was killed is waited for for ever, and a killed main process leaves its workers
  (:mod:`~generation.distilabel.runner`, :mod:`~generation.distilabel.worker`);
- it forks, which a process in which torch has computed does not survive, clears the root logger's
  handlers and takes over SIGINT: hence the process of its own;
- it silences the module of openai's HTTP client by its earlier name
  (:class:`~generation.distilabel.pipeline.EndpointLLM`).
"""
