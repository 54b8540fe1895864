"""What each stage took: time, memory, tokens made here, and what endpoints were paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.inference.endpoint import Paid


@dataclass(frozen=True)
class Took:
    """One stage by its manifest.

    Attributes:
        stage: Its name.
        seconds: Time.
        peak_mib: Peak memory of all its processes.
        tokens: Tokens that models of this machine answered with.
        paid: Requests to endpoints and their tokens, over every run of the round.
        spent: What these cost; None where no price is configured.
        currency: Of ``spent``.
    """

    stage: str
    seconds: float
    peak_mib: float
    tokens: int
    paid: Paid
    spent: float | None
    currency: str


def costs(manifests: Mapping[str, Mapping[str, Any]]) -> list[Took]:
    """Return what each stage took, in the manifests' order."""
    found = []
    for stage, manifest in manifests.items():
        counts = manifest.get("counts", {})
        currency = counts.get("currency") or ""
        found.append(
            Took(
                stage=stage,
                seconds=manifest["seconds"],
                peak_mib=manifest["peak_mib"],
                tokens=counts.get("tokens") or 0,
                paid=Paid.total(Paid(**one) for one in counts.get("paid", {}).values()),
                spent=counts["spent"] if currency else None,
                currency=currency,
            )
        )
    return found


def money(took: list[Took]) -> dict[str, float]:
    """Return what all stages cost, by currency."""
    sums: dict[str, float] = {}
    for one in took:
        if one.spent is not None:
            sums[one.currency] = sums.get(one.currency, 0.0) + one.spent
    return sums
