"""A model of a hub: a plan fetches no weights, and a model without them is one line."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

COMMIT = "1" * 40
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": b"weights", "code.py": b""}


def _entry(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": path}


class Hub(ThreadingHTTPServer):
    """One repository of :data:`FILES`; keeps the names of those that were fetched."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fetched: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        """Answer without the body."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """Answer a listing or a file."""
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        name = self.path.rpartition("/")[2]
        known = name in FILES
        if known:
            body = FILES[name]
            self.server.fetched += [name] if with_body else []
        elif "/tree/" in self.path:
            body = json.dumps([_entry(*file) for file in FILES.items()]).encode()
        else:
            siblings = [{"rfilename": one} for one in FILES]
            body = json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{name}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def resolve(call: str, home: Path, address: str, **environment: str) -> str:
    """Return what a fresh process prints, the hub's settings being read when it is imported."""
    code = (
        "from workbench.inference.base_models import resolve_model\n"
        "from workbench.errors import UserError\n"
        f"try: print(*sorted(path.name for path in resolve_model({call}).iterdir()))\n"
        "except UserError as error: print(error.line())"
    )
    given = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=given, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def test_a_plan_asks_a_hub_for_no_weights_and_training_then_does(hub: Hub, tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{hub.server_port}"

    assert resolve("'org/tiny', weights=False", tmp_path, address) == "config.json"
    assert hub.fetched == ["config.json"]

    # Without a network, what the plan left is not taken for the model.
    told = resolve("'org/tiny'", tmp_path, address, HF_HUB_OFFLINE="1")
    assert told.startswith("model 'org/tiny' cannot be reached")
    assert "hf download org/tiny" in told

    assert resolve("'org/tiny'", tmp_path, address) == "config.json model.safetensors"
    assert hub.fetched == ["config.json", "model.safetensors"]  # never code


@pytest.mark.parametrize(("major", "dtype"), [(7, "float16"), (8, "bfloat16")])
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float16(
    major: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from workbench.inference.base_models import compute_dtype

    # A T4 has compute capability 7.5, and makes a tensor of bfloat16 without complaint.
    properties = SimpleNamespace(major=major, minor=5)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)

    assert torch.cuda.is_bf16_supported()
    assert str(compute_dtype()) == f"torch.{dtype}"
