"""Pipelines in the test's own process, for what is about endpoints and not about distilabel.

Distilabel itself takes longer to start than all the requests of a small round do; tests of its
pipelines run them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pytest

from generation.distilabel import jobs
from generation.distilabel.jobs import LocalModel, News, Served
from generation.distilabel.runner import Distilabel
from workbench.inference.completion import Completion
from workbench.records import Messages


class InProcess(Distilabel):
    """Pipelines without distilabel: the same LLM, asked for the same rows."""

    def __enter__(self) -> Self:
        self.workdir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(
        self, name: str, prompts: Sequence[Messages], llm: LocalModel | Served, *, label: str
    ) -> list[Completion]:
        from generation.distilabel.pipeline import make_llm

        assert isinstance(llm, Served)
        left_out = tuple(self._left_out[llm.endpoint.name])

        def learn(news: News) -> None:
            if "left_out" in news:
                self._learn(llm.endpoint, str(news["left_out"]))

        jobs.send_news_by(learn)
        model = make_llm(llm.model_copy(update={"left_out": left_out}))
        model.load()
        try:
            completions: list[Completion] = model.complete(prompts)
        finally:
            model.unload()
        return completions


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `persona generate` run its pipelines here."""
    monkeypatch.setattr("generation.teacher.Distilabel", InProcess)
    monkeypatch.setattr("generation.baseline.Distilabel", InProcess)
    monkeypatch.setattr(jobs, "_carrier", None)
