"""A stream of chat completion chunks as OpenAI's clients expect it: stops, usage, its end.

In: chunks as ``transformers serve`` makes them. Out: events of a stream, or one whole completion.
``training.export.openai_server`` puts it between the model and whoever asks.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

Chunk = dict[str, Any]
"""One event of a stream, as ``chat.completion.chunk``."""
Chunks = AsyncGenerator[Chunk, None]


async def chunks_of(events: AsyncGenerator[str, None]) -> Chunks:
    """Yield the chunks of a stream of events; closing it ends the model's work on them.

    Raises:
        RuntimeError: The model failed on the way.
    """
    try:
        async for text in events:
            for line in filter(None, text.splitlines()):
                chunk: Chunk = json.loads(line.removeprefix("data: "))
                if "error" in chunk:
                    raise RuntimeError(str(chunk["error"]))
                yield chunk
    finally:
        await events.aclose()


async def cut_at(stops: Sequence[str], chunks: Chunks, usage: Callable[[str], Chunk]) -> Chunks:
    """Yield chunks up to the first of ``stops``, which is left out, as is all that follows it.

    The end of the text that may begin a stop is held back until it is known. ``usage`` counts a
    text that was cut, as the model then tells no count.
    """
    text, sent = "", 0
    async for chunk in chunks:
        choice = chunk["choices"][0]
        part = choice["delta"].get("content") or ""
        text += part
        if ends := [end for end in (text.find(stop, sent) for stop in stops) if end >= 0]:
            await chunks.aclose()
            yield _texted(chunk, text[sent : min(ends)])
            yield _texted(chunk, "", "stop") | {"usage": usage(text)}
            return
        begun = max((_begun(stop, text[sent:]) for stop in stops), default=0)
        held = 0 if choice.get("finish_reason") else begun
        if new := text[sent : len(text) - held]:
            yield _texted(chunk, new)
            sent += len(new)
        if not part:
            yield chunk


def _begun(stop: str, text: str) -> int:
    """Return how many characters at the end of ``text`` begin ``stop``."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)


def _texted(chunk: Chunk, text: str, end: str | None = None) -> Chunk:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": end}
    return {key: chunk[key] for key in chunk if key != "usage"} | {"choices": [choice]}


async def whole(chunks: Chunks, model: str) -> Chunk:
    """Return a stream as one chat completion of ``model``."""
    message: Chunk = {"role": "assistant", "content": ""}
    calls: list[Chunk] = []
    end, usage, last = "stop", None, Chunk()
    async for chunk in chunks:
        last, choice = chunk, chunk["choices"][0]
        for key in ("content", "reasoning_content"):
            if part := choice["delta"].get(key):
                message[key] = message.get(key, "") + part
        calls += choice["delta"].get("tool_calls") or []
        end, usage = choice.get("finish_reason") or end, chunk.get("usage") or usage
    if calls:
        message["tool_calls"] = [
            {key: call[key] for key in call if key != "index"} for call in calls
        ]
    return {
        "id": last["id"],
        "object": "chat.completion",
        "created": last["created"],
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": end, "logprobs": None}],
        "usage": usage,
    }


async def events(chunks: Chunks, model: str, *, counted: bool) -> AsyncIterator[str]:
    """Yield a stream's events; where tokens are ``counted``, the count is a chunk of its own."""
    try:
        async for chunk in chunks:
            usage = chunk.pop("usage", None)
            own = chunk | {"model": model}
            yield _event(own)
            if usage and counted:
                yield _event(own | {"choices": [], "usage": usage})
    except RuntimeError as error:
        yield _event(mistake(500, str(error)))
    finally:
        await chunks.aclose()  # whoever asked may have left
    yield "data: [DONE]\n\n"


def _event(content: Chunk) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def mistake(status: int, text: str) -> Chunk:
    """Return what is wrong with a request, or what failed, as clients read it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    code = "model_not_found" if status == 404 else None
    return {"error": {"message": text, "type": kind, "param": None, "code": code}}
