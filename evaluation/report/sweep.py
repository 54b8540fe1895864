"""The report's part on sweeps and bake-offs: the word, the figure and the table's cells.

In: what the trainings made of the validation rows. Out: what the templates show. Called by the
page.
"""

from __future__ import annotations

from functools import partial

from markupsafe import Markup

from evaluation.report import figures
from evaluation.report.wording import Wording
from evaluation.sweep import SweepReport, label
from workbench.stats import Difference


def sweep_line(sweep: SweepReport, wording: Wording) -> str:
    """Return in words which training to take, and how far that may be believed."""
    best, reference = label(sweep.best.changes), label(sweep.reference)
    if sweep.gain is None:
        return wording("sweep.none", reference=reference)
    values = {
        "best": best,
        "reference": reference,
        "nats": wording.number(sweep.gain.mean),
        "interval": wording.between(sweep.gain.low, sweep.gain.high),
        "rows": sweep.gain.pairs,
        "count": sum(one.loss is not None for one in sweep.trials),
    }
    return wording("sweep.take" if sweep.is_sure else "sweep.open", **values)


def gain_cell(gain: Difference | None, wording: Wording) -> str:
    """Return a training's gain over the reference with its interval; a dash for the latter."""
    if gain is None:
        return "–"
    return f"{wording.signed(gain.mean, 2)} ({wording.between(gain.low, gain.high)})"


def sweep_chart(sweep: SweepReport, wording: Wording) -> Markup:
    """Return every training's gain over the reference, the best first; empty without any."""
    groups = [
        (
            _short(one.changes),
            [figures.Estimate(label(one.changes), 1, one.gain, gain_cell(one.gain, wording))],
        )
        for one in sweep.trials
        if one.gain
    ]
    if not groups:
        return Markup("")
    axis = wording("sweep.axis", reference=_short(sweep.reference))
    return figures.forest(groups, wording("sweep.title"), axis, unit=1)


def _short(changes: dict[str, object]) -> str:
    """Return a training's name as a figure has room for it: no section, no folder above a base."""
    last = (
        (key.rpartition(".")[2], str(value).rpartition("/")[2]) for key, value in changes.items()
    )
    return ", ".join(value if key == "model" else f"{key}={value}" for key, value in last)


def sweep_parts(wording: Wording) -> dict[str, object]:
    """Return what the templates call, by its name there."""
    own = (sweep_line, sweep_chart, gain_cell)
    return {one.__name__: partial(one, wording=wording) for one in own} | {"sweep_label": label}
