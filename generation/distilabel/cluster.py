"""A pipeline's workers on a Ray cluster: their answers and news come back to this machine.

Steps on a cluster are processes that this machine did not fork, perhaps of other machines. What
they must share, the file of answers and the way to the command that waits, stays here, behind one
Ray actor that is tied to this node.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generation.distilabel.jobs import Cluster, News, send_news, send_news_by
from workbench.errors import UserError
from workbench.inference.answer_cache import AnswerCache
from workbench.inference.completion import Completion

BOOKKEEPER = "persona-bookkeeper"
"""Name of the actor, followed by the id of the process that it reports to."""
_NAMESPACE = "persona"
_LOOK_EVERY = 0.2
_REACHED_IN = 5.0
_MISSED = 10
"""Looks in a row at which a worker is not there until it is given up."""
_MEMORY = 200 * 2**20
"""Bytes of the object store of a cluster of our own: prompts and answers are text."""


class Bookkeeper:
    """The actor: keeps answers in their file, and news until it is asked for."""

    def __init__(self, cache: str) -> None:
        self._answers = AnswerCache(Path(cache))
        self._news: list[News] = []

    def known(self, key: str) -> str | None:
        """Return the completion of an earlier request as JSON."""
        completion = self._answers.get(key)
        return completion.model_dump_json() if completion else None

    def keep(self, key: str, completion: str, step: str, endpoint: str) -> None:
        """Keep a completion, given as JSON."""
        self._answers.put(key, Completion.model_validate_json(completion), step, endpoint)

    def tell(self, news: News) -> None:
        """Take news."""
        self._news.append(news)

    def news(self) -> list[News]:
        """Return the news since the last call."""
        news, self._news = self._news, []
        return news


class RemoteAnswers:
    """Answers behind a bookkeeper, for the endpoint client of a worker on the cluster.

    Args:
        name: The bookkeeper's name; this process's news goes to it from now on, too.
    """

    def __init__(self, name: str) -> None:
        import ray

        self._actor = ray.get_actor(name, namespace=_NAMESPACE)
        self._worker = ray.get_runtime_context().get_actor_name()
        send_news_by(self._actor.tell.remote)
        send_news(actor=self._worker, loaded=True)

    @property
    def folder(self) -> None:
        """Nowhere: batches are sent from the machine that keeps the answers."""

    async def known(self, key: str) -> Completion | None:
        """Return the completion of an earlier request; it costs no tries and no tokens now."""
        text = await self._actor.known.remote(key)
        return Completion.model_validate_json(text) if text else None

    async def keep(self, key: str, completion: Completion, step: str, endpoint: str) -> None:
        """Return when the completion is kept."""
        await self._actor.keep.remote(key, completion.model_dump_json(), step, endpoint)

    def close(self) -> None:
        """Tell that this worker is done."""
        send_news(actor=self._worker, loaded=False)


@contextmanager
def bookkeeping(cluster: Cluster, cache: Path) -> Iterator[str]:
    """Join the cluster, and hand its workers' news on while the context lasts.

    Args:
        cluster: Which one.
        cache: File of the answers.

    Yields:
        Name of the bookkeeper, for the workers.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _joined(cluster)
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    name = f"{BOOKKEEPER}-{os.getpid()}"
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "num_cpus": 0, "scheduling_strategy": here}
    actor = ray.remote(Bookkeeper).options(**options).remote(str(cache))
    try:
        ray.get(actor.news.remote())
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"the Ray cluster runs no actor here: {error}") from None
    done = threading.Event()
    watch = threading.Thread(target=_hand_on, args=(actor, done), daemon=True)
    watch.start()
    try:
        yield name
    finally:
        done.set()
        watch.join()
        ray.kill(actor)


def _hand_on(actor: Any, done: threading.Event) -> None:
    """Tell this process's listener what the workers tell, and when one of them is lost."""
    import ray

    workers: set[str] = set()
    missed = 0
    last = False
    while not last:
        last = done.wait(_LOOK_EVERY)
        try:
            messages = ray.get(actor.news.remote())
        except ray.exceptions.RayError as error:
            send_news(error=f"the Ray cluster was lost: {type(error).__name__}", mendable=False)
            return
        for news in messages:
            # A process id says nothing beyond its own machine; on a cluster actors are looked for.
            if "worker" in news:
                news.pop("worker")
            if "actor" in news:
                (workers.add if news.pop("loaded") else workers.discard)(news.pop("actor"))
            if news:
                send_news(**news)
        gone = workers and not workers <= _alive()
        missed = missed + 1 if gone else 0
        if missed >= _MISSED:
            send_news(error="a worker on the Ray cluster ended before its job", mendable=False)
            return


def _alive() -> set[str]:
    from ray.util import list_named_actors

    return {actor["name"] for actor in list_named_actors(all_namespaces=True)}


def _joined(cluster: Cluster) -> Any:
    """Return ray, connected; a cluster of our own is on loopback, and ends with this process."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not cluster.address:
        # On any system: without clusters of machines Ray stays on loopback.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError:
        fix = "pip install 'persona-workbench[ray]'"
        raise UserError("Ray is not installed", where="--ray", fix=fix) from None
    if ray.is_initialized():
        return ray
    start: Callable[..., Any] = ray.init
    common = {"namespace": _NAMESPACE, "log_to_driver": False, "configure_logging": False}
    if not cluster.address:
        start(
            num_cpus=max(2, cluster.workers),
            include_dashboard=False,
            object_store_memory=_MEMORY,
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
