"""What became of a teacher's job: every planned row, and what it took against its plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from generation.cost import Plan, told
from generation.teacher import Taught
from workbench.inference.endpoint import Paid


def account_lines(plan: Plan, taught: Taught) -> list[str]:
    """Return lines for people: the planned rows by what became of them, then each step's cost.

    What a step took includes earlier runs that were stopped or killed; the plan knows no retries.
    """
    lines = [_rows(taught)]
    for step in plan.steps:
        took = taught.paid.get(step.name, Paid())
        lines.append(
            f"{step.name}: {took.attempts:,} requests ({told(step.requests)} planned),"
            f" {took.input_tokens:,} tokens in ({told(step.input_tokens)}),"
            f" {took.output_tokens:,} out ({told(step.output_tokens)})"
        )
        if step.price is not None:
            lines[-1] += (
                f", {took.cost(step.price):.4f} {step.price.currency}"
                f" ({step.money.low:.4f} to {step.money.high:.4f})"
            )
    lines += [f"answered of {line}" for line in taught.coverage.lines()]
    if taught.judged or taught.unjudged:
        lost = sum(taught.unjudged.values())
        why = f" ({_kinds(taught.unjudged)}), scored by rules alone" if lost else ""
        lines.append(f"the judge: {taught.judged} answers judged, {lost} not{why}")
    if taught.preferences:
        kinds = Counter(pair.kind for pair in taught.preferences)
        close = sum(drop.reason == "pair_too_close" for drop in taught.dropped)
        lines.append(f"pairs: {_kinds(kinds)}; {close} too close")
    return lines


def _rows(taught: Taught) -> str:
    """Return where the planned rows are; the parts add up."""
    parts = [f"{len(taught.examples)} answered"]
    parts += [
        f"{sum(kinds.values())} {name} ({_kinds(kinds)})"
        for name, kinds in (("failed", taught.failed), ("filtered", taught.filtered))
        if kinds
    ]
    if taught.missing:
        parts.append(f"{sum(taught.missing.values())} without a question")
    return f"{taught.planned} rows planned = {' + '.join(parts)}"


def _kinds(kinds: Mapping[str, int]) -> str:
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{kind} {count}" for kind, count in ordered)
