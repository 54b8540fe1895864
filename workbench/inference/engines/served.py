"""An engine that is served: chats over an OpenAI-compatible endpoint, several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from workbench.errors import UserError
from workbench.inference.client import EndpointClient, raise_if_refused, run
from workbench.inference.completion import Completion, usage_of
from workbench.inference.endpoint import Endpoint, check_reachable
from workbench.inference.engines.chats import ChatAnswer, ChatRequest, OnAnswer
from workbench.inference.exchange import EndpointRequest


class ServedEngine:
    """What an endpoint serves, as an :class:`~workbench.inference.engines.chats.Engine`.

    Args:
        endpoint: Who answers.
        name: What people call it, in errors.
    """

    def __init__(self, endpoint: Endpoint, name: str = "") -> None:
        self.endpoint, self.name = endpoint, name or endpoint.model

    def answer(
        self,
        requests: Iterable[ChatRequest],
        on_answer: OnAnswer,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
    ) -> None:
        """Answer ``requests`` and what follows; see the protocol.

        Raises:
            UserError: Nothing answers there, it refuses the key or the model, or some chats got no
                answer; ``on_answer`` was called with those that did.
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
                        temperature=temperature if sampled else 0.0,
                        max_tokens=max_new_tokens,
                        seed=request.seed % 2**31 if sampled else None,
                        accept_cut=True,
                        accept_empty=True,
                    )
                )
                completions.append(completion)
                if completion.ok:
                    answer = ChatAnswer(completion.text, completion.tokens, completion.input_tokens)
                    waiting.extend(on_answer(request, answer))

        async def converse_all() -> None:
            async with EndpointClient(self.endpoint) as client:
                await asyncio.gather(*(converse(client, request) for request in requests))

        run(converse_all())
        self._check(completions)

    def _check(self, completions: list[Completion]) -> None:
        """Raise for chats without an answer."""
        raise_if_refused(self.endpoint, completions)
        usage = usage_of(completions)
        reasons = {**usage["failed"], **usage["filtered"]}
        if reasons:
            count = sum(reasons.values())
            kinds = ", ".join(f"{reason} {number}" for reason, number in reasons.items())
            raise UserError(
                f"{count} conversations of arm '{self.name}' got no answer ({kinds})",
                where=self.endpoint.base_url,
                fix="run the same command again; answers already given are kept",
            )
