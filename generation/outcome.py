"""What became of one request: nothing is ever a bare ``None``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Outcome(BaseModel):
    """The end of one request: ok with a text, failed or filtered with a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["ok", "failed", "filtered"]
    text: str = ""
    reason: str = ""
    """Kind of the failure, or why the answer was filtered; empty when ok."""
    detail: str = ""
    http: int | None = None
    """Status of the last reply, where there was one."""
    attempts: int = 0
    """Tries that went over the wire; 0 for an answer from the cache."""
    input_tokens: int = 0
    output_tokens: int = 0
    """Tokens of all tries, as the server counted them; an answer from the cache costs none."""
    tokens: int = 0
    """Tokens of the text itself."""
    cached: bool = False

    @model_validator(mode="after")
    def _ok_or_why(self) -> Outcome:
        if (self.status == "ok") == bool(self.reason):
            raise ValueError("an outcome is ok, or has a reason")
        return self


@dataclass(frozen=True)
class Usage:
    """What a job asked, got and used."""

    requests: int = 0
    ok: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    cached: int = 0
    """Requests answered from the cache; they are among ``ok`` and ``filtered``."""
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Usage:
        """Count outcomes; ``ok``, ``failed`` and ``filtered`` add up to ``requests``."""
        found = list(outcomes)
        return cls(
            requests=len(found),
            ok=sum(outcome.status == "ok" for outcome in found),
            failed=dict(Counter(o.reason for o in found if o.status == "failed")),
            filtered=dict(Counter(o.reason for o in found if o.status == "filtered")),
            cached=sum(outcome.cached for outcome in found),
            attempts=sum(outcome.attempts for outcome in found),
            input_tokens=sum(outcome.input_tokens for outcome in found),
            output_tokens=sum(outcome.output_tokens for outcome in found),
        )
