"""Jobs without distilabel's processes: the same LLM asks the same rows here, and its news is read.

What distilabel itself does (its processes, their ends, a kill) has tests of its own; what a job
asks, pays for and says needs none of it, and takes a tenth of the time without.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from generation.distilabel import jobs
from generation.distilabel.jobs import LocalModel, News, Served
from generation.distilabel.runner import Distilabel
from workbench.console import track
from workbench.errors import UserError
from workbench.inference.completion import Completion
from workbench.records import Messages


class InProcess(Distilabel):
    """Stands in the place of :class:`~generation.distilabel.runner.Distilabel`."""

    def __enter__(self) -> Self:
        self.workdir.mkdir(parents=True, exist_ok=True)
        self._sent: list[News] = []
        return self

    def __exit__(self, *_: object) -> None:
        jobs._carrier = None

    def run(
        self, name: str, prompts: Sequence[Messages], llm: LocalModel | Served, *, label: str
    ) -> list[Completion]:
        from generation.distilabel.pipeline import make_llm

        if not prompts:
            return []
        if isinstance(llm, Served):
            left_out = tuple(sorted(self._left_out[llm.endpoint.name]))
            llm = llm.model_copy(update={"left_out": left_out})
        jobs.send_news_by(self._sent.append)
        model = make_llm(llm)
        completions: list[Completion] = []
        try:
            model.load()
            completions += model.complete(prompts)
            self._sent.append({"finished": name})
        except UserError as error:
            self._sent.append({"error": str(error), "mendable": True})
        finally:
            model.unload()
        with track(label, len(prompts)) as advance:
            self._follow(advance, llm)
        return completions

    def _news(self) -> Iterator[News]:
        while self._sent:
            yield self._sent.pop(0)
