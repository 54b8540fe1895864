"""One request to an OpenAI-compatible endpoint, to its end: retried, read, and judged as a body."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import openai
from pydantic import BaseModel, Field, ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from generation.outcome import Outcome
from generation.shapes import WrongShape, read_shape, response_format

LONGEST_WAIT = 60.0
"""Seconds that a retry waits at most, whatever ``Retry-After`` says."""
LONGEST_TEXT = 20_000
"""Characters of the longest answer that is taken; what is longer did not keep to its limits."""
_OPTIONAL = {"max_tokens", "temperature", "seed", "response_format"}
_AGAIN = (
    "That is not what was asked for: {error}. "
    "Answer again, with the complete JSON object and nothing else."
)


class Failure(Exception):
    """One try that brought no answer."""

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        http: int | None = None,
        again: bool = False,
        after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.detail, self.http = reason, detail, http
        self.again, self.after = again, after


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)


class _Body(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


@dataclass
class Asking:
    """One request under way.

    Args:
        client: An ``openai.AsyncOpenAI`` without retries of its own.
        body: Fields of the request, ``model`` and ``messages`` among them.
        shape: Name of the JSON shape that is asked for, or empty for text.
        attempts: Tries in all.
        backoff: Seconds before the second try, at most; doubled for each further one.
    """

    client: openai.AsyncOpenAI
    body: dict[str, Any]
    shape: str = ""
    attempts: int = 5
    backoff: float = 1.0
    cut: bool = False
    """Whether an answer that was cut off at ``max_tokens`` counts as one."""
    refused: set[str] = field(default_factory=set)
    """Fields of a request that the server was found not to take; grows on the way."""
    tried: int = field(default=0, init=False)
    input_tokens: int = field(default=0, init=False)
    output_tokens: int = field(default=0, init=False)

    async def outcome(self) -> Outcome:
        """Ask until there is an answer, or no try left."""
        body = dict(self.body)
        if self.shape:
            body["response_format"] = response_format(self.shape)
        for name in self.refused:
            _leave_out(body, name)
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(self.attempts),
                wait=self._wait,
                retry=retry_if_exception(lambda error: isinstance(error, Failure) and error.again),
                reraise=True,
            ):
                with attempt:
                    return await self._try(body)
        except Failure as failure:
            return self._ended(
                "failed", reason=failure.reason, detail=failure.detail, http=failure.http
            )
        raise AssertionError("tenacity ends with a result or an error")

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Failure) and error.after is not None:
            return min(error.after, LONGEST_WAIT)
        # Full jitter: requests that failed together must not come back together.
        return random.uniform(0, min(LONGEST_WAIT, self.backoff * 2 ** (state.attempt_number - 1)))

    async def _try(self, body: dict[str, Any]) -> Outcome:
        self.tried += 1
        reply = await self._send(body)
        usage = reply.usage or _Usage()
        self.input_tokens += usage.prompt_tokens
        self.output_tokens += usage.completion_tokens
        choice = reply.choices[0]
        text = (choice.message.content or "").strip()
        tokens = usage.completion_tokens
        if choice.message.refusal or choice.finish_reason == "content_filter":
            detail = (choice.message.refusal or "")[:200]
            return self._ended("filtered", reason="refused", detail=detail)
        if not text:
            raise Failure("empty_answer", http=200, again=True)
        if len(text) > LONGEST_TEXT:
            return self._ended("filtered", reason="too_long", detail=f"{len(text)} characters")
        if self.shape:
            self._check_shape(text, body)
        elif choice.finish_reason == "length" and not self.cut:
            return self._ended("filtered", reason="cut_off", detail=f"after {tokens} tokens")
        return self._ended("ok", text=text, tokens=tokens, http=200)

    def _check_shape(self, text: str, body: dict[str, Any]) -> None:
        """Raise a failure for JSON of another shape, and ask with the error next time."""
        try:
            read_shape(self.shape, text)
        except WrongShape as error:
            body["messages"] = [
                *self.body["messages"],
                {"role": "assistant", "content": text},
                {"role": "user", "content": _AGAIN.format(error=error)},
            ]
            raise Failure("wrong_shape", str(error), http=200, again=True) from None

    def _ended(self, status: str, **fields: Any) -> Outcome:
        counts = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens}
        return Outcome.model_validate(
            {"status": status, "attempts": self.tried, **counts, **fields}
        )

    async def _send(self, body: dict[str, Any]) -> _Body:
        """Return the reply's body; every way in which there is none becomes a failure."""
        try:
            # By the client's own way for any path: the typed one walks through every request and
            # reply, which takes a fifth of the time, and takes bodies of any shape.
            reply = await self.client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APITimeoutError:
            raise Failure("timeout", again=True) from None
        except openai.APIStatusError as error:
            raise self._refused(error, body) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Failure("connection", type(cause).__name__, again=True) from None
        try:
            return _Body.model_validate_json(reply.content)
        except ValidationError:
            status = reply.status_code
            raise Failure("malformed_reply", http=status, again=True) from None

    def _refused(self, error: openai.APIStatusError, body: dict[str, Any]) -> Failure:
        """Return the failure that an HTTP status means."""
        status = error.status_code
        # The server's words, but never the request's headers.
        said = error.body.get("message") if isinstance(error.body, dict) else None
        detail = " ".join(str(said or error.message).split())[:200]
        if status in (401, 403):
            return Failure("auth", detail, http=status)
        if status == 404:
            return Failure("not_found", detail, http=status)
        if status == 429 and error.code == "insufficient_quota":
            return Failure("quota", detail, http=status)
        after = retry_after(error.response.headers)
        if status == 429:
            return Failure("rate_limit", detail, http=status, again=True, after=after)
        if status >= 500 or status in (408, 409, 425):
            return Failure("server_error", detail, http=status, again=True, after=after)
        if status in (400, 422) and (name := _refused_field(error, body)):
            self.refused.add(name)
            _leave_out(body, name)
            return Failure("unsupported_field", detail, http=status, again=True, after=0)
        return Failure("rejected", detail, http=status)


def _refused_field(error: openai.APIStatusError, body: dict[str, Any]) -> str:
    """Return the field of a request that the server does not take, or an empty string."""
    if str(error.code).startswith("unsupported_") and error.param in _OPTIONAL & set(body):
        return str(error.param)
    # Not every server knows JSON schemas, or says what is wrong; the prompt asks for the shape too.
    return "response_format" if "response_format" in body else ""


def _leave_out(body: dict[str, Any], name: str) -> None:
    """Take a field out of a request; OpenAI's newer models know ``max_tokens`` by another name."""
    value = body.pop(name, None)
    if name == "max_tokens" and value is not None:
        body["max_completion_tokens"] = value


def retry_after(headers: Any) -> float | None:
    """Return the seconds that a reply asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
