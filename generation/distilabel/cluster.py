"""Requests that are made from a Ray cluster; their answers are kept on this machine.

A :class:`ClusterClient` looks for a request's answer here, and has it made by one of the cluster's
workers where there is none. What a worker learns of an endpoint comes back with the answer.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field

from workbench.config import LOCAL, GenerateSettings
from workbench.errors import UserError
from workbench.inference.client import EndpointClient
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.values import Settings

_NAMESPACE = "persona"
_REACHED_IN = 5.0
_MEMORY = 200 * 2**20
"""Bytes of the object store of a cluster of our own: prompts and answers are text."""


class Cluster(Settings):
    """The Ray cluster that endpoints are asked from."""

    address: str = ""
    """``HOST:PORT`` or ``auto``, of a cluster that this machine is a node of; empty starts one on
    this machine for as long as the job lasts."""
    workers: int = Field(default=2, ge=1)
    """Processes that ask; they share the endpoint's concurrency and the budget."""

    @classmethod
    def of(cls, settings: GenerateSettings) -> Cluster | None:
        """Return the cluster that a configuration names; None for this process."""
        if settings.ray is None:
            return None
        address = "" if settings.ray == LOCAL else settings.ray
        return cls(address=address, workers=settings.ray_workers)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Be a part of the cluster while the context lasts.

        Raises:
            UserError: Ray is not installed, or the cluster cannot be reached.
        """
        # Ray's sockets need a short path, and its logs are not for keeping.
        with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            ray = _joined(self, folder)
            try:
                yield
            finally:
                ray.shutdown()


class ClusterClient(EndpointClient):
    """Asks one endpoint from the workers of a cluster that this process has joined.

    Its own gate bounds what is under way in all; each worker has a share of the rates and of the
    budget.
    """

    def __init__(self, cluster: Cluster, endpoint: Endpoint, **how: Any) -> None:
        super().__init__(endpoint, **how)
        self._workers = min(cluster.workers, endpoint.concurrency)
        self._budget = how.get("budget")
        self._actors: list[Any] = []

    def open(self) -> None:
        """Start a worker for each share.

        Raises:
            UserError: The key cannot be had.
        """
        import ray

        self.endpoint.sent_headers()
        count = self._workers
        share: dict[str, Any] = {"concurrency": max(1, self.endpoint.concurrency // count)}
        for name in ("requests_per_minute", "tokens_per_minute"):
            if limit := getattr(self.endpoint, name):
                share[name] = limit / count
        endpoint = self.endpoint.model_copy(update=share)
        budget = None if self._budget is None else self._budget / count
        # It waits for replies, so it holds no core: several endpoints that are asked side by side
        # need more workers than a cluster has cores, and would wait for each other for ever.
        start = ray.remote(Worker).options(
            num_cpus=0, scheduling_strategy="SPREAD", max_concurrency=endpoint.concurrency + 1
        )
        left_out = sorted(self.bounds.left_out)
        self._actors = [start.remote(endpoint, budget, left_out) for _ in range(count)]
        self._next = itertools.cycle(self._actors)

    async def close(self) -> None:
        """Let go of the workers."""
        import ray

        for actor in self._actors:
            ray.kill(actor)

    async def _to_the_end(self, request: EndpointRequest) -> Completion:
        import ray

        if self.bounds.stopped:
            return await super()._to_the_end(request)
        try:
            completion, learnt, stopped, limited = await next(self._next).complete.remote(request)
        except ray.exceptions.RayError as error:
            raise UserError(
                f"a worker on the Ray cluster ended before its job ({type(error).__name__})",
                where=self.endpoint.base_url,
                fix="run the same command again: finished answers are kept",
            ) from None
        for name in learnt:
            if name not in self.bounds.left_out:
                self.bounds.learn(name)
        self.bounds.pace.limited += limited
        self.bounds.stopped = self.bounds.stopped or stopped
        return Completion.model_validate(completion)


class Worker:
    """The actor: asks, and keeps nothing."""

    def __init__(self, endpoint: Endpoint, budget: float | None, left_out: list[str]) -> None:
        self._learnt: list[str] = []
        self._limited = 0
        self._client = EndpointClient(
            endpoint,
            budget=budget,
            left_out=left_out,
            learnt=self._learnt.append,
            tell=lambda line: None,
        )
        self._open = False

    async def complete(
        self, request: EndpointRequest
    ) -> tuple[dict[str, Any], list[str], str, int]:
        """Return the completion, fields that the server does not take, why all stops, limits."""
        if not self._open:
            self._client.open()
            self._open = True
        completion = await self._client.complete(request)
        limited = self._client.bounds.pace.limited
        news, self._limited = limited - self._limited, limited
        return completion.model_dump(), list(self._learnt), self._client.bounds.stopped, news


def _joined(cluster: Cluster, folder: str) -> Any:
    """Return ray, connected; a cluster of our own is on loopback, and ends with the job."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not cluster.address:
        # On any system: without clusters of machines Ray stays on loopback.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        fix = "pip install 'persona-workbench[ray]'"
        raise UserError("Ray is not installed", where="--ray", fix=fix) from None
    start: Callable[..., Any] = ray.init
    common = {"namespace": _NAMESPACE, "log_to_driver": False, "configure_logging": False}
    if not cluster.address:
        start(
            num_cpus=max(2, cluster.workers),
            include_dashboard=False,
            object_store_memory=_MEMORY,
            _temp_dir=folder,
            **common,
        )
        return ray
    try:
        host, _, port = cluster.address.rpartition(":")
        if host and port.isdigit():
            # Ray itself would try for a minute.
            socket.create_connection((host, int(port)), timeout=_REACHED_IN).close()
        start(address=cluster.address, **common)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster answers ({type(error).__name__})",
            where=f"--ray {cluster.address}",
            fix="start it with `ray start --head`, and join it from a machine that is its node",
        ) from None
    return ray
