"""The same pipeline on a local Ray cluster of two workers."""

from __future__ import annotations

import importlib.util
from asyncio import gather, timeout
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from generation.distilabel.cluster import Cluster
from generation.teacher_client import TeacherClient
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from tests.waiting import PATIENCE, waited
from workbench.errors import UserError
from workbench.inference.client import run
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.records import Messages, user_prompt

SECRET = "sk-cluster-secret-0815"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra: [ray]"),
]


def ask(
    endpoint: Endpoint, work: Path, prompts: list[Messages], cluster: Cluster | None = None
) -> list[Completion]:
    async def ask_all(client: TeacherClient) -> list[Completion]:
        requests = [EndpointRequest(prompt, seed=0) for prompt in prompts]
        async with client.asking([endpoint]):
            return list(await gather(*(client.complete("ask", r, endpoint) for r in requests)))

    with TeacherClient([endpoint], work / "answers.sqlite", cluster=cluster) as client:
        return run(ask_all(client))


def of_ray() -> list[str]:
    """Return the daemons and workers of a cluster of a job's own."""
    lines = (" ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
    return [line for line in lines if "/ray-" in line or line.startswith("ray::")]


def test_two_workers_ask_at_once_and_their_answers_are_kept_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(request: Request) -> Reply:
        if request.share < 0.15:
            return fails(400)
        return replace(conforms(request), delay=0.2)

    monkeypatch.setenv("CLUSTER_KEY", SECRET)
    work = tmp_path / "work"
    prompts = [user_prompt(f"How deep is number {number}?") for number in range(40)]
    with ScriptedServer(script, api_key=SECRET) as server:
        endpoint = Endpoint(
            base_url=server.url, model="m", api_key_env="CLUSTER_KEY", concurrency=4
        )
        first = ask(endpoint, work, prompts, Cluster(workers=2))
        # The cluster was the job's own, and ends with it.
        waited(lambda: not of_ray())
        asked = Counter(request.prompt for request in server.requests)
        # Two of the four at once are each worker's.
        assert server.most_at_once in (3, 4)
        server.script = conforms
        second = ask(endpoint, work, prompts)
        again = {request.prompt for request in server.requests[asked.total() :]}
    failed = {completion.reason for completion in first if not completion.ok}
    lost = sum(not completion.ok for completion in first)
    assert failed == {"rejected"}
    assert [one.text for one in first if one.text] == [
        f"Answer to: {prompt[0].content}"
        for prompt, completion in zip(prompts, first, strict=True)
        if completion.ok
    ]
    assert len(asked) == len(prompts)
    answered = {prompt[0].content for prompt, one in zip(prompts, first, strict=True) if one.ok}
    assert all(asked[prompt] == 1 for prompt in answered)
    # A worker's first refusal without a reason is tried without one field after another.
    assert asked.total() - len(prompts) <= 2 * 7
    # What two other processes were answered is not asked again, by whomever.
    assert len(again) == lost < 40
    assert all(completion.ok for completion in second)
    assert sum(completion.cached for completion in second) == 40 - lost
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


def test_more_endpoints_than_the_cluster_has_cores_are_asked_side_by_side(tmp_path: Path) -> None:
    """As a conversation asks a teacher, a judge and a user, two workers each, on two cores."""

    async def ask_each(client: TeacherClient, endpoints: list[Endpoint]) -> list[Completion]:
        request = EndpointRequest(user_prompt("How deep?"), seed=0)
        async with timeout(PATIENCE), client.asking(endpoints):
            return list(await gather(*(client.complete("ask", request, e) for e in endpoints)))

    with ScriptedServer(conforms) as server:
        endpoints = [Endpoint(base_url=server.url, model=name) for name in ("t", "j", "u")]
        cluster = Cluster(workers=2)
        with TeacherClient(endpoints, tmp_path / "answers.sqlite", cluster=cluster) as client:
            ended = run(ask_each(client, endpoints))
    assert [one.text for one in ended] == ["Answer to: How deep?"] * 3


def test_a_cluster_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    with ScriptedServer() as server, pytest.raises(UserError) as caught:
        endpoint = Endpoint(base_url=server.url, model="m")
        ask(endpoint, tmp_path, [user_prompt("How?")], Cluster(address="127.0.0.1:9"))
    assert caught.value.line() == (
        "--ray 127.0.0.1:9: no Ray cluster answers (ConnectionRefusedError) — start it with"
        " `ray start --head`, and join it from a machine that is its node"
    )
