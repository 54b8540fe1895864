"""One request to an OpenAI-compatible endpoint, from what is asked to how it ended.

:mod:`workbench.inference.client` starts an :class:`Exchange` for each
:class:`EndpointRequest`, whose end is a :class:`~workbench.inference.completion.Completion`.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workbench.inference.answer_cache import answer_key
from workbench.inference.bounds import LONGEST_WAIT, OVER_BUDGET, STOPPED, ClientBounds
from workbench.inference.completion import Completion, End
from workbench.inference.endpoint import Endpoint
from workbench.inference.refusals import (
    Body,
    Refusal,
    leave_out,
    read_refusal,
    refused_fields,
)
from workbench.inference.reply import (
    BYTES_A_TOKEN,
    CUT,
    FILTERED,
    Reply,
    Schema,
    WrongShape,
    read_json,
    read_reply,
    response_format,
    schema_json,
)
from workbench.inference.wire import NoReply, RawReply, Wire
from workbench.records import Messages, as_messages

if TYPE_CHECKING:
    from tenacity import RetryCallState

_LIMITS = 5
"""Times at least that a request is limited while others get through until it is given up."""
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
            "max_tokens": self.limit(endpoint),
        }
        if self.seed is not None:
            body["seed"] = self.seed
        if self.schema is not None:
            body["response_format"] = response_format(self.schema, by_words=self.by_words)
        return body | endpoint.extra_body

    def limit(self, endpoint: Endpoint) -> int:
        """Return the most tokens of the answer: the endpoint's own setting goes before."""
        return endpoint.max_tokens or self.max_tokens

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
    """One request on its way to its end."""

    wire: Wire
    endpoint: Endpoint
    request: EndpointRequest
    bounds: ClientBounds
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning: int = 0
    uncounted: int = 0
    suspects: set[str] = field(default_factory=set)
    """Fields that are left out of it on trial; they are at fault if the rest is taken."""
    untried: list[set[str]] | None = None
    """Fields that may be at fault, where the server does not say which."""
    limits: int = 0
    """Times that it was limited while others got through."""
    heeded: int = 0
    """Times in a row that it was limited although it came back when it was told to."""
    passed: int = -1
    waiting: float = 0.0

    def __post_init__(self) -> None:
        self.started = time.monotonic()
        self.turns = as_messages(self.request.messages)

    @property
    def body(self) -> Body:
        """The fields that are sent now."""
        body = self.request.body(self.endpoint) | {"messages": self.turns}
        leave_out(body, self.bounds.left_out | self.suspects)
        return body

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

    def _ended(self, end: End, *, detail: str = "", **fields: object) -> Completion:
        return Completion(
            end=end,
            # Details go to people and to files; servers repeat the key in them.
            detail=self.endpoint.redacted(detail),
            attempts=self.attempts,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            reasoning=self.reasoning,
            uncounted=self.uncounted,
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
        reply = await self._answered()
        if reply.text is None:
            detail = "no JSON of a chat's answer came; base_url mostly ends in /v1"
            raise _NoAnswer("malformed", "malformed_reply", detail, http=200, again=True)
        if reply.refusal:
            raise _NoAnswer("refused", "refused", reply.refusal[:200], http=200)
        if reply.finish_reason in FILTERED:
            raise _NoAnswer("filtered", "content_filter", http=200)
        text = self._usable(reply)
        return self._ended("ok", text=text, tokens=reply.output_tokens, http=200)

    def _usable(self, reply: Reply) -> str:
        """Return the text of a reply, or of the JSON in it."""
        request, text = self.request, reply.text or ""
        cut = reply.finish_reason in CUT or reply.unended
        if not text and not (request.accept_empty or (cut and request.accept_cut)):
            raise self._cut_off(reply) if cut else self._empty(reply)
        if len(text) > LONGEST_TEXT and not request.accept_cut:
            raise _NoAnswer("filtered", "too_long", f"{len(text)} characters", http=200)
        if request.schema is None:
            if cut and not request.accept_cut:
                raise self._cut_off(reply)
            return text
        try:
            return read_json(text, request.schema).model_dump_json()
        except WrongShape as error:
            if cut:
                raise self._cut_off(reply) from None
            self.turns = [
                *as_messages(request.messages),
                {"role": "assistant", "content": text},
                {"role": "user", "content": _AGAIN.format(error=error)},
            ]
            raise _NoAnswer("malformed", error.reason, str(error), http=200, again=True) from None

    def _cut_off(self, reply: Reply) -> _NoAnswer:
        within = " of reasoning alone" if reply.reasoning and not reply.text else ""
        detail = f"after {reply.output_tokens} tokens{within}; raise the endpoint's max_tokens"
        return _NoAnswer("cut_off", "cut_off", detail, http=200)

    def _empty(self, reply: Reply) -> _NoAnswer:
        detail = "reasoning alone" if reply.reasoning else ""
        return _NoAnswer("malformed", "empty_answer", detail, http=200, again=True)

    async def _answered(self) -> Reply:
        """Return the reply; every way in which there is none becomes its end."""
        while True:
            body = self.body
            try:
                raw, reply = await self._paid(body)
            except NoReply as none:
                again = none.reason in ("timeout", "connection")
                raise _NoAnswer("failed", none.reason, none.detail, again=again) from None
            if raw.status == 200 and not reply.error:
                for name in sorted(self.suspects - self.bounds.left_out):
                    self.bounds.learn(name)
                return reply
            refusal = read_refusal(raw.status, raw.headers, raw.content)
            if refusal.kind == "rate_limit" and self._limited(refusal):
                continue
            if not self._without_a_field(refusal, body):
                raise self._refused(refusal)

    async def _paid(self, body: Body) -> tuple[RawReply, Reply]:
        """Send a body once, when pace and budget let it, and count what it took."""
        bounds, asked = self.bounds, len(str(body["messages"])) // BYTES_A_TOKEN
        money = await bounds.admit(body, self.request.limit(self.endpoint))
        if money is None:
            raise _NoAnswer("failed", STOPPED, OVER_BUDGET)
        await bounds.pace.turn(asked)
        self.attempts += 1
        self.sent = time.monotonic()
        try:
            raw = await self.wire.post(body)
        except BaseException as error:
            # What was under way may be billed, and nobody tells how much.
            unsent = isinstance(error, NoReply) and not error.sent
            await (bounds.settle(money, 0, 0) if unsent else bounds.forfeit(money))
            raise
        bounds.headers = raw.headers
        reply = read_reply(raw.content)
        if raw.status == 200 and reply.text is not None and not reply.counted:
            written = f"{reply.text}{reply.reasoning}".encode()
            output = -(-len(written) // BYTES_A_TOKEN)
            reply = reply._replace(input_tokens=asked, output_tokens=output)
            self.uncounted += 1
        # Paid is what was counted, whatever the rest of the reply is good for.
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self.reasoning += len(reply.reasoning)
        await bounds.settle(money, reply.input_tokens, reply.output_tokens)
        if raw.status == 200 and not reply.error:
            bounds.pace.took(asked, reply.input_tokens + reply.output_tokens)
        return raw, reply

    def _without_a_field(self, refusal: Refusal, body: Body) -> bool:
        """Take out the field that is at fault; where nobody says which, try one after another."""
        fields = refused_fields(refusal, body)
        if len(fields) == 1:
            self.suspects.add(fields[0])
            return True
        if self.untried is None and refusal.words not in self.bounds.in_vain:
            every = {*fields} if fields else set()
            self.named = set(self.suspects)
            # A batch is too slow for one after another.
            single = [] if self.endpoint.batch else [{name} for name in fields]
            self.untried = single + ([every] if every else [])
        if not self.untried:
            self.bounds.in_vain.add(refusal.words)
            return False
        self.suspects = self.named | self.untried.pop(0)
        return True

    def _refused(self, refusal: Refusal) -> _NoAnswer:
        """Return the end that an error means."""
        kind, words, http = refusal.kind, refusal.words, refusal.status
        if kind == "content_filter":
            return _NoAnswer("filtered", kind, words, http=http)
        if kind == "wrong_shape":
            return _NoAnswer("malformed", kind, words, http=http, again=True)
        if kind in ("quota", "rate_limit"):
            return _NoAnswer("limited", kind, words, http=http)
        again = kind == "server_error"
        return _NoAnswer("failed", kind, words, http=http, again=again, after=refusal.after)

    def _limited(self, refusal: Refusal) -> bool:
        """Return whether to ask again, and slow everybody down; a limit is no failed try."""
        pace, patience = self.bounds.pace, self.endpoint.rate_limit_wait
        pace.slow_down(refusal.after, self.sent)
        others = pace.passed != self.passed
        self.limits += others
        self.heeded = 0 if others else self.heeded + (refusal.after is not None)
        self.passed = pace.passed
        self.waiting = self.waiting or time.monotonic()
        waited = time.monotonic() - max(pace.progress, self.waiting)
        if (refusal.after or 0.0) > patience or waited > patience:
            self.bounds.stopped = self.bounds.stopped or "rate_limit"
            return False
        # Others get through and this one does not, or it came back when it was told to and was sent
        # away again: it is not about the number of requests.
        most = max(_LIMITS, self.endpoint.attempts)
        return self.limits < most and self.heeded < 2 * most
