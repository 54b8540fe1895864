"""What an endpoint takes and tells, for ``persona doctor``.

It asks through the one client, in the forms in which jobs ask, so that it meets what a job would
meet: an arm's question, a teacher's answer in persona and its questions in a JSON schema, a judge's
question.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from workbench.errors import UserError
from workbench.inference.client import EndpointClient, raise_if_refused, run
from workbench.inference.completion import Completion
from workbench.inference.endpoint import Endpoint
from workbench.inference.exchange import EndpointRequest
from workbench.inference.judge import JudgeAsk
from workbench.inference.refusals import SYSTEM
from workbench.inference.wire import check_reachable
from workbench.prompts import with_system
from workbench.records import user_prompt

_SHORT = user_prompt("Answer with one word: what colour is the sky on a clear day?")
_LONG = user_prompt("Describe in about a hundred words how a bicycle stays upright.")
_ROLE = "You are a trainer, kind and short of words."
# It must not ask for JSON: a server that ignores the schema shall show as one that does.
_SHAPED = user_prompt("What do people ask on their first day in a gym? Give three questions.")
_JUDGED = JudgeAsk(
    'Is this answer about the sky? "It is blue." Answer with one JSON object and nothing else,'
    ' such as {"reason": "…", "value": "yes"}; the value is "yes" or "no".'
)
_MAX_TOKENS = 400
_ANSWERED = ("malformed", "cut_off")
"""Ends that say of a server that it answers."""


class _Questions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: list[str] = Field(min_length=1)


@dataclass(frozen=True)
class Probe:
    """What was found out about one endpoint."""

    structured: bool
    """Whether it keeps to a JSON schema that is asked for."""
    judges: bool
    """Whether a judge's question got a reply that can be used."""
    left_out: Collection[str]
    """Fields of a request that it does not take."""
    answers: int
    """Requests for plain text."""
    worded: int
    """Those of them that got a word."""
    reasoning: int
    """Characters of reasoning that came with the answers."""
    counted: bool
    """Whether it counts tokens."""
    limits: Mapping[str, str]
    """Limits that its headers tell, by their names without what is common to all."""
    latency: float
    """Seconds to a whole answer of about one word."""
    rate: float
    """Tokens a second in an answer of about a hundred words, as the server counts them."""

    def facts(self) -> dict[str, str]:
        """Return what people want to know, by its name."""
        out = self.left_out
        limit = "not taken" if "max_completion_tokens" in out else "max_completion_tokens"
        schema = "refused" if "json_schema" in out else "ignored"
        return {
            "answers": "yes" if self.worded == self.answers else self._silence(),
            "system message": "opens the first question" if SYSTEM in out else "yes",
            "seed": "not taken" if "seed" in out else "yes",
            "temperature": "not taken" if "temperature" in out else "yes",
            "longest answer": limit if "max_tokens" in out else "max_tokens",
            "JSON schema": "yes" if self.structured else f"{schema}: asked for in words",
            "judge's JSON": ("yes" if self.judges else "no use")
            + (", without JSON mode" if "json_object" in out else ""),
            "reasoning": f"taken off, {self.reasoning:,} characters" if self.reasoning else "none",
            "tokens": "counted" if self.counted else "not counted: estimated",
            "limits told": ", ".join(f"{n} {v}" for n, v in self.limits.items()) or "none",
            "latency (s)": f"{self.latency:.2f}",
            "tokens/s": f"{self.rate:.0f}" if self.rate else "not told",
        }

    def check(self, endpoint: Endpoint) -> None:
        """Raise for an endpoint that answers, and never says a word.

        Raises:
            UserError: No job would get anything from it.
        """
        if self.worded:
            return
        raise UserError(
            f"model '{endpoint.model}' says no word ({self._silence()})",
            where=endpoint.base_url,
            fix="raise 'max_tokens', or turn its reasoning off by extra_body"
            if self.reasoning
            else "mend 'model', or see its own log",
        )

    def _silence(self) -> str:
        why = "cut off in reasoning: raise max_tokens" if self.reasoning else "without a word"
        return f"{self.answers - self.worded} of {self.answers} {why}"


def probe(endpoint: Endpoint) -> Probe:
    """Ask an endpoint a few things, one after another.

    Raises:
        UserError: It cannot be reached, refuses the key, does not know the model, or gives no
            answer.
    """
    check_reachable(endpoint)
    few = min(endpoint.attempts, 3)
    return run(_probe(endpoint.model_copy(update={"attempts": few, "batch": False})))


async def _probe(endpoint: Endpoint) -> Probe:
    async with EndpointClient(endpoint, learnt=lambda name: None) as client:
        completions: list[Completion] = []

        async def ask(request: EndpointRequest) -> Completion:
            completion = await client.complete(request)
            completions.append(completion)
            if completion.end not in _ANSWERED or completion.reason == "malformed_reply":
                _check(endpoint, completion)
            return completion

        def plain(seed: int | None = None) -> EndpointRequest:
            return EndpointRequest(
                _SHORT, temperature=0, max_tokens=_MAX_TOKENS, seed=seed, accept_cut=True
            )

        # The first answer may have to wait for the server to load the model.
        await ask(plain())
        short = await ask(plain(seed=1))
        long = await ask(EndpointRequest(_LONG, max_tokens=_MAX_TOKENS, seed=1, accept_cut=True))
        await ask(EndpointRequest(with_system(_ROLE, _SHORT), seed=1, accept_cut=True))
        shaped = await ask(EndpointRequest(_SHAPED, temperature=1.0, seed=1, schema=_Questions))
        judged = await ask(_JUDGED.request())
    plainly = [one for one in completions if one not in (shaped, judged)]
    out = frozenset(client.bounds.left_out)
    return Probe(
        structured=shaped.ok and "json_schema" not in out,
        judges=judged.ok,
        left_out=out,
        answers=len(plainly),
        worded=sum(bool(one.text) for one in plainly),
        reasoning=sum(one.reasoning for one in completions),
        counted=not any(one.uncounted for one in completions),
        limits={
            name: endpoint.redacted(value) for name, value in _limits(client.bounds.headers).items()
        },
        latency=short.seconds,
        rate=0.0 if long.uncounted else long.output_tokens / max(long.seconds, 1e-6),
    )


def _limits(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what headers tell of limits, as in ``x-ratelimit-limit-requests: 500``."""
    limits = {}
    for name, value in headers.items():
        _, mark, what = name.lower().partition("ratelimit-")
        if mark and "remaining" not in what and "reset" not in what:
            limits[what.replace("limit-", "").replace("-limit", "") or "requests"] = value
    return limits


def _check(endpoint: Endpoint, completion: Completion) -> None:
    """Raise for a request that brought no answer."""
    if completion.ok:
        return
    if completion.reason not in ("not_found", "quota"):
        raise_if_refused(endpoint, [completion])
    parts = [f"HTTP {completion.http}"] if completion.http else []
    parts += [completion.detail] if completion.detail else []
    about = f"{completion.reason}: {', '.join(parts)}" if parts else completion.reason
    raise UserError(
        f"model '{endpoint.model}' gives no answer ({about})",
        where=endpoint.base_url,
        fix="mend 'model' or 'base_url', set what it wants by extra_body, or see its own log",
    )
