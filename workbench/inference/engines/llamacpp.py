"""llama.cpp as an engine: a GGUF file served by the package's llama.cpp, or by one found here.

The parity gate of an export asks it. Run as ``python -m workbench.inference.engines.llamacpp
OPTIONS`` it is the package's server: it prints its address as one line and serves until its
standard input ends, so that it cannot outlive whoever started it.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import math
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import httpx

from workbench.cores import free_cores
from workbench.errors import UserError
from workbench.inference.endpoint import free_port
from workbench.inference.engines import chats
from workbench.inference.reasoning import opens_reasoning, separate
from workbench.records import Messages, as_messages

VARIABLE = "LLAMA_SERVER"
"""Environment variable that names a ``llama-server`` to use instead of the package's."""
_START = 180.0
"""Seconds that a server may take to load a model."""
_CONTEXT = 2048
_SLOTS = 4


def available() -> str:
    """Return which llama.cpp there is, or an empty string."""
    if named := os.environ.get(VARIABLE):
        return named
    if importlib.util.find_spec("xllamacpp"):
        return "xllamacpp"
    return shutil.which("llama-server") or ""


def check_available() -> str:
    """Return which llama.cpp there is.

    Raises:
        UserError: None is there.
    """
    if program := available():
        return program
    raise UserError(
        "no llama.cpp is there to check the file with",
        fix=f"pip install xllamacpp, or name a llama-server in {VARIABLE}",
    )


class LlamaCpp:
    """A llama.cpp server on loopback, as a context manager.

    ``lora`` is an adapter as GGUF to put on ``model``; ``context`` the tokens that a prompt and its
    answer may take; ``slots`` how many are answered at once.

    Raises:
        UserError: No llama.cpp, or one that refuses the file: it says why.
    """

    def __init__(
        self,
        model: Path,
        *,
        lora: Path | None = None,
        context: int = _CONTEXT,
        slots: int = _SLOTS,
    ) -> None:
        self.model, self.lora, self.context, self.slots = model, lora, context, slots

    def __enter__(self) -> Self:
        program = check_available()
        own = program == "xllamacpp"
        command, address = self._package() if own else self._binary(program)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if own else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._log: list[str] = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            address = address or self._announced()
            self._client = httpx.Client(base_url=address, timeout=600.0, trust_env=False)
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._stop()

    def render(self, chat: Messages) -> chats.RenderedPrompt:
        """Return a prompt as the server renders and tokenizes it for a chat."""
        text = self._post("/apply-template", {"messages": as_messages(chat)})["prompt"]
        body = {"content": text, "add_special": True, "parse_special": True}
        return chats.RenderedPrompt(text, tuple(self._post("/tokenize", body)["tokens"]))

    def answer(
        self, requests: Iterable[chats.ChatRequest], on_answer: chats.OnAnswer, how: chats.Decoding
    ) -> None:
        """Answer the prompts that the server itself renders; see :meth:`.chats.Engine.answer`."""

        def answer_one(request: chats.ChatRequest) -> chats.ChatAnswer | None:
            prompt = self.render(request.chat)
            if len(prompt.ids) + how.max_new_tokens > self.context:
                return None
            return self._complete(prompt, request.seed, how)

        chats.answer_concurrently(requests, on_answer, answer_one, self.slots)

    def _complete(
        self, prompt: chats.RenderedPrompt, seed: int, how: chats.Decoding
    ) -> chats.ChatAnswer:
        body = {
            "prompt": prompt.text,
            "n_predict": how.max_new_tokens,
            "temperature": how.temperature if seed else 0,
            "seed": seed % 2**32,
            "n_probs": 1,
            "return_tokens": True,  # which the chat endpoint does not do
            "cache_prompt": False,  # else an answer depends on what was asked before
        }
        reply = self._post("/completion", body)
        ids, entries = tuple(reply["tokens"]), iter(reply.get("completion_probabilities") or [])
        # Tokens that end within a character have no entry: the next entry is of a later token.
        logprobs: list[float] = []
        entry = next(entries, None)
        for token in ids:
            if entry is not None and entry["id"] == token:
                logprobs.append(float(entry["logprob"]))
                entry = next(entries, None)
            else:
                logprobs.append(math.nan)
        apart = separate(reply["content"], inside=opens_reasoning(prompt.text))
        return chats.ChatAnswer(
            text=apart.text,
            reasoning=len(apart.reasoning),
            tokens=len(ids),
            prompt_tokens=len(prompt.ids),
            ids=ids,
            logprobs=tuple(logprobs),
            ended=reply["stop_type"] != "limit",
        )

    def _post(self, path: str, body: dict[str, object]) -> Any:
        try:
            reply = self._client.post(path, json=body)
        except httpx.TransportError as error:
            raise self._refused(f"stopped while it was asked ({type(error).__name__})") from None
        if reply.status_code != 200:
            raise self._refused(f"refuses {path}: {reply.text[:200]}")
        return reply.json()

    def _package(self) -> tuple[list[str], str]:
        command = [sys.executable, "-m", __name__, "--model", str(self.model)]
        command += ["--context", str(self.context), "--slots", str(self.slots)]
        command += ["--threads", str(free_cores())]
        return command + (["--lora", str(self.lora)] if self.lora else []), ""

    def _binary(self, program: str) -> tuple[list[str], str]:
        port = free_port()
        command = [program, "--model", str(self.model), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--jinja", "--parallel", str(self.slots)]
        command += ["--ctx-size", str(self.context * self.slots), "--threads", str(free_cores())]
        command += ["--check-tensors"]
        command += ["--lora", str(self.lora)] if self.lora else []
        return command, f"http://127.0.0.1:{port}"

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._log.append(line.rstrip())

    def _announced(self) -> str:
        """Return the address that the package's server prints."""
        lines: queue.Queue[str] = queue.Queue()
        stdout = self._process.stdout
        assert stdout is not None
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            address = lines.get(timeout=_START).strip()
        except queue.Empty:
            raise self._refused(f"did not load it within {_START:.0f} s") from None
        if not address:
            raise self._refused("refuses the file")
        return address

    def _wait(self) -> None:
        end = time.monotonic() + _START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self._refused("refuses the file")
            try:
                if self._client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise self._refused(f"did not load it within {_START:.0f} s")

    def _refused(self, what: str) -> UserError:
        self._stop()
        lines = [line for line in self._log if "error" in line.lower() or "failed" in line.lower()]
        why = f": {lines[0].strip()}" if lines else ""
        return UserError(f"llama.cpp {what}{why}", where=str(self.lora or self.model))

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def _lend_openmp() -> None:
    """Load torch's OpenMP library where the system has none: llama.cpp's build wants one."""
    torch = importlib.util.find_spec("torch")
    for folder in (torch.submodule_search_locations or ()) if torch else ():
        library = Path(folder) / "lib" / "libgomp.so.1"
        if library.exists():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def main() -> None:
    """Serve one GGUF file on loopback with the package's llama.cpp."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    _lend_openmp()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.n_ctx = options.context * options.slots
    params.n_parallel = options.slots
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.use_jinja, params.warmup = True, False
    if options.lora:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(options.lora, 1.0)]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
