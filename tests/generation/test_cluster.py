"""The same pipeline on a local Ray cluster of two workers."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from generation.jobs import Cluster
from generation.pipeline import teacher_rows
from tests.scripted_server import Reply, Request, ScriptedServer, conforms, fails
from workbench.endpoint import Endpoint
from workbench.errors import UserError
from workbench.persona import Persona
from workbench.records import Example

SECRET = "sk-cluster-secret-0815"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is an extra: [ray]"),
]


def test_two_workers_ask_share_the_bounds_and_keep_their_answers_here(
    persona: Persona, seeds: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(request: Request) -> Reply:
        return fails(400) if request.system and request.share < 0.1 else conforms(request)

    monkeypatch.setenv("CLUSTER_KEY", SECRET)
    work = tmp_path / "work"
    with ScriptedServer(script, api_key=SECRET) as server:
        endpoint = Endpoint(
            base_url=server.url, model="m", api_key_env="CLUSTER_KEY", concurrency=4, backoff=0.02
        )
        about = {"per_topic": 30, "workdir": work, "cluster": Cluster(workers=2)}
        first = teacher_rows(persona, seeds, endpoint, **about)
        asked = Counter(request.prompt for request in server.requests)
        server.script = conforms
        second = teacher_rows(persona, seeds, endpoint, **about)
        again = server.requests[asked.total() :]
        assert server.most_at_once <= 4
    assert first.planned == 60 == len(first.examples) + first.failed["rejected"]
    assert set(asked.values()) == {1}
    # What two other processes were answered lies in this machine's file, and is not asked again.
    assert {request.prompt for request in again} == {
        request.prompt for request in again if request.share < 0.1
    }
    assert len(again) == first.failed["rejected"] > 0
    assert len(second.examples) == 60
    assert first.paid["answers"].attempts == 60
    log = (work / "distilabel.log").read_text(encoding="utf-8")
    for replica in (0, 1):
        assert f"in 'answers' (replica ID: {replica})" in log
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


def test_a_cluster_that_does_not_answer_is_one_line(
    persona: Persona, seeds: list[Example], tmp_path: Path
) -> None:
    with ScriptedServer() as server, pytest.raises(UserError) as caught:
        endpoint = Endpoint(base_url=server.url, model="m")
        away = Cluster(address="127.0.0.1:9")
        teacher_rows(persona, seeds, endpoint, per_topic=1, workdir=tmp_path / "work", cluster=away)
    assert "--ray 127.0.0.1:9: no Ray cluster answers" in caught.value.line()
