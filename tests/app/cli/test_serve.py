"""``persona serve`` as a real server on loopback."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from openai import BadRequestError, NotFoundError, OpenAI
from safetensors.torch import load_file

from app.cli.main import main
from rounds.context import RoundContext, open_context
from rounds.models import linked_model, model_folder
from rounds.runner import StageSpec, Work, run_stage
from tests.training.export.conftest import make_adapter, make_base
from tests.waiting import PATIENCE, waited
from workbench.errors import EXIT_USER_ERROR
from workbench.inference.adapters import AdaptedModel
from workbench.inference.base_models import load_model, load_tokenizer
from workbench.inference.client import complete_all
from workbench.inference.endpoint import Endpoint, free_port
from workbench.inference.exchange import EndpointRequest
from workbench.inference.wire import check_reachable
from workbench.records import user_prompt

pytest.importorskip("uvicorn", reason="the extra [serve] is not installed")


QUESTIONS = ("the chair?", "champ walks now?", "the trainer answers?")


def _is_healthy(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health").status_code == 200
    return False


def adapter_stage(context: RoundContext) -> StageSpec:
    """A stage whose adapter is drawn at random: it says other things than its base."""

    def run(work: Work) -> None:
        make_adapter(work.out / "adapter", Path(context.config.model), lora_alpha=16)

    return StageSpec("sft", run)


def greedy(folder: Path) -> list[str]:
    """Answer through transformers itself."""
    tokenizer, model = load_tokenizer(folder), load_model(folder)
    texts = []
    for question in QUESTIONS:
        turns = [{"role": "user", "content": question}]
        asked = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        output = model.generate(**asked, max_new_tokens=8, do_sample=False)
        new = output[0, asked["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True).strip())
    return texts


@pytest.mark.slow
def test_a_rounds_adapter_is_served_merged_into_its_base(
    of_round: Callable[..., list[str]], tmp_path: Path, tiny_model: Path
) -> None:
    port = free_port()
    options = of_round("http://127.0.0.1:1/v1")
    # Sure of what it says: a server's other order of sums must not change a token.
    base = make_base(tmp_path / "base", tiny_model)
    config = json.loads((tmp_path / "run.yaml").read_text(encoding="utf-8"))
    config_text = json.dumps(config | {"model": str(base)})
    (tmp_path / "run.yaml").write_text(config_text, encoding="utf-8")
    context = open_context(config=tmp_path / "run.yaml", runs=tmp_path / "runs")
    run_stage(context.round, adapter_stage(context), seed=0)
    command = [sys.executable, "-m", "app.cli.main", "serve", "--adapter", "sft"]
    server = subprocess.Popen(
        [*command, "--port", str(port), *options],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        student = Endpoint.model_validate(yaml.safe_load(server.stdout.readline()))
        assert student.model == "tester-sft"
        url = f"http://127.0.0.1:{port}"
        waited(partial(_is_healthy, url), unless=lambda: server.poll() is not None)
        check_reachable(student)
        asked = [
            EndpointRequest(user_prompt(question), temperature=0, max_tokens=8, accept_cut=True)
            for question in QUESTIONS
        ]
        texts = [completion.text for completion in complete_all(student, asked)]
        _serves_openais_clients(f"{url}/v1", texts[0])
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE)
    # Merged once: the second time the folder is there already.
    merged = model_folder(context, "sft")
    assert merged.stat().st_mtime < time.time() - 1
    assert texts == greedy(merged) != greedy(base)
    # Base and adapter, added in float32 and rounded once.
    adapter = context.round.stage("sft") / "adapter"
    model = AdaptedModel(base, [adapter], dtype=torch.float32, merge=True).use(adapter)
    layer: Any = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj")
    weights = load_file(merged / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(weights, layer.base_layer.weight.to(weights.dtype))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def _serves_openais_clients(address: str, text: str) -> None:
    """Ask as ``openai`` asks; ``text`` is the answer to the first question."""
    client = OpenAI(base_url=address, api_key="none", max_retries=0)
    assert [one.id for one in client.models.list()] == ["tester-sft"]
    assert client.models.retrieve("tester-sft").id == "tester-sft"
    turns: Any = [{"role": "user", "content": QUESTIONS[0]}]
    asked: Any = {"model": "tester-sft", "messages": turns, "max_tokens": 8, "temperature": 0}
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    chunks: Any = list(client.chat.completions.create(**asked, **options))
    parts = [one.choices[0].delta.content or "" for one in chunks if one.choices]
    assert "".join(parts).strip() == text
    assert [bool(one.usage) for one in chunks] == [False] * (len(chunks) - 1) + [True]
    stop = text.split()[1]
    answer = client.chat.completions.create(**asked, stop=[stop])
    assert (answer.choices[0].message.content or "").strip() == text[: text.index(stop)].strip()
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "tester-sft")
    assert answer.usage and 0 < answer.usage.completion_tokens < 8 < answer.usage.total_tokens
    with pytest.raises(NotFoundError, match="this server has 'tester-sft'"):
        client.chat.completions.create(**asked | {"model": "gpt"})
    with pytest.raises(BadRequestError, match="one answer a request"):
        client.chat.completions.create(**asked, n=2)
    for origin, allowed in (("http://localhost:3000", True), ("https://example.org", False)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = httpx.options(f"{address}/chat/completions", headers=headers)
        assert ("access-control-allow-origin" in preflight.headers) == allowed


def test_the_base_is_served_under_its_own_name(
    of_round: Callable[..., list[str]], tmp_path: Path, tiny_model: Path
) -> None:
    of_round("http://127.0.0.1:1/v1")
    link = linked_model(open_context(config=tmp_path / "run.yaml", runs=tmp_path / "runs"), None)
    assert (link.name, link.resolve()) == ("tiny-llama", tiny_model.resolve())


def test_what_cannot_be_served_is_told(
    of_round: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    options = of_round("http://127.0.0.1:1/v1")
    assert main(["serve", "--adapter", "dpo", *options]) == EXIT_USER_ERROR
    assert "the round has no adapter 'dpo' — run `persona train dpo --" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port, *options]) == EXIT_USER_ERROR
    assert f"port {port} is taken" in capsys.readouterr().err
