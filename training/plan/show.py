"""A plan as people read it: a table, and one line when it is held against what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.plan.plan import Plan

if TYPE_CHECKING:
    from rich.table import Table


def table(plan: Plan) -> Table:
    """Return the plan as a table of rich."""
    from rich.table import Table

    shown = Table(title=f"{plan.method} of {plan.base} on {plan.device}", title_justify="left")
    shown.add_column("what")
    shown.add_column("how much", justify="right")
    sequences, tokens = plan.batch
    shown.add_row("rows", f"{plan.rows:,}")
    shown.add_row("tokens of a sequence", f"{plan.mean_tokens:,.0f} (longest {plan.longest:,})")
    shown.add_row("largest batch", f"{sequences} x {tokens:,} tokens")
    shown.add_row("steps", f"{plan.steps:,}")
    shown.add_row("tokens", f"{plan.tokens:,}")
    shown.add_row("time", _time(plan), end_section=True)
    for name, size in plan.parts_mib.items():
        shown.add_row(name, f"{size:,.1f} MiB")
    shown.add_section()
    shown.add_row("peak memory", f"{plan.peak_mib:,.0f} MiB", style="bold")
    shown.add_row("the device has", f"{plan.memory_mib:,.0f} MiB")
    return shown


def verdict(plan: Plan) -> str:
    """Return in one line whether the run fits, and what would make it fit."""
    if plan.fits:
        return "fits"
    if plan.change is None:
        return "does not fit, and no change of the recipe's trainer section makes it fit"
    fields = ", ".join(f"{key}: {_yaml(value)}" for key, value in plan.change.items())
    return f"does not fit; the smallest change that does: trainer: {{{fields}}}"


def against(planned_mib: float, measured_mib: float) -> str:
    """Return the prediction beside what was measured."""
    error = planned_mib / measured_mib - 1
    return (
        f"peak memory: planned {planned_mib:,.0f} MiB, measured {measured_mib:,.0f} MiB"
        f" ({error:+.0%})"
    )


def _time(plan: Plan) -> str:
    if plan.seconds is None or plan.step_seconds is None:
        return "not measured: the device is not here"
    minutes = plan.seconds / 60
    whole = f"{minutes:.0f} min" if minutes >= 2 else f"{plan.seconds:.0f} s"
    return f"{whole} ({plan.step_seconds:.2f} s a step)"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
