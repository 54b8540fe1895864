"""Logs of a served model: requests and answers in the shapes that servers and proxies write.

In: a line of a log as its file has it. Out: ``{"messages": [...]}`` with the answer as the last
turn, which :mod:`generation.row_shapes` reads as any chat; or :class:`BadRow` with why the line is
none. Shapes: ``{"request": …, "response": …}`` of OpenAI-compatible servers and proxies, the body
of each in it or under ``body``; ``{"messages": …, "choices": …}``; LiteLLM's payloads and spend
logs; OpenAI's Responses (``input``, ``output``); streamed answers as a list of chunks or as the
text of a stream. :mod:`generation.importing` calls it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from generation.row_columns import BadRow

_REQUESTS = ("request", "proxy_server_request", "kwargs", "input_body", "request_body")
_RESPONSES = ("response", "response_body", "completion", "output_body", "response_obj")
_CUT = {"length": "cut_off", "max_tokens": "cut_off", "content_filter": "content_filter"}
"""Why an answer ended → the reason of a line that is dropped for it."""
_STREAM = "data:"
_REDACTED = "redacted-by-litellm"
"""What LiteLLM writes in place of texts that it must not keep."""


def served_row(data: Mapping[str, object]) -> dict[str, Any]:
    """Return one request of a log, with its answer, as a chat.

    System turns are left out: they are the deployment's, and training puts the persona's own there.
    Of several choices the first counts.

    Raises:
        BadRow: The request failed, was no chat, or has no whole answer.
    """
    request, response = _request(data), _response(data)
    if why := _failure(data, response):
        raise BadRow(f"the request failed ({why})", reason="failed_request")
    turns = _asked(request)
    answer, ended = _answer(response)
    if ended in _CUT:
        raise BadRow(f"the answer ended by '{ended}'", reason=_CUT[ended])
    chat = [*turns, answer]
    if any(turn.get("content") == _REDACTED for turn in chat):
        raise BadRow("the proxy did not keep the texts", reason="redacted")
    return {"messages": chat}


def _opened(value: object) -> Any:
    """Return a value, read where it is JSON as text, as databases of logs keep it."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _body(value: object) -> Any:
    value = _opened(value)
    inner = _opened(value.get("body")) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict | list) or _is_stream(inner) else value


def _is_stream(value: object) -> bool:
    return isinstance(value, str) and value.lstrip().startswith(_STREAM)


def _asks(value: object) -> bool:
    """Return whether a body says what was asked."""
    if not isinstance(value, Mapping):
        return False
    if isinstance(_opened(value.get("messages")), list):
        return True
    # Of a Responses body; the logs of others call a text so, too.
    return value.get("input") not in (None, "", {}) or isinstance(value.get("prompt"), str)


def _request(data: Mapping[str, object]) -> Mapping[str, Any]:
    bodies = [body for name in _REQUESTS if isinstance(body := _body(data.get(name)), Mapping)]
    for body in (*bodies, data):
        if _asks(body):
            return body
    raise BadRow("nothing says what was asked", reason="no_request")


def _response(data: Mapping[str, object]) -> Any:
    for name in _RESPONSES:
        body = _body(data.get(name))
        if body not in (None, "", {}, []):
            return body
    if any(key in data for key in ("choices", "output", "error")):
        return data
    raise BadRow("nothing says what was answered", reason="unanswered")


def _failure(data: Mapping[str, object], response: object) -> str:
    """Return why a request failed, by the log's or the server's own word; empty where it did not.

    Never the server's message: it may repeat what was asked.
    """
    parts = [data, data.get("response"), response]
    for part in parts:
        if not isinstance(part, Mapping):
            continue
        for key in ("status_code", "status"):
            code = str(part.get(key) or "")
            if code.isdigit() and int(code) >= 400:
                return code
            if code.casefold() in ("failure", "failed", "error", "incomplete", "cancelled"):
                return code.casefold()
        if error := part.get("error"):
            kind = error.get("code") or error.get("type") if isinstance(error, Mapping) else ""
            return str(kind or "error")[:40]
    return ""


