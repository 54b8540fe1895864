"""One job's way to its endpoints: each step counted, one budget, stopped when hopeless."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from generation.cache import AnswerCache
from generation.jobs import Served
from generation.outcome import Outcome
from generation.runner import Distilabel
from generation.stops import stop_if_hopeless
from workbench.inference.endpoint import Endpoint, Paid, Price
from workbench.records import Messages


@dataclass
class Asker:
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
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    """Step → its outcomes, in the order in which they were asked for."""
    prices: dict[str, Price | None] = field(default_factory=dict)
    judged: int = 0
    """Answers that the judge gave a verdict on."""
    unjudged: Counter[str] = field(default_factory=Counter)
    """Reason → answers that only rules were put to, since the judge gave none."""

    def ask(
        self,
        step: str,
        prompts: Sequence[Messages],
        *,
        label: str,
        endpoint: Endpoint | None = None,
        part: int = 1,
        draw: int = 0,
        temperature: float = 0.7,
        shape: str = "",
    ) -> list[Outcome]:
        """Return one outcome a prompt.

        Args:
            step: Name under which it is counted.
            prompts: Conversations.
            label: What is being done, for the progress.
            endpoint: Whom to ask, if not the teacher.
            part: Number of the part of a step.
            draw: Number of the answer to the same prompt; each is sampled with another seed.
            temperature: Of sampling.
            shape: Name of the JSON shape that is asked for, or empty for text.

        Raises:
            UserError: The endpoint is hopeless, or the budget is used up.
        """
        endpoint = endpoint or self.teacher
        self.prices[step] = endpoint.price
        spent = self.spent()
        bounded = self.budget is not None and endpoint.price is not None
        settings = Served(
            endpoint=endpoint,
            cache=self.cache,
            step=step,
            shape=shape,
            temperature=temperature,
            seed=self.seed + draw,
            spent=spent,
            budget=max(0.0, (self.budget or 0.0) - spent) if bounded else None,
        )
        found = self.distilabel.run(f"{step}-{part}", prompts, settings, label=label)
        self.outcomes.setdefault(step, []).extend(found)
        stop_if_hopeless(endpoint, found)
        return found

    def paid(self) -> dict[str, Paid]:
        """Return what each step took over every run with the same cache."""
        answers = AnswerCache(self.cache)
        try:
            return answers.paid()
        finally:
            answers.close()

    def spent(self) -> float:
        """Return the money for all of that; a step of an earlier run costs as the teacher's do."""
        return sum(
            paid.cost(self.prices.get(step, self.teacher.price))
            for step, paid in self.paid().items()
        )
