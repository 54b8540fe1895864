"""What became of one request: nothing is ever a bare ``None``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, TypedDict

from pydantic import BaseModel, ConfigDict, model_validator

from workbench.records import Drop

STAGE = "generate"


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

    def free(self) -> Outcome:
        """Return the same outcome as it counts when it was already there."""
        return self.model_copy(
            update={"attempts": 0, "input_tokens": 0, "output_tokens": 0, "cached": True}
        )

    def drop(self, record: str, *, source: str, parents: tuple[str, ...] = ()) -> Drop:
        """Return the drop of the record whose request ended like this, without an answer."""
        about = [f"HTTP {self.http}"] if self.http else []
        about += [f"{self.attempts} tries"] if self.attempts > 1 else []
        about += [self.detail] if self.detail else []
        return Drop(
            record=record,
            stage=STAGE,
            reason=self.reason,
            detail=", ".join(about),
            source=source,
            parents=parents,
        )


class Usage(TypedDict):
    """What a job asked, got and used; ok, failed and filtered add up to the requests."""

    requests: int
    ok: int
    failed: dict[str, int]
    filtered: dict[str, int]
    cached: int
    """Requests answered from the cache; they are among ``ok`` and ``filtered``."""
    attempts: int
    """Tries that went over the wire."""
    input_tokens: int
    output_tokens: int


def usage_of(outcomes: Iterable[Outcome]) -> Usage:
    """Count outcomes."""
    found = list(outcomes)
    return Usage(
        requests=len(found),
        ok=sum(outcome.status == "ok" for outcome in found),
        failed=dict(Counter(o.reason for o in found if o.status == "failed")),
        filtered=dict(Counter(o.reason for o in found if o.status == "filtered")),
        cached=sum(outcome.cached for outcome in found),
        attempts=sum(outcome.attempts for outcome in found),
        input_tokens=sum(outcome.input_tokens for outcome in found),
        output_tokens=sum(outcome.output_tokens for outcome in found),
    )
