"""Serving with vLLM: the command with the adapter on its base, and a check where vLLM is there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from training.export.gate import Hearing, Questions, hear
from training.export.heard import Heard, Rendered
from training.export.source import Source
from workbench.errors import UserError
from workbench.inference.endpoint import free_port
from workbench.records import Messages, as_messages

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for ``--max-lora-rank``."""
_START = 900.0
"""Seconds that vLLM may take to load a model."""


def vllm_program() -> str:
    """Return the path of vLLM's command, or an empty string."""
    return shutil.which("vllm") or ""


def lora_rank(source: Source) -> int:
    """Return the least ``--max-lora-rank`` that the adapter fits.

    Raises:
        UserError: vLLM takes none as high.
    """
    config = source.adapter_config()
    highest = max([int(config["r"]), *(config.get("rank_pattern") or {}).values()])
    fitting = [rank for rank in _RANKS if rank >= highest]
    if not fitting:
        raise UserError(
            f"vLLM serves adapters up to rank {_RANKS[-1]}, this one has {highest}",
            fix="persona export merged",
        )
    return fitting[0]


def serve_script(source: Source, *, context: int) -> str:
    """Return a shell script that serves base and adapter; ``BASE`` says where the base lies."""
    base = source.base_name if not Path(source.base_name).is_absolute() else ""
    fallback = f"${{BASE:-{base}}}" if base.count("/") == 1 else "${BASE:?folder or hub id}"
    words = ["--enable-lora", f"--max-lora-rank {lora_rank(source)}"]
    words += [f"--lora-modules {shlex.quote(source.name)}=./adapter"]
    words += ["--chat-template ./chat_template.jinja", f"--max-model-len {context}"]
    words += ["--generation-config vllm", '--host "${HOST:-127.0.0.1}" --port "${PORT:-8000}"']
    command = " \\\n  ".join([f'exec vllm serve "{fallback}"', *words, '"$@"'])
    return (
        "#!/bin/sh\n"
        f"# Ask for the model '{source.name}'; its base answers under its own name.\n"
        f'set -eu\ncd "$(dirname "$0")"\n{command}\n'
    )


def listen_to_vllm(source: Source, folder: Path, asked: Questions) -> Hearing:
    """Serve an exported folder with vLLM and ask it everything.

    Raises:
        UserError: vLLM does not come up.
    """
    port = free_port()
    environment = {**os.environ, "BASE": str(source.base), "PORT": str(port)}
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    server = subprocess.Popen(
        ["sh", str(folder / "serve.sh")], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=600, trust_env=False
        ) as http:
            _wait(server, http)
            return hear(Vllm(http, source.name), asked)
    finally:
        server.terminate()
        server.wait(60)


def _wait(server: subprocess.Popen[bytes], http: httpx.Client) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end and server.poll() is None:
        try:
            if http.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise UserError("vLLM did not come up", fix="its own words above say why")


class Vllm:
    """A model of a vLLM server.

    Args:
        http: Client of the server's address.
        model: The adapter's name.
    """

    def __init__(self, http: httpx.Client, model: str) -> None:
        self._http, self._model = http, model

    def render(self, chat: Messages) -> Rendered:
        """Return a prompt as vLLM tokenizes it; it does not tell its text."""
        asked = {"model": self._model, "messages": as_messages(chat), "add_generation_prompt": True}
        reply = self._http.post("/tokenize", json=asked).raise_for_status().json()
        ids = reply["tokens"]
        text = self._http.post("/detokenize", json={"model": self._model, "tokens": ids})
        return Rendered(text.raise_for_status().json()["prompt"], tuple(ids))

    def answer(self, chats: Sequence[Messages], max_new_tokens: int) -> list[Heard]:
        """Return greedy answers, in order."""
        return [self._chat(chat, max_new_tokens) for chat in chats]

    def _chat(self, chat: Messages, max_new_tokens: int) -> Heard:
        asked = {
            "model": self._model,
            "messages": as_messages(chat),
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "logprobs": True,
            "return_tokens_as_token_ids": True,
        }
        reply = self._http.post("/v1/chat/completions", json=asked).raise_for_status().json()
        choice = reply["choices"][0]
        said = choice["logprobs"]["content"]
        return Heard(
            ids=tuple(int(token["token"].removeprefix("token_id:")) for token in said),
            logprobs=tuple(token["logprob"] for token in said),
            text=choice["message"]["content"].strip(),
            ended=choice["finish_reason"] == "stop",
        )
