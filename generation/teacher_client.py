"""A job's one way to its endpoints: each step counted, one budget, stopped when hopeless.

:mod:`generation.teacher` makes a :class:`TeacherClient`; whatever a pipeline's tasks ask goes
through it (:class:`~generation.distilabel.tasks.EndpointLLM`).
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from generation.distilabel.cluster import Cluster, ClusterClient
from generation.live_rows import LiveRow, LiveRows
from workbench.config import ORDINARY
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.bounds import OVER_BUDGET, STOPPED
from workbench.inference.client import EndpointClient, raise_if_hopeless
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint, Paid, Price, Teacher
from workbench.inference.exchange import EndpointRequest
from workbench.records import Drop

if TYPE_CHECKING:
    from generation.topic_plan import PlannedQuestion

STAGE = "generate"
OWN_STEP = "own_step"
"""Why a row is filtered that a step of the user's own dropped."""


@dataclass
class _Pace:
    cost: float
    started: float = field(default_factory=time.monotonic)
    ended: int = 0
    failed: int = 0


@dataclass
class TeacherClient:
    """Puts requests to endpoints, and keeps a job's books; use it as a context manager.

    The first teacher stands for all. The budget is for all steps together, over every run with the
    same cache; the seed counts where the server heeds it.
    """

    teachers: Sequence[Endpoint]
    cache: Path
    seed: int = 0
    budget: float | None = None
    cluster: Cluster | None = None
    live: LiveRows = field(default_factory=lambda: LiveRows(None))
    """Where rows are shown as they come."""
    completions: dict[str, list[Completion]] = field(default_factory=dict)
    """Step → its completions, in the order in which they ended."""
    prices: dict[tuple[str, str], Price | None] = field(default_factory=dict)
    """(step, endpoint's name) → its price."""
    asked: dict[str, list[Completion]] = field(default_factory=dict)
    """Endpoint → its completions, those of the requests under way last."""
    unmade: int = 0
    """Requests that the budget did not pay for."""
    _clients: dict[str, EndpointClient] = field(default_factory=dict)
    _pace: _Pace = field(default_factory=lambda: _Pace(0.0))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._answers = stack.enter_context(AnswerCache(self.cache))
            if self.cluster:
                stack.enter_context(self.cluster.joined())
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.write()
        self._open.close()

    @asynccontextmanager
    async def asking(self, endpoints: Iterable[Endpoint]) -> AsyncIterator[None]:
        """Ask these endpoints side by side while the context lasts.

        Raises:
            UserError: One of them is hopeless.
        """
        wanted = {one.name: one for one in endpoints}
        before = {name: len(self.asked.setdefault(name, [])) for name in wanted}
        async with AsyncExitStack() as stack:
            for name, one in wanted.items():
                client = self._client(one, self._share_of_budget(one, wanted))
                if self.unmade and one.rate is not None:
                    client.bounds.stopped = OVER_BUDGET
                self._clients[name] = await stack.enter_async_context(client)
            self._pace = _Pace(self.spent())
            yield
        for name, one in wanted.items():
            completions = self.asked[name][before[name] :]
            self.unmade += sum(each.reason == STOPPED for each in completions)
            raise_if_hopeless(one, completions, self.asked[name][: before[name]])

    def note(self) -> str:
        """Return what people see beside the progress: how fast, what it cost, what failed."""
        pace, rate = self._pace, self.teacher.rate
        limited = sum(one.bounds.pace.limited for one in self._clients.values())
        notes = [f"{pace.ended / max(time.monotonic() - pace.started, 0.001):.1f}/s"]
        notes += [f"cost {pace.cost:.4f} {rate.currency}"] if rate else []
        notes += [f"{pace.failed} failed"] if pace.failed else []
        notes += [f"slowed down by {limited} rate limits"] if limited else []
        return ", ".join(notes)

    def show(self, row: Mapping[str, Any], **came: Any) -> None:
        """Show what came of a planned question, a row with its place in the plan."""
        teacher = self.teachers[row["teacher"]].model
        cell: PlannedQuestion = row["cell"]
        live = LiveRow(kind=cell.kind or ORDINARY, topic=cell.topic, teacher=teacher, **came)
        self.live.add(live)

    @property
    def teacher(self) -> Endpoint:
        """The first teacher."""
        return self.teachers[0]

    def _client(self, endpoint: Endpoint, budget: float | None) -> EndpointClient:
        if self.cluster and not endpoint.batch:
            return ClusterClient(self.cluster, endpoint, cache=self._answers, budget=budget)
        return EndpointClient(endpoint, cache=self._answers, budget=budget)

    def _share_of_budget(
        self, endpoint: Endpoint, endpoints: Mapping[str, Endpoint]
    ) -> float | None:
        """Return what one of several endpoints that are asked side by side may cost; None: any."""
        if self.budget is None or endpoint.rate is None:
            return None
        priced = [one for one in endpoints.values() if one.rate is not None]
        whole = sum(self._weight(one) for one in priced)
        return max(0.0, self.budget - self.spent()) * self._weight(endpoint) / whole

    def _weight(self, endpoint: Endpoint) -> float:
        """Return an endpoint's part of the budget: all teachers together have one."""
        names = [one.name for one in self.teachers]
        if endpoint.name not in names:
            return 1.0
        shares = shares_of(self.teachers)
        return sum(
            share for name, share in zip(names, shares, strict=True) if name == endpoint.name
        )

    async def complete(self, step: str, request: EndpointRequest, endpoint: Endpoint) -> Completion:
        """Return how a request of a step ended, which stands in the books from now on."""
        completion = await self._clients[endpoint.name].complete(request, step)
        pace, rate = self._pace, endpoint.rate
        pace.ended, pace.failed = pace.ended + 1, pace.failed + (not completion.ok)
        if rate is not None:
            pace.cost += rate.of(completion.input_tokens, completion.output_tokens)
        self.prices[step, endpoint.name] = endpoint.rate
        self.completions.setdefault(step, []).append(completion)
        self.asked[endpoint.name].append(completion)
        return completion

    def paid(self) -> dict[str, Paid]:
        """Return what each step took over every run with the same cache."""
        return self._answers.paid()

    def spent(self) -> float:
        """Return the money for all of that."""
        return sum(self.costs().values())

    def costs(self) -> dict[tuple[str, str], float]:
        """Return (step, endpoint's name) → its money over every run with the same cache.

        A step of an earlier run that nobody asks now costs as the teacher's do.
        """
        rates = {one.name: one.rate for one in self.teachers}
        costs = {}
        for (step, name), paid in self._answers.ledger().items():
            rate = self.prices.get((step, name), rates.get(name, self.teacher.rate))
            costs[step, name] = paid.cost(rate)
        return costs

    def paid_to(self, endpoint: Endpoint) -> Paid:
        """Return what an endpoint took over every run with the same cache, for whatever step."""
        return Paid.total(self._answers.paid(endpoint).values())


def shares_of(teachers: Sequence[Endpoint]) -> list[float]:
    """Return the part of the rows that each teacher writes; they add up to 1."""
    weights = [one.share if isinstance(one, Teacher) else 1.0 for one in teachers]
    return [weight / sum(weights) for weight in weights]


def shared_out(teachers: Sequence[Endpoint], count: int, seed: int, what: str) -> list[int]:
    """Return for each of so many rows the place of the teacher that writes it.

    Each teacher gets its share to within one row, the largest remainders first; which rows is
    drawn. Kinds of rows draw apart, by ``what``.
    """
    exact = [share * count for share in shares_of(teachers)]
    whole = [int(part) for part in exact]
    ordered = sorted(range(len(exact)), key=lambda place: whole[place] - exact[place])
    for place in ordered[: count - sum(whole)]:
        whole[place] += 1
    places = [place for place, rows in enumerate(whole) for _ in range(rows)]
    random.Random(f"teachers:{what}:{seed}").shuffle(places)
    return places


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
