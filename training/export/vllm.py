"""Serving with vLLM: the command with the adapter on its base; and the gate's way to ask vLLM."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import httpx

from training.export.carried import public_name
from training.export.gate import ExportAnswers, ParityPrompts, ask
from training.export.source import ExportSource
from workbench.errors import UserError
from workbench.inference.endpoint import free_port
from workbench.inference.engines import chats
from workbench.records import Messages, as_messages

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for ``--max-lora-rank``."""
_START = 900.0
"""Seconds that vLLM may take to load a model."""


def vllm_program() -> str:
    """Return the path of vLLM's command, or an empty string."""
    return shutil.which("vllm") or ""


def lora_rank(source: ExportSource) -> int:
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


def serve_script(source: ExportSource, *, context: int) -> str:
    """Return a shell script that serves base and adapter, or the base alone where there is none.

    ``BASE`` says where the base lies, ``context`` is tokens of prompt and answer together.
    """
    base = public_name(source.base_name)
    fallback = f"${{BASE:-{base}}}" if base.count("/") == 1 else "${BASE:?folder or hub id}"
    name, answers = shlex.quote(source.name), "its base answers under its own name"
    if source.adapter:
        words = ["--enable-lora", f"--max-lora-rank {lora_rank(source)}"]
        words += [f"--lora-modules {name}=./adapter"]
    else:
        words, answers = [f"--served-model-name {name}"], "it is the base with a system prompt"
    words += ["--chat-template ./chat_template.jinja", f"--max-model-len {context}"]
    words += ["--generation-config .", '--host "${HOST:-127.0.0.1}" --port "${PORT:-8000}"']
    command = " \\\n  ".join([f'exec vllm serve "{fallback}"', *words, '"$@"'])
    return (
        "#!/bin/sh\n"
        f"# Ask for the model '{source.name}'; {answers}.\n"
        f'set -eu\ncd "$(dirname "$0")"\n{command}\n'
    )


def ask_vllm(source: ExportSource, folder: Path, prompts: ParityPrompts) -> ExportAnswers:
    """Serve an exported folder with vLLM and ask it every prompt.

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
            return ask(VllmServer(http, source.name), prompts)
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


class VllmServer:
    """A model of a vLLM server."""

    def __init__(self, http: httpx.Client, model: str) -> None:
        self._http, self._model = http, model

    def render(self, chat: Messages) -> chats.RenderedPrompt:
        """Return a prompt as vLLM tokenizes it; it does not tell its text."""
        body = {"model": self._model, "messages": as_messages(chat), "add_generation_prompt": True}
        reply = self._http.post("/tokenize", json=body).raise_for_status().json()
        ids = reply["tokens"]
        text = self._http.post("/detokenize", json={"model": self._model, "tokens": ids})
        return chats.RenderedPrompt(text.raise_for_status().json()["prompt"], tuple(ids))

    def answer(
        self, requests: Iterable[chats.ChatRequest], on_answer: chats.OnAnswer, how: chats.Decoding
    ) -> None:
        """Answer chats one after the other, so that no batch changes a token."""
        chats.answer_concurrently(requests, on_answer, partial(self._complete, how), workers=1)

    def _complete(self, how: chats.Decoding, request: chats.ChatRequest) -> chats.ChatAnswer:
        body = {
            "model": self._model,
            "messages": as_messages(request.chat),
            "max_tokens": how.max_new_tokens,
            "temperature": how.temperature if request.seed else 0,
            "seed": request.seed % 2**31,
            "logprobs": True,
            "return_tokens_as_token_ids": True,
        }
        reply = self._http.post("/v1/chat/completions", json=body).raise_for_status().json()
        choice = reply["choices"][0]
        tokens = choice["logprobs"]["content"]
        return chats.ChatAnswer(
            text=choice["message"]["content"].strip(),
            tokens=reply["usage"]["completion_tokens"],
            prompt_tokens=reply["usage"]["prompt_tokens"],
            ids=tuple(int(token["token"].removeprefix("token_id:")) for token in tokens),
            logprobs=tuple(token["logprob"] for token in tokens),
            ended=choice["finish_reason"] == "stop",
        )
