"""``persona serve`` as a real server on loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from generation.bare import bare_answers
from workbench.cli.main import main
from workbench.endpoint import Endpoint, check_reachable
from workbench.errors import EXIT_USER_ERROR
from workbench.records import Example, user_prompt

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")


@pytest.mark.slow
def test_the_base_is_served_as_a_student(
    of_round: Callable[..., list[str]], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = of_round("http://127.0.0.1:1/v1")
    command = [sys.executable, "-m", "workbench.cli.main", "serve", "--port", str(port), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert server.stdout is not None
        student = Endpoint.model_validate(yaml.safe_load(server.stdout.readline()))
        assert student.model == "tiny-llama"
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + 120
        while True:
            assert server.poll() is None and time.monotonic() < end
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.5)
        check_reachable(student)
        asked = [Example(prompt=user_prompt("the chair?"), answer="Up.")]
        bare = bare_answers(asked, student, max_new_tokens=8, workdir=tmp_path / "work")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    assert len(bare.responses) == 1
    assert 1 <= bare.responses[0].tokens <= 8
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_what_cannot_be_served_is_told(
    of_round: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = of_round("http://127.0.0.1:1/v1")
    assert main(["serve", "--adapter", "dpo", *options]) == EXIT_USER_ERROR
    assert (
        "the round has no adapter 'dpo' — run `persona train dpo` first" in capsys.readouterr().err
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, *options]) == EXIT_USER_ERROR
    assert f"port {port} is taken" in capsys.readouterr().err
