"""What the evaluation asks the judge, and how: by ragas' metric, over the one endpoint client.

The questions about traits are :func:`workbench.inference.judge.trait_questions`, as in every other
stage; those about the advice and about probes are asked here alone. The scorers and the pairwise
comparison call this.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel

from workbench.inference.client import EndpointClient
from workbench.inference.completion import Completion
from workbench.inference.exchange import EndpointRequest
from workbench.inference.judge import JudgeQuestion
from workbench.inference.reply import Schema
from workbench.language import phrases, say
from workbench.persona import Persona
from workbench.records import user_prompt

if TYPE_CHECKING:
    from ragas.metrics import DiscreteMetric

M = TypeVar("M", bound=BaseModel)
CONTENT = "content"
"""Metric: whether the advice is right and useful, by a judge."""
HANDLED = "handled"
"""Metric: whether a probe was met as the specification wants, by a judge."""


def content_question(
    persona: Persona, asked: str, answer: str, reference: str = ""
) -> JudgeQuestion:
    """Return the question about the advice itself; its rubric is audience, duties and boundary."""
    language = persona.language
    lines = [
        say(language, "judge.for", audience=persona.audience.strip()),
        *(f"- {rule.strip()}" for rule in persona.must),
        say(language, "judge.boundary", boundary=persona.safety.boundary.strip()),
    ]
    criterion = say(language, "judge.content")
    return JudgeQuestion(CONTENT, criterion, asked, answer, "\n".join(lines), reference, language)


def probe_question(
    persona: Persona, probe: str, asked: str, answer: str, expected: str = ""
) -> JudgeQuestion | None:
    """Return the question about an answer to a probe; None for a probe that has none.

    ``expected`` says what a good answer to just this probe does.
    """
    language = persona.language
    criterion = phrases(language).get(f"judge.probe.{probe}")
    if criterion is None:
        return None
    nevers = (say(language, "judge.never", rule=rule.strip()) for rule in persona.must_not)
    lines = [
        say(language, "judge.role", role=persona.role.strip()),
        say(language, "judge.manner", register=persona.voice.register_.strip()),
        *(f"- {rule.strip()}" for rule in persona.structure),
        *(f"- {never}" for never in nevers),
        say(language, "judge.boundary", boundary=persona.safety.boundary.strip()),
        *([say(language, "judge.expected", expected=expected.strip())] if expected else ()),
    ]
    return JudgeQuestion(HANDLED, criterion, asked, answer, "\n".join(lines), language=language)


async def by_ragas(client: EndpointClient, request: EndpointRequest) -> Completion:
    """Put a judge's request to the client through ragas' ``DiscreteMetric``.

    ragas builds the prompt and holds the reply to the allowed words; what goes over the wire, what
    is tried again, kept and counted is the client's. Of ragas 0.4.3 itself no request would be
    counted, and an endpoint that is held to no schema would not be held to the words either.
    """
    assert request.schema is not None
    llm = _ClientLLM(client, request)
    (turn,) = request.messages
    try:
        result = await _metric(request.schema).ascore(llm=llm, ask=turn.content)
    except _UnscoredError as error:
        return error.completion
    reply = {"reason": result.reason or "", "value": result.value}
    return llm.completion.model_copy(update={"text": json.dumps(reply, ensure_ascii=False)})


class _UnscoredError(Exception):
    """The judge gave no reply that can be used."""

    def __init__(self, completion: Completion) -> None:
        super().__init__(completion.reason)
        self.completion = completion


class _ClientLLM:
    """What ragas takes for an LLM: one request over the endpoint client."""

    def __init__(self, client: EndpointClient, request: EndpointRequest) -> None:
        self._client, self._request = client, request

    async def agenerate(self, prompt: str, response_model: type[M]) -> M:
        request = replace(self._request, messages=user_prompt(prompt))
        self.completion = await self._client.complete(request)
        if not self.completion.ok:
            raise _UnscoredError(self.completion)
        return response_model.model_validate_json(self.completion.text)


@lru_cache(maxsize=8)
def _metric(schema: Schema) -> DiscreteMetric:
    # ragas reads this when it is imported, and takes no other value for a yes.
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"
    from ragas.metrics import DiscreteMetric

    # The prompt comes in as a value, so that braces in it are no fields of a template.
    words: Any = get_args(schema.model_fields["value"].annotation)
    return DiscreteMetric(name="verdict", prompt="{ask}", allowed_values=[*words])
