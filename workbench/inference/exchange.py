"""One request to an OpenAI-compatible endpoint, from what is asked to how it ended.

:mod:`workbench.inference.client` starts an :class:`Exchange` for each
:class:`EndpointRequest`, whose end is a :class:`~workbench.inference.completion.Completion`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.inference.answer_cache import answer_key
from workbench.inference.completion import Completion, End
from workbench.inference.endpoint import Endpoint
from workbench.inference.reply import (
    Body,
    Reply,
    Schema,
    WrongShape,
    error_detail,
    is_filtered,
    leave_out,
    read_json,
    read_reply,
    refused_field,
    response_format,
    retry_after,
    schema_json,
)
from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    import openai
    from tenacity import RetryCallState

LONGEST_WAIT = 60.0
"""Seconds that a retry waits at most, whatever ``Retry-After`` says."""
LONGEST_TEXT = 20_000
"""Characters of the longest answer that is taken; what is longer did not keep to its limits."""
MAX_TOKENS = 1024
"""Most tokens of an answer, where nothing else is asked for."""
_AGAIN = (
    "That is not what was asked for: {error}. "
    "Answer again, with the complete JSON object and nothing else."
)


@dataclass(frozen=True)
class EndpointRequest:
    """What is asked, and how; all of it decides the answer."""

    messages: Messages
    temperature: float = 0.7
    max_tokens: int = MAX_TOKENS
    seed: int | None = None
    """Of sampling, where the server heeds it; another one asks for another answer."""
    schema: Schema | None = None
    """What a JSON answer must hold; None for text."""
    by_words: bool = False
    """Whether the prompt names the form of the JSON, so that the schema itself is not sent."""
    accept_cut: bool = False
    """Whether an answer that was cut off counts as one."""
    accept_empty: bool = False
    """Whether an answer without a word counts as one."""

    def body(self, endpoint: Endpoint) -> Body:
        """Return the fields that are sent."""
        body: Body = {
            "model": endpoint.model,
            "messages": as_messages(self.messages),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.schema is not None:
            body["response_format"] = response_format(self.schema, by_words=self.by_words)
        return body | endpoint.extra_body

    def key(self, endpoint: Endpoint) -> str:
        """Return the key of its answer in a cache."""
        return answer_key(
            endpoint=endpoint.base_url,
            body=self.body(endpoint),
            schema=schema_json(self.schema) if self.schema else None,
            accepts=[self.accept_cut, self.accept_empty],
        )


class _NoAnswer(Exception):
    """One try that brought no answer."""

    def __init__(
        self,
        end: End,
        reason: str,
        detail: str = "",
        *,
        http: int | None = None,
        again: bool = False,
        after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.end, self.reason, self.detail, self.http = end, reason, detail, http
        self.again, self.after = again, after


def _again(error: BaseException) -> bool:
    return isinstance(error, _NoAnswer) and error.again


@dataclass
class Exchange:
    """One request on its way to its end.

    Args:
        openai: A client without retries of its own.
        endpoint: Who is asked.
        request: What is asked.
        left_out: Fields of a request that the server was found not to take; grows on the way.
    """

    openai: openai.AsyncOpenAI
    endpoint: Endpoint
    request: EndpointRequest
    left_out: set[str]
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    suspects: set[str] = field(default_factory=set)
    """Fields that were left out of it; they are at fault if the rest is taken."""

    def __post_init__(self) -> None:
        self.body = self.request.body(self.endpoint)
        self.started = time.monotonic()
        for name in self.left_out:
            leave_out(self.body, name)

    async def completion(self) -> Completion:
        """Ask until there is an answer, or no try left."""
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(self.endpoint.attempts),
                wait=self._wait,
                retry=retry_if_exception(_again),
                reraise=True,
            ):
                with attempt:
                    return await self._try()
        except _NoAnswer as none:
            return self._ended(none.end, reason=none.reason, detail=none.detail, http=none.http)
        raise AssertionError("tenacity ends with a result or an error")

    def _ended(self, end: End, **fields: Any) -> Completion:
        return Completion(
            end=end,
            attempts=self.attempts,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            seconds=time.monotonic() - self.started,
            **fields,
        )

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _NoAnswer) and error.after is not None:
            return min(error.after, LONGEST_WAIT)
        most = self.endpoint.backoff * 2.0 ** (state.attempt_number - 1)
        # Full jitter: requests that failed together must not come back together.
        return random.uniform(0, min(LONGEST_WAIT, most))

    async def _try(self) -> Completion:
        reply = await self._send()
        # Paid is what was counted, whatever the rest of the reply is good for.
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        if reply.text is None:
            raise _NoAnswer("malformed", "malformed_reply", http=200, again=True)
        if reply.refusal:
            raise _NoAnswer("refused", "refused", reply.refusal[:200], http=200)
        if reply.finish_reason == "content_filter":
            raise _NoAnswer("filtered", "content_filter", http=200)
        text = self._usable(reply)
        return self._ended("ok", text=text, tokens=reply.output_tokens, http=200)

    def _usable(self, reply: Reply) -> str:
        """Return the text of a reply, or of the JSON in it."""
        request, text = self.request, reply.text or ""
        cut = reply.finish_reason == "length"
        cut_off = _NoAnswer("cut_off", "cut_off", f"after {reply.output_tokens} tokens", http=200)
        if not text and not (request.accept_empty or (cut and request.accept_cut)):
            raise cut_off if cut else _NoAnswer("malformed", "empty_answer", http=200, again=True)
        if len(text) > LONGEST_TEXT and not request.accept_cut:
            raise _NoAnswer("filtered", "too_long", f"{len(text)} characters", http=200)
        if request.schema is None:
            if cut and not request.accept_cut:
                raise cut_off
            return text
        try:
            return read_json(text, request.schema).model_dump_json()
        except WrongShape as error:
            if cut:
                raise cut_off from None
            self.body["messages"] = [
                *as_messages(request.messages),
                {"role": "assistant", "content": text},
                {"role": "user", "content": _AGAIN.format(error=error)},
            ]
            raise _NoAnswer("malformed", error.reason, str(error), http=200, again=True) from None

    async def _send(self) -> Reply:
        """Return the reply; every way in which there is none becomes its end."""
        import httpx2
        import openai

        while True:
            self.attempts += 1
            try:
                # By the client's own way for any path: the typed one walks through every request
                # and reply, which takes a fifth of the time, and takes bodies of any shape.
                response = await self.openai.post(
                    "/chat/completions", cast_to=httpx2.Response, body=self.body
                )
            except openai.APITimeoutError:
                raise _NoAnswer("failed", "timeout", again=True) from None
            except openai.APIStatusError as error:
                name = refused_field(error, self.body) if error.status_code in (400, 422) else ""
                if not name:
                    raise _no_answer(error) from None
                self.suspects.add(name)
                leave_out(self.body, name)
            except openai.APIConnectionError as error:
                cause = type(error.__cause__ or error).__name__
                raise _NoAnswer("failed", "connection", cause, again=True) from None
            else:
                self.left_out |= self.suspects
                return read_reply(response.content)


def _no_answer(error: openai.APIStatusError) -> _NoAnswer:
    """Return the end that an HTTP status means."""
    status, detail = error.status_code, error_detail(error)
    if status in (401, 403):
        return _NoAnswer("failed", "auth", detail, http=status)
    if status == 404:
        return _NoAnswer("failed", "not_found", detail, http=status)
    if status == 429 and error.code == "insufficient_quota":
        return _NoAnswer("limited", "quota", detail, http=status)
    after = retry_after(error.response.headers)
    if status == 429:
        return _NoAnswer("limited", "rate_limit", detail, http=status, again=True, after=after)
    if status >= 500 or status in (408, 409, 425):
        return _NoAnswer("failed", "server_error", detail, http=status, again=True, after=after)
    if is_filtered(error):
        return _NoAnswer("filtered", "content_filter", detail, http=status)
    return _NoAnswer("failed", "rejected", detail, http=status)
