"""A job's one way to its endpoints: each step counted, one budget, stopped when hopeless.

:mod:`generation.teacher` makes a :class:`TeacherClient`; questions, answers, hard negatives and the
judge's questions all go through it, and by it through distilabel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.distilabel.jobs import Served
from generation.distilabel.runner import Distilabel
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.bounds import OVER_BUDGET, STOPPED
from workbench.inference.client import raise_if_hopeless
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Paid, Price
from workbench.records import Drop, Messages

STAGE = "generate"


@dataclass
class TeacherClient:
    """Asks prompts step by step.

    Args:
        distilabel: Runs the requests.
        teacher: The endpoint of every step that names no other.
        cache: File of the answers that were already paid for.
        seed: Of sampling, where the server heeds it.
        budget: Money that all steps together may spend, over every run with the same cache.
    """

    distilabel: Distilabel
    teacher: Endpoint
    cache: Path
    seed: int = 0
    budget: float | None = None
    completions: dict[str, list[Completion]] = field(default_factory=dict)
    """Step → its completions, in the order in which they were asked for."""
    prices: dict[str, Price | None] = field(default_factory=dict)
    asked: dict[str, list[Completion]] = field(default_factory=dict)
    """Endpoint → its completions."""
    unmade: int = 0
    """Requests that the budget did not pay for."""

    def ask(
        self,
        step: str,
        prompts: Sequence[Messages],
        *,
        label: str,
        endpoint: Endpoint | None = None,
        part: int = 1,
        seed: int | None = None,
        temperature: float = 0.7,
        schema_name: str = "",
    ) -> list[Completion]:
        """Return one completion a prompt.

        Args:
            step: Name under which it is counted.
            prompts: Conversations.
            label: What is being done, for the progress.
            endpoint: Whom to ask, if not the teacher.
            part: Number of the part of a step.
            seed: Of sampling, if not the job's; another one brings another answer.
            temperature: Of sampling.
            schema_name: Name of the response schema that is asked for, or empty for text.

        Raises:
            UserError: The endpoint is hopeless.
        """
        endpoint = endpoint or self.teacher
        if self.unmade and endpoint.rate is not None:
            unmade = Completion(end="failed", reason=STOPPED, detail=OVER_BUDGET)
            return self._ended(step, endpoint, [unmade] * len(prompts))
        self.prices[step] = endpoint.rate
        spent = self.spent()
        bounded = self.budget is not None and endpoint.rate is not None
        job = Served(
            endpoint=endpoint,
            cache=self.cache,
            step=step,
            schema_name=schema_name,
            temperature=temperature,
            seed=self.seed if seed is None else seed,
            spent=spent,
            budget=max(0.0, (self.budget or 0.0) - spent) if bounded else None,
        )
        completions = self.distilabel.run(f"{step}-{part}", prompts, job, label=label)
        return self._ended(step, endpoint, completions)

    def share_of_budget(
        self, endpoint: Endpoint, endpoints: Mapping[str, Endpoint]
    ) -> float | None:
        """Return what one of several endpoints that are asked side by side may cost; None: any."""
        if self.budget is None or endpoint.rate is None:
            return None
        priced = sum(one.rate is not None for one in endpoints.values())
        return max(0.0, self.budget - self.spent()) / priced

    def book(self, step: str, endpoint: Endpoint, completions: list[Completion]) -> None:
        """Take requests that were made elsewhere into the books.

        Raises:
            UserError: The endpoint is hopeless.
        """
        self.prices[step] = endpoint.rate
        self._ended(step, endpoint, completions)

    def _ended(
        self, step: str, endpoint: Endpoint, completions: list[Completion]
    ) -> list[Completion]:
        earlier = self.asked.setdefault(endpoint.name, [])
        self.completions.setdefault(step, []).extend(completions)
        raise_if_hopeless(endpoint, completions, earlier)
        earlier.extend(completions)
        self.unmade += sum(one.reason == STOPPED for one in completions)
        return completions

    def paid(self) -> dict[str, Paid]:
        """Return what each step took over every run with the same cache."""
        with AnswerCache(self.cache) as answers:
            return answers.paid()

    def spent(self) -> float:
        """Return the money for all of that; a step of an earlier run costs as the teacher's do."""
        return sum(
            paid.cost(self.prices.get(step, self.teacher.rate))
            for step, paid in self.paid().items()
        )


def drop_of(
    completion: Completion, record: str, *, source: str, parents: tuple[str, ...] = ()
) -> Drop:
    """Return the drop of the record whose request ended without an answer."""
    return Drop(
        record=record,
        stage=STAGE,
        reason=completion.reason,
        detail=completion.about(),
        source=source,
        parents=parents,
    )
