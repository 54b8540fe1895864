"""What OpenAI's clients get of a stream: stops, usage, its end, and mistakes in their shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from training.export.openai_stream import Chunk, chunks_of, cut_at, events, whole

PARTS = ("One ", "two", " th", "ree ", "four")


class Model:
    """A stream of events as the model's server makes them; it counts the parts that it sent."""

    def __init__(self, error: str = "") -> None:
        self.error, self.sent = error, 0

    async def stream(self) -> AsyncGenerator[str, None]:
        yield self._event({"role": "assistant"})
        for part in PARTS:
            self.sent += 1
            yield self._event({"content": part})
        if self.error:
            yield f'data: {{"error": "{self.error}"}}\n\n'
            return
        usage = {"prompt_tokens": 3, "completion_tokens": len(PARTS), "total_tokens": 8}
        yield self._event({}, "length", usage)

    def _event(self, delta: Chunk, end: str | None = None, usage: Chunk | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        chunk: Chunk = {"id": "c-1", "created": 1, "model": "m@main", "choices": [choice]}
        return f"data: {json.dumps(chunk | ({'usage': usage} if usage else {}))}\n\n"


def usage_of(text: str) -> Chunk:
    return {"completion_tokens": len(text)}


def answered(stops: Sequence[str], model: Model) -> Chunk:
    return asyncio.run(whole(cut_at(stops, chunks_of(model.stream()), usage_of), "m"))


def streamed(stops: Sequence[str], model: Model, *, counted: bool = False) -> list[Any]:
    async def read() -> list[str]:
        chunks = cut_at(stops, chunks_of(model.stream()), usage_of)
        return [event async for event in events(chunks, "m", counted=counted)]

    lines = [event.removeprefix("data: ").strip() for event in asyncio.run(read())]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


STOPS = [
    ((), "One two three four", "length", 5),
    (("three",), "One two ", "stop", 4),  # in two parts of the stream
    (("zero", "two"), "One ", "stop", 2),
    (("O",), "", "stop", 1),
    (("fours",), "One two three four", "length", 5),  # begun, and never whole
]


@pytest.mark.parametrize(("stops", "text", "end", "sent"), STOPS)
def test_a_stream_ends_before_its_first_stop_and_the_model_works_no_further(
    stops: Sequence[str], text: str, end: str, sent: int
) -> None:
    model = Model()
    choices = [chunk["choices"][0] for chunk in streamed(stops, model)]
    parts = "".join(one["delta"].get("content", "") for one in choices)
    assert (parts, choices[-1]["finish_reason"], model.sent) == (text, end, sent)


@pytest.mark.parametrize(("stops", "text", "end", "sent"), STOPS)
def test_a_whole_answer_ends_where_its_stream_would(
    stops: Sequence[str], text: str, end: str, sent: int
) -> None:
    model = Model()
    choice = answered(stops, model)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"], model.sent) == (text, end, sent)


def test_tokens_are_counted_of_a_whole_answer_and_of_a_stream_that_asked() -> None:
    assert answered((), Model())["usage"]["total_tokens"] == 8
    assert answered(("three",), Model())["usage"] == {"completion_tokens": len("One two three ")}
    assert all("usage" not in chunk for chunk in streamed((), Model()))
    *chunks, last = streamed((), Model(), counted=True)
    assert all("usage" not in chunk for chunk in chunks)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
    assert {chunk["model"] for chunk in (*chunks, last)} == {"m"}


def test_a_model_that_fails_on_the_way_is_told_in_the_stream() -> None:
    *_, last = streamed((), Model(error="out of memory"))
    assert last["error"] == {
        "message": "out of memory",
        "type": "server_error",
        "param": None,
        "code": None,
    }
