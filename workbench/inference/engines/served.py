"""An engine that is served: chats over an OpenAI-compatible endpoint, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from workbench.inference.bounds import STOPPED
from workbench.inference.client import FATAL, EndpointClient, raise_if_hopeless, run
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.engines.chats import ChatAnswer, ChatRequest, Decoding, OnAnswer
from workbench.inference.exchange import EndpointRequest
from workbench.inference.wire import check_reachable


class ServedEngine:
    """What an endpoint serves, as an :class:`~workbench.inference.engines.chats.Engine`."""

    def __init__(self, endpoint: Endpoint, name: str = "") -> None:
        self.endpoint, self.name = endpoint, name or endpoint.model

    def answer(self, requests: Iterable[ChatRequest], on_answer: OnAnswer, how: Decoding) -> None:
        """Answer ``requests`` and what follows; see the protocol.

        Raises:
            UserError: Nothing answers there, it refuses the key or the model, went down on the way
                or answered nothing; ``on_answer`` was called with the answers that came. A chat
                that alone got none is handed over with how it ended.
        """
        check_reachable(self.endpoint)
        completions: list[Completion] = []

        async def converse(client: EndpointClient, request: ChatRequest) -> None:
            waiting = [request]
            while waiting:
                request = waiting.pop()
                sampled = request.seed != 0
                completion = await client.complete(
                    EndpointRequest(
                        request.chat,
                        temperature=how.temperature if sampled else 0.0,
                        max_tokens=how.max_new_tokens,
                        seed=request.seed % 2**31 if sampled else None,
                        accept_cut=True,
                        accept_empty=True,
                    )
                )
                completions.append(completion)
                if completion.reason in (*FATAL, STOPPED):
                    continue  # of the endpoint, not of this chat
                waiting.extend(on_answer(request, _answer_of(completion, how.max_new_tokens)))

        async def converse_all() -> None:
            async with EndpointClient(self.endpoint) as client:
                await asyncio.gather(*(converse(client, request) for request in requests))

        run(converse_all())
        raise_if_hopeless(self.endpoint, completions)


def _answer_of(completion: Completion, max_new_tokens: int) -> ChatAnswer:
    return ChatAnswer(
        completion.text,
        completion.tokens,
        completion.input_tokens,
        ended=completion.tokens < max_new_tokens,
        reasoning=completion.reasoning,
        completion=completion,
    )
