"""A judge that follows a script: an OpenAI-compatible server on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    content: str | None = None
    status: int = 200
    delay: float = 0.0
    refusal: str | None = None


def says(value: str) -> Reply:
    return Reply(json.dumps({"reason": "Because.", "value": value}))


@dataclass
class Judge:
    script: Callable[[str], Reply]
    url: str = ""
    prompts: list[str] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, body: dict) -> Reply:
        # The schema comes before the question, turns about a broken answer after it.
        prompt = next(m["content"] for m in body["messages"] if m["role"] == "user")
        with self.lock:
            self.prompts.append(prompt)
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
        try:
            reply = self.script(prompt)
            time.sleep(reply.delay)
            return reply
        finally:
            with self.lock:
                self.busy -= 1


@contextmanager
def serve(script: Callable[[str], Reply]) -> Iterator[Judge]:
    judge = Judge(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = judge.answer(body)
            message = {"role": "assistant", "content": reply.content, "refusal": reply.refusal}
            payload = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            if reply.status != 200:
                payload = {"error": {"message": "scripted", "type": "scripted"}}
            data = json.dumps(payload).encode()
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except BrokenPipeError:
                return  # the client's time ran out before the scripted delay

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()
