"""When a job must not go on as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from generation.outcome import Outcome
from workbench.errors import UserError
from workbench.inference.endpoint import Endpoint

STOPPED = "stopped"
"""Reason of the requests that were not made after the job had to stop."""
OVER_BUDGET = "budget"
"""Detail of the requests that were not made since the budget was used up."""
FATAL = frozenset({"auth", "not_found", "quota"})
"""Failures that every further request would meet as well."""
_KEPT = "run the same command again: {kept} finished answers are kept"


def stop_if_hopeless(endpoint: Endpoint, outcomes: Sequence[Outcome]) -> None:
    """Raise if the endpoint refused or went down on the way, or if no request got an answer.

    Raises:
        UserError: Says what happened to how many requests, and how to go on.
    """
    kept = sum(outcome.status != "failed" for outcome in outcomes)
    for outcome in outcomes:
        if outcome.reason == "auth":
            raise endpoint.refused(outcome.http or 401)
        if outcome.reason == "not_found":
            raise UserError(
                f"does not know the model '{endpoint.model}' ({outcome.detail or 'HTTP 404'})",
                where=endpoint.base_url,
                fix="mend 'model' or 'base_url'",
            )
        if outcome.reason == "quota":
            fix = f"top it up, then {_KEPT.format(kept=kept)}"
            raise UserError("the account has no quota left", where=endpoint.base_url, fix=fix)
    failures = Counter(outcome.reason for outcome in outcomes if outcome.status == "failed")
    unmade = failures.pop(STOPPED, 0)
    if any(outcome.reason == STOPPED and outcome.detail == OVER_BUDGET for outcome in outcomes):
        raise UserError(
            f"stopped at the budget, with {unmade} requests not made",
            where=endpoint.base_url,
            fix=f"raise the budget, then {_KEPT.format(kept=kept)}",
        )
    kinds = ", ".join(f"{kind} {count}" for kind, count in failures.most_common())
    if unmade:
        raise UserError(
            f"is down: stopped after {kinds}, with {unmade} requests not made",
            where=endpoint.base_url,
            fix=f"when it is up, {_KEPT.format(kept=kept)}",
        )
    if outcomes and not kept:
        raise UserError(
            f"all {len(outcomes)} requests failed ({kinds})",
            where=endpoint.base_url,
            fix="mend the endpoint, then run the same command again",
        )
