"""A GGUF file as a real llama.cpp serves it: the package's, or a server found on the machine."""

from __future__ import annotations

import importlib.util
import math
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx

from training.export.heard import Heard, Rendered
from workbench.errors import UserError
from workbench.inference.endpoint import free_port
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


class LlamaCpp:
    """A llama.cpp server on loopback, as a context manager.

    Args:
        model: The GGUF file.
        lora: An adapter as GGUF to put on it.
        context: Tokens that a prompt and its answer may take.

    Raises:
        UserError: No llama.cpp, or one that refuses the file: it says why.
    """

    def __init__(self, model: Path, *, lora: Path | None = None, context: int = _CONTEXT) -> None:
        self.model, self.lora, self.context = model, lora, context

    def __enter__(self) -> Self:
        program = available()
        if not program:
            raise UserError(
                "no llama.cpp is there to check the file with",
                fix=f"pip install xllamacpp, or name a llama-server in {VARIABLE}",
            )
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
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._listen, daemon=True)
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

    def render(self, chat: Messages) -> Rendered:
        """Return a prompt as the server renders and tokenizes it for a chat."""
        messages = as_messages(chat)
        text = self._post("/apply-template", {"messages": messages})["prompt"]
        wanted = {"content": text, "add_special": True, "parse_special": True}
        return Rendered(text, tuple(self._post("/tokenize", wanted)["tokens"]))

    def answer(self, chats: Sequence[Messages], max_new_tokens: int) -> list[Heard]:
        """Return the greedy answers to the prompts that the server itself renders, in order."""
        with ThreadPoolExecutor(_SLOTS) as pool:
            return list(pool.map(lambda chat: self._answer(chat, max_new_tokens), chats))

    def _answer(self, chat: Messages, max_new_tokens: int) -> Heard:
        asked = {
            "prompt": self._post("/apply-template", {"messages": as_messages(chat)})["prompt"],
            "n_predict": max_new_tokens,
            "temperature": 0,
            "n_probs": 1,
            "return_tokens": True,  # which the chat endpoint does not do
            "cache_prompt": False,  # else an answer depends on what was asked before
        }
        reply = self._post("/completion", asked)
        ids, told = tuple(reply["tokens"]), iter(reply.get("completion_probabilities") or [])
        # Tokens that end within a character have no entry: the next entry is of a later token.
        logprobs: list[float] = []
        entry = next(told, None)
        for token in ids:
            if entry is not None and entry["id"] == token:
                logprobs.append(float(entry["logprob"]))
                entry = next(told, None)
            else:
                logprobs.append(math.nan)
        ended = reply["stop_type"] != "limit"
        return Heard(ids, tuple(logprobs), reply["content"].strip(), ended)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            reply = self._client.post(path, json=body)
        except httpx.TransportError as error:
            raise self._refused(f"stopped while it was asked ({type(error).__name__})") from None
        if reply.status_code != 200:
            raise self._refused(f"refuses {path}: {reply.text[:200]}")
        return reply.json()

    def _package(self) -> tuple[list[str], str]:
        command = [sys.executable, "-m", "training.export.llama_server"]
        command += ["--model", str(self.model), "--context", str(self.context)]
        command += ["--slots", str(_SLOTS), "--threads", str(_threads())]
        return command + (["--lora", str(self.lora)] if self.lora else []), ""

    def _binary(self, program: str) -> tuple[list[str], str]:
        port = free_port()
        command = [program, "--model", str(self.model), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--jinja", "--parallel", str(_SLOTS)]
        command += ["--ctx-size", str(self.context * _SLOTS), "--threads", str(_threads())]
        command += ["--check-tensors"]
        command += ["--lora", str(self.lora)] if self.lora else []
        return command, f"http://127.0.0.1:{port}"

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line.rstrip())

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
        told = [line for line in self._said if "error" in line.lower() or "failed" in line.lower()]
        why = f": {told[0].strip()}" if told else ""
        return UserError(f"llama.cpp {what}{why}", where=str(self.lora or self.model))

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(5)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def _threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
