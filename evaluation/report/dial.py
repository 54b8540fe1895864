"""The report's part on the adapter's strength: sentences and figures of the curve.

In: the round's :class:`~evaluation.dial.Dial`. Out: what the templates show. Called by the page.
"""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from evaluation.dial import Dial, DialPoint, Refusals
from evaluation.report import figures
from evaluation.report.wording import Wording


def dial_lines(dial: Dial | None, wording: Wording) -> list[str]:
    """Return in words which strength the numbers speak for, and how far that may be believed."""
    if dial is None:
        return []
    full, best = dial.at(1.0), dial.advised
    if best is full:
        return [wording("dial.full" if full.passed else "dial.none")]
    key = "dial.better" if full.passed else "dial.weaker"
    strength, change = f"{best.strength:g}", wording.change(best.voice_change)
    return [wording(key, strength=strength, **change), wording("dial.read")]


def refused(requests: Refusals) -> str:
    """Return how many of the requests were refused; a dash where none was asked."""
    return f"{requests.refused} / {requests.asked}" if requests.asked else "–"


def dial_charts(dial: Dial | None, wording: Wording) -> list[Markup]:
    """Return the curves over the strength: voice and sense, what is forgotten, what is refused."""
    if dial is None:
        return []

    charts = []
    for panel, measures in _PANELS.items():
        lines = [
            figures.Line(wording(name), f"arm-{number}", curve, number)
            for number, (name, of) in enumerate(measures.items(), start=1)
            if (curve := [(one.strength, v) for one in dial.points if (v := of(one)) is not None])
        ]
        if lines:
            title, axis = wording(f"dial.panel.{panel}"), wording("dial.strength")
            charts.append(figures.curves(lines, title, axis))
    return charts


def dial_parts(dial: Dial | None, wording: Wording) -> dict[str, object]:
    """Return what the templates show, by its name there."""
    return {
        "dial_lines": dial_lines(dial, wording),
        "dial_charts": dial_charts(dial, wording),
        "refused": refused,
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _share(requests: Refusals) -> float | None:
    return requests.refused / requests.asked if requests.asked else None


_PANELS: dict[str, dict[str, Callable[[DialPoint], float | None]]] = {
    "voice": {
        "bars.voice": lambda one: _percent(one.voice.mean),
        "bars.sense": lambda one: _percent(one.sense.mean),
    },
    "entropy": {"dial.entropy": lambda one: one.cross_entropy_change},
    "kept": {
        "dial.kept": lambda one: _percent(one.instructions),
        "dial.refused": lambda one: _percent(_share(one.harmful)),
    },
}
"""Chart → the phrase of each of its curves → a point's value, a share in per cent."""
