"""What became of one request to a model: a :class:`Completion`, never a bare ``None``.

:mod:`workbench.inference.client` makes them, :mod:`workbench.inference.answer_cache` keeps them,
and every room that asks a model reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, TypedDict

from pydantic import model_validator

from workbench.values import Frozen

End = Literal["ok", "cut_off", "filtered", "refused", "limited", "malformed", "failed"]
"""How a request ended:

- ``ok``: with a text that can be used;
- ``cut_off``: at ``max_tokens``;
- ``filtered``: by the server's content filter, or since it is longer than anything we take;
- ``refused``: the model declined;
- ``limited``: by a rate, a quota;
- ``malformed``: with a body, or JSON, of another shape, or with nothing in it;
- ``failed``: without a reply, or with an error.
"""
_FINAL = frozenset({"ok", "cut_off", "filtered", "refused"})


class Completion(Frozen):
    """The end of one request: ok with a text, or another end with its reason."""

    end: End
    text: str = ""
    """The answer; where a JSON schema was asked for, the JSON object alone."""
    reason: str = ""
    """Kind of the end, such as ``timeout``; empty when ok."""
    detail: str = ""
    http: int | None = None
    """Status of the last reply, where there was one."""
    attempts: int = 0
    """Tries that went over the wire; 0 for an answer from the cache."""
    input_tokens: int = 0
    output_tokens: int = 0
    """Tokens of all tries, as the server counted them; an answer from the cache costs none."""
    tokens: int = 0
    """Tokens of the answer itself."""
    reasoning: int = 0
    """Characters of reasoning that were taken off, of all tries."""
    uncounted: int = 0
    """Tries whose tokens the server did not count; they are about those of their text."""
    seconds: float = 0.0
    """From the first try to the end, waiting between tries included."""
    cached: bool = False

    @model_validator(mode="after")
    def _ok_or_why(self) -> Completion:
        if (self.end == "ok") == bool(self.reason):
            raise ValueError("a completion is ok, or has a reason")
        return self

    @property
    def ok(self) -> bool:
        """Whether there is a text that can be used."""
        return self.end == "ok"

    @property
    def final(self) -> bool:
        """Whether asking again would end alike, so that the answer is kept and paid for once."""
        return self.end in _FINAL

    def free(self) -> Completion:
        """Return the same completion as it counts when it was already there."""
        spent = ("attempts", "input_tokens", "output_tokens", "uncounted", "seconds")
        return self.model_copy(update={**dict.fromkeys(spent, 0), "cached": True})

    def about(self) -> str:
        """Return what is known of an end beside its reason, for people: status, tries, detail."""
        parts = [f"HTTP {self.http}"] if self.http else []
        parts += [f"{self.attempts} tries"] if self.attempts > 1 else []
        parts += [self.detail] if self.detail else []
        return ", ".join(parts)


class Usage(TypedDict):
    """What a job asked, got and used; ok, failed and filtered add up to the requests."""

    requests: int
    ok: int
    failed: dict[str, int]
    """Reason → requests that another run asks again."""
    filtered: dict[str, int]
    """Reason → requests whose answer cannot be used and stays so."""
    cached: int
    """Requests answered from the cache; they are among ``ok`` and ``filtered``."""
    attempts: int
    """Tries that went over the wire."""
    input_tokens: int
    output_tokens: int
    reasoned: int
    """Requests whose reasoning was taken off."""
    uncounted: int
    """Tries whose tokens the server did not count."""


def usage_of(completions: Iterable[Completion]) -> Usage:
    """Count completions."""
    counted = list(completions)
    return Usage(
        requests=len(counted),
        ok=sum(one.ok for one in counted),
        failed=dict(Counter(one.reason for one in counted if not one.final)),
        filtered=dict(Counter(one.reason for one in counted if one.final and not one.ok)),
        cached=sum(one.cached for one in counted),
        attempts=sum(one.attempts for one in counted),
        input_tokens=sum(one.input_tokens for one in counted),
        output_tokens=sum(one.output_tokens for one in counted),
        reasoned=sum(one.reasoning > 0 for one in counted),
        uncounted=sum(one.uncounted for one in counted),
    )