def _asked(request: Mapping[str, object]) -> list[Any]:
    """Return the turns of a request, without the deployment's own."""
    turns = _opened(request.get("messages"))
    if not isinstance(turns, list) or not turns:
        turns = _opened(request.get("input"))
        if isinstance(turns, str):
            turns = [{"role": "user", "content": turns}]
    if not isinstance(turns, list) or not turns:
        raise BadRow("a raw text was completed, no chat", reason="raw_text")
    if not all(isinstance(turn, Mapping) for turn in turns):
        raise BadRow("what was asked is no list of turns", reason="no_request")
    chat = [turn for turn in turns if turn.get("role") not in ("system", "developer")]
    return [turn for turn in chat if turn.get("type") != "reasoning"]


def _answer(response: Any) -> tuple[dict[str, Any], str]:
    """Return the answer as a turn, and why it ended."""
    if _is_stream(response):
        response = _events(response)
    if isinstance(response, list):
        return _streamed(response)
    if isinstance(response, str) and response.strip():  # LiteLLM's `response` may be the text alone
        return {"role": "assistant", "content": response}, ""
    if not isinstance(response, Mapping):
        raise BadRow("nothing says what was answered", reason="unanswered")
    if isinstance(choices := _opened(response.get("choices")), list) and choices:
        choice = choices[0] if isinstance(choices[0], Mapping) else {}
        message = choice.get("message") or choice.get("delta")
        if message is None and isinstance(choice.get("text"), str):
            raise BadRow("a raw text was completed, no chat", reason="raw_text")
        return _turn(message), str(choice.get("finish_reason") or "")
    if isinstance(output := _opened(response.get("output")), list):
        calls = [one for one in output if isinstance(one, Mapping) and "call" in _kind(one)]
        if calls:
            raise BadRow("the answer calls a tool", reason="tool_call")
        texts = [one for one in output if isinstance(one, Mapping) and _kind(one) == "message"]
        if texts:
            return _turn(texts[-1]), ""
    if isinstance(response.get("content"), str | list) and response.get("role") == "assistant":
        return _turn(response), ""
    raise BadRow("nothing says what was answered", reason="unanswered")


def _kind(part: Mapping[str, object]) -> str:
    return str(part.get("type") or "")


def _turn(message: object) -> dict[str, Any]:
    """Return an answer as a turn; what a server adds to it (refusals, reasoning) stays away."""
    if not isinstance(message, Mapping):
        raise BadRow("nothing says what was answered", reason="unanswered")
    if message.get("tool_calls") or message.get("function_call"):
        raise BadRow("the answer calls a tool", reason="tool_call")
    content = message.get("content")
    if content in (None, "", []):
        raise BadRow("the answer is empty", reason="unanswered")
    return {"role": "assistant", "content": content}


def _events(text: str) -> list[Any]:
    """Return the chunks of a stream's text; those that are no JSON, such as its end, left out."""
    chunks = []
    for line in text.splitlines():
        if line.startswith(_STREAM):
            with suppress(ValueError):
                chunks.append(json.loads(line.removeprefix(_STREAM)))
    return chunks


def _streamed(chunks: Sequence[object]) -> tuple[dict[str, Any], str]:
    """Return the answer that chunks of a stream amount to, and why it ended.

    Raises:
        BadRow: No chunk says that it ended: who asked may have gone away.
    """
    text, ended = "", ""
    for chunk in chunks:
        choices = chunk.get("choices") if isinstance(chunk, Mapping) else None
        for choice in choices or ():
            if not isinstance(choice, Mapping) or choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            if delta.get("tool_calls") or delta.get("function_call"):
                raise BadRow("the answer calls a tool", reason="tool_call")
            text += delta.get("content") or ""
            ended = str(choice.get("finish_reason") or ended)
    if not ended:
        raise BadRow("the stream broke off", reason="cut_off")
    return _turn({"content": text}), ended
