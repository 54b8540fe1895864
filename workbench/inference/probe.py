"""Whether an endpoint answers, keeps to a JSON schema, and how fast it is, for ``persona doctor``.

It asks through the one client, so that it meets what a job would meet.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import UserError
from workbench.inference.client import EndpointClient, run
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.inference.reply import Schema
from workbench.inference.wire import check_reachable
from workbench.records import user_prompt

_SHORT = "Answer with one word: what colour is the sky on a clear day?"
_LONG = "Describe in about a hundred words how a bicycle stays upright."
# It must not ask for JSON: a server that ignores the schema shall show as one that does.
_SHAPED = "What do people ask on their first day in a gym? Give three questions."
_MAX_TOKENS = 400


class _Questions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: list[str] = Field(min_length=1)


@dataclass(frozen=True)
class Probe:
    """What was found out about one endpoint."""

    structured: bool
    """Whether it keeps to a JSON schema that is asked for."""
    latency: float
    """Seconds to a whole answer of about one word."""
    rate: float
    """Tokens a second in an answer of about a hundred words, as the server counts them."""


def probe(endpoint: Endpoint) -> Probe:
    """Ask an endpoint a few things, one after another.

    Raises:
        UserError: It cannot be reached, refuses the key, does not know the model, or gives no
            answer.
    """
    check_reachable(endpoint)
    few = min(endpoint.attempts, 3)
    return run(_probe(endpoint.model_copy(update={"attempts": few})))


async def _probe(endpoint: Endpoint) -> Probe:
    async with EndpointClient(endpoint) as client:

        async def ask(text: str, seed: int = 0, schema: Schema | None = None) -> Completion:
            return await client.complete(
                EndpointRequest(
                    user_prompt(text),
                    temperature=0,
                    max_tokens=_MAX_TOKENS,
                    seed=seed,
                    schema=schema,
                    accept_cut=True,
                )
            )

        # The first answer may have to wait for the server to load the model.
        _check(endpoint, await ask(_SHORT))
        short, long = await ask(_SHORT, seed=1), await ask(_LONG)
        _check(endpoint, short)
        _check(endpoint, long)
        shaped = await ask(_SHAPED, schema=_Questions)
        if shaped.end not in ("malformed", "cut_off"):
            _check(endpoint, shaped)
    structured = shaped.ok and "json_schema" not in client.bounds.left_out
    return Probe(structured, short.seconds, long.output_tokens / max(long.seconds, 1e-6))


def _check(endpoint: Endpoint, completion: Completion) -> None:
    """Raise for a request that brought no answer."""
    if completion.ok:
        return
    if completion.reason == "auth":
        raise endpoint.refused(completion.http or 401)
    parts = [f"HTTP {completion.http}"] if completion.http else []
    parts += [completion.detail] if completion.detail else []
    about = f"{completion.reason}: {', '.join(parts)}" if parts else completion.reason
    raise UserError(
        f"model '{endpoint.model}' gives no answer ({about})",
        where=endpoint.base_url,
        fix="mend 'model' or 'base_url', or see the server's own log",
    )
