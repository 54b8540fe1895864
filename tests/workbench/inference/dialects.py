"""How thirty servers speak what they all call OpenAI's API: small variations of one script.

A :class:`Dialect` says which fields a server refuses and in which words, how it wraps an answer,
how it counts tokens, and what it says of prompts that it filters and of too many requests. Errors
are rebuilt from what such servers are known to send. :meth:`Dialect.script` is a script of the
scripted server; it counts what it would bill.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.scripted_server import Reply, Request, instance

Wrap = Callable[[str], dict[str, Any]]
QUESTIONS = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
}
FILTERED_BELOW = 0.2
"""Share of the questions that are filtered, where a dialect filters."""


def error(status: int, body: object, **headers: str) -> Reply:
    """Return an error as a server sends it: JSON, or a text or a page as it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if isinstance(body, str):
        kind = "text/html" if body.startswith("<") else "text/plain"
        return Reply(status=status, headers={"Content-Type": kind, **named}, raw=body.encode())
    return Reply(status=status, headers=named, raw=json.dumps(body, ensure_ascii=False).encode())


def openai(status: int, message: str, **fields: object) -> Reply:
    """Return an error in OpenAI's own form."""
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return error(status, {"error": body | fields})


def plain(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def thinks(before: str, after: str = "") -> Wrap:
    return lambda text: plain(f"{before}{text}{after}")


def beside(name: str) -> Wrap:
    return lambda text: {**plain(text), name: "The user asks. Champ has to stand there."}


def counted(asked: int, said: int) -> dict[str, Any] | None:
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _events(message: Mapping[str, Any], finish: str, usage: Any) -> str:
    """Return an answer as a stream of events, in three pieces."""
    text = message["content"]
    pieces = [text[:5], text[5:9], text[9:]]
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
        for piece in pieces
    ]
    events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        events.append({"choices": [], "usage": usage})
    return "".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n"


@dataclass
class Dialect:
    """One server's manner."""

    name: str
    refuses: Mapping[str, Reply] = field(default_factory=dict)
    """Field, or ``json_schema``, ``json_object``, ``system``, ``greedy`` → what is said of it."""
    wrap: Wrap = plain
    wrap_json: Wrap | None = None
    """Of JSON, where it differs."""
    usage: Callable[[int, int], dict[str, Any] | None] = counted
    finish: str = "stop"
    filtered: Reply | None = None
    """What a filtered prompt gets."""
    first: Reply | None = None
    """What many prompts get once, before their answer."""
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    needs: Callable[[Request], Reply | None] = lambda request: None
    """What a request must have, in its body, headers or address."""
    models: int = 200
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ours for it."""
    left_out: frozenset[str] = frozenset()
    """What has to be learnt of it."""
    reasons: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the doctor has to say of it."""
    bills: bool = True
    """Whether it counts tokens."""

    def __post_init__(self) -> None:
        self.input_tokens = self.output_tokens = 0
        self.filters = 0
        self._lock = threading.Lock()

    def script(self, request: Request) -> Reply:
        """Reply to a request."""
        if wrong := self.needs(request) or self._refusal(request.body):
            return wrong
        judge, asks = '"value"' in request.prompt, '{"questions"' in request.prompt
        if self.filtered and request.system and request.share < FILTERED_BELOW:
            self.filters += 1
            return self.filtered
        if self.first and request.time == 0 and (asks or request.share < 0.4):
            return self.first
        if judge or request.json_mode:
            text = json.dumps({"reason": "It does.", "value": "yes"})
        elif asks or request.schema:
            text = json.dumps(instance(request.schema or QUESTIONS, request.prompt))
        else:
            text = f"Champ, this is the answer to number {request.share:.8f}, so stand up."
        wrap = self.wrap_json if text.startswith("{") and self.wrap_json else self.wrap
        return self._answer(request, wrap(text))

    def _refusal(self, body: Mapping[str, Any]) -> Reply | None:
        form = (body.get("response_format") or {}).get("type")
        system = any(turn["role"] == "system" for turn in body["messages"])
        for name, reply in self.refuses.items():
            if name == "greedy" and body.get("temperature") == 0:
                return reply
            if name in body or name == form or (name == "system" and system):
                return reply
        return None

    def _answer(self, request: Request, message: dict[str, object]) -> Reply:
        asked = sum(len(turn["content"].split()) for turn in request.body["messages"])
        said = len(json.dumps(message).split())
        with self._lock:
            self.input_tokens += asked
            self.output_tokens += said
        usage = self.usage(asked, said)
        if self.stream:
            raw = _events(message, self.finish, usage)
            return Reply(headers={"Content-Type": "text/event-stream"}, raw=raw.encode())
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        body: dict[str, Any] = {"id": "1", "object": "chat.completion", "choices": [choice]}
        if usage is not None:
            body["usage"] = usage
        return Reply(headers=dict(self.headers), raw=json.dumps(body).encode())
