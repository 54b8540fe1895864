"""An OpenAI-compatible chat server on loopback whose replies are a function of the request.

It stands in for a teacher or a judge: tests script its answers and its failures, and read what it
was asked. It is a real server on a real socket; no client is patched.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Request:
    """One chat request as the server saw it."""

    body: dict[str, Any]
    number: int
    """0-based number among all requests."""
    time: int
    """0-based number among the requests with the same turns, retries included."""
    path: str = ""
    """With what stands behind a question mark."""
    headers: dict[str, str] = field(default_factory=dict)
    """By their names in lower case."""

    @property
    def prompt(self) -> str:
        """The first user turn: retries add turns after it."""
        messages: list[dict[str, str]] = self.body["messages"]
        return next(m["content"] for m in messages if m["role"] == "user")

    @property
    def system(self) -> str:
        return next((m["content"] for m in self.body["messages"] if m["role"] == "system"), "")

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON schema that is asked for, if one is."""
        wanted = self.body.get("response_format") or {}
        return wanted["json_schema"]["schema"] if wanted.get("type") == "json_schema" else None

    @property
    def json_mode(self) -> bool:
        """Whether JSON is asked for whose form stands in the prompt, as a judge is."""
        return (self.body.get("response_format") or {}).get("type") == "json_object"

    @property
    def share(self) -> float:
        """A number from 0 to 1 that is always the same for the same first user turn."""
        return int(hashlib.sha256(self.prompt.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@dataclass(frozen=True)
class Reply:
    """One scripted reply; ``raw`` stands in for the whole body."""

    content: str | None = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    raw: bytes | None = None
    finish_reason: str = "stop"
    refusal: str | None = None
    reset: bool = False
    code: str = "scripted"
    param: str | None = None


Script = Callable[[Request], Reply]
COMPLAINT = "That is not what was asked for"
"""What a retry's last turn begins with, after JSON of another shape."""


def says(text: str, *, delay: float = 0.0, finish_reason: str = "stop") -> Reply:
    return Reply(text, delay=delay, finish_reason=finish_reason)


def conforms(request: Request) -> Reply:
    """Answer in the schema that is asked for, yes to a judge's question, else by an echo."""
    if request.json_mode:
        return says(json.dumps({"reason": "So.", "value": "yes"}))
    if request.schema is None:
        return says(f"Answer to: {request.prompt[-200:]}")
    return says(json.dumps(instance(request.schema, request.prompt), ensure_ascii=False))


def fails(
    status: int, *, code: str = "scripted", param: str | None = None, **headers: str
) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=named, code=code, param=param)


def instance(schema: dict[str, Any], seed: str, path: str = "") -> Any:
    """Return a small value that fits a JSON schema, other strings for another ``seed``."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {
                name: instance(part, seed, f"{path}.{name}") for name, part in properties.items()
            }
        case "array":
            return [instance(schema["items"], seed, f"{path}.{n}") for n in range(5)]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return hashlib.sha256(f"{seed}{path}".encode()).hexdigest()[:24]


FAILURES: dict[str, Reply] = {
    "rate_limit": fails(429, Retry_After="0"),
    "server_error": fails(500),
    "timeout": says("late", delay=30.0),
    "connection": Reply(reset=True),
    "malformed_reply": Reply(raw=b'{"id": "1", "choices": [{"mess'),
    "wrong_body": Reply(raw=b'{"answer": "a body of another shape"}'),
    "empty_answer": says("   "),
    "too_long": says("word " * 20_000),
}
"""The ways in which an endpoint lets a job down, by the name of what becomes of the request."""


class ScriptedServer:
    """The server, as a context manager.

    Args:
        script: What to reply to a request.
        api_key: The only key that is let in; any, by default.
        models: Status of the list of models.

    Attributes:
        url: Base address, with ``/v1``.
        requests: Every chat request, in the order of arrival.
        most_at_once: Most requests that were under way at once.
    """

    def __init__(self, script: Script = conforms, *, api_key: str = "", models: int = 200) -> None:
        self.script, self.api_key, self.models = script, api_key, models
        self.requests: list[Request] = []
        self.batches: Batches | None = None
        """Where requests may be left as files; nowhere by default."""
        self.at_once = self.most_at_once = 0
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self.listener = _Listener(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.listener.server_port}/v1"
        self._thread = threading.Thread(target=self.listener.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.listener.shutdown()
        self.listener.server_close()
        self._thread.join()

    def reply(self, body: dict[str, Any], path: str, headers: dict[str, str]) -> Reply:
        """Count a request and return its scripted reply, after its delay."""
        if body.get("messages") == []:
            return fails(400, code="no_messages")
        turns = body.get("messages") or [body]
        if len(turns) > 2 and str(turns[-1].get("content")).startswith(COMPLAINT):
            turns = turns[:-2]
        first = json.dumps(turns, sort_keys=True)
        with self._lock:
            request = Request(body, len(self.requests), self._seen[first], path, headers)
            self._seen[first] += 1
            self.requests.append(request)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            reply = self.script(request)
            self._closing.wait(reply.delay) if reply.delay else None
            return reply
        finally:
            with self._lock:
                self.at_once -= 1


class Batches:
    """The batch endpoint of a scripted server, which works when it is looked at.

    Args:
        server: Replies to the requests in the files.
        looks: Times that a batch is looked at until it is done.
    """

    def __init__(self, server: ScriptedServer, looks: int = 2) -> None:
        self.server, self.looks = server, looks
        self.files: dict[str, bytes] = {}
        self.made: dict[str, dict[str, Any]] = {}
        self.end = "completed"
        """How batches end; of those that expire every other request has no reply."""
        server.batches = self

    def post(self, path: str, raw: bytes) -> tuple[int, bytes]:
        """Take a file, or make a batch of one."""
        if path.endswith("/files"):
            lines = [line for line in raw.splitlines() if line.startswith(b'{"custom_id"')]
            assert lines and b'name="purpose"\r\n\r\nbatch' in raw
            return 200, json.dumps({"id": self._file(lines), "object": "file"}).encode()
        made = json.loads(raw)
        assert made["endpoint"] == "/v1/chat/completions" and made["completion_window"] == "24h"
        batch = {**made, "id": f"batch-{len(self.made)}", "status": "validating", "looks": 0}
        self.made[batch["id"]] = batch
        return 200, json.dumps(batch).encode()

    def get(self, path: str) -> tuple[int, bytes]:
        """Return a file, a batch, or all of them."""
        if path.endswith("/content"):
            return 200, self.files[path.split("/")[-2]]
        if "/batches?" in path:
            return 200, json.dumps({"data": list(self.made.values())}).encode()
        batch = self.made.get(path.rpartition("/")[2])
        if batch is None:
            return 404, b'{"error": {"message": "No such batch"}}'
        batch["looks"] += 1
        batch["status"] = "in_progress" if batch["looks"] < self.looks else self.end
        if batch["status"] != "in_progress" and "output_file_id" not in batch:
            self._work(batch)
        return 200, json.dumps(batch).encode()

    def _file(self, lines: list[bytes]) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = b"\n".join(lines)
        return name

    def _work(self, batch: dict[str, Any]) -> None:
        good: list[bytes] = []
        bad: list[bytes] = []
        if self.end == "failed":
            batch["errors"] = {"data": [{"code": "bad_file", "message": "It is no JSONL."}]}
            return
        for number, line in enumerate(self.files[batch["input_file_id"]].splitlines()):
            asked = json.loads(line)
            if self.end == "expired" and number % 2:
                continue
            reply = self.server.reply(asked["body"], "batch", {})
            body = json.loads(_payload(reply, asked["body"]))
            answer = {"status_code": reply.status, "body": body}
            entry = {"custom_id": asked["custom_id"], "response": answer, "error": None}
            (good if reply.status == 200 else bad).append(json.dumps(entry).encode())
        batch["output_file_id"] = self._file(good)
        batch["error_file_id"] = self._file(bad)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that left, as those that ran out of time do."""


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are two writes; Nagle's algorithm would hold back the second.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self._let_in() and server.batches and self.path != "/v1/models":
                self._send(*server.batches.get(self.path))
            elif self._let_in():
                listed = json.dumps({"object": "list", "data": [{"id": "scripted"}]}).encode()
                self._send(server.models, listed if server.models == 200 else b"{}")

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            if not self._let_in():
                return
            if not self.path.partition("?")[0].endswith(("/chat/completions", "/embeddings")):
                given = server.batches
                self._send(*(given.post(self.path, raw) if given else (404, b"{}")))
                return
            body = json.loads(raw)
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server.reply(body, self.path, headers)
            if reply.reset:
                # No lingering: the client gets a reset instead of an end.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
                self.close_connection = True
                return
            self._send(reply.status, _payload(reply, body), reply.headers)

        def _let_in(self) -> bool:
            if server.api_key and self.headers["Authorization"] != f"Bearer {server.api_key}":
                self._send(401, b'{"error": {"message": "wrong key", "code": "invalid_api_key"}}')
                return False
            return True

        def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _payload(reply: Reply, body: dict[str, Any]) -> bytes:
    if reply.raw is not None:
        return reply.raw
    if reply.status != 200:
        error = {"message": "scripted failure", "code": reply.code, "param": reply.param}
        return json.dumps({"error": error}).encode()
    message = {"role": "assistant", "content": reply.content, "refusal": reply.refusal}
    asked = sum(len(turn["content"].split()) for turn in body["messages"])
    said = len((reply.content or "").split())
    usage = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }
    ).encode()
