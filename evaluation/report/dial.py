"""The report's part on the adapter's strength: sentences and figures of the curve.

In: the round's :class:`~evaluation.dial.Dial`. Out: what the templates show. Called by the page.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    change = best.voice_change
    values = {
        "strength": f"{best.strength:g}",
        "points": wording.points(change.mean) if change else "–",
        "interval": wording.interval(change) if change else "–",
    }
    return [
        wording("dial.better" if full.passed else "dial.weaker", **values),
        wording("dial.read"),
    ]


def refused(requests: Refusals) -> str:
    """Return how many of the requests were refused; a dash where none was asked."""
    return f"{requests.refused} / {requests.asked}" if requests.asked else "–"


def dial_charts(dial: Dial | None, wording: Wording) -> list[Markup]:
    """Return the curves over the strength: voice and sense, what is forgotten, what is refused."""
    if dial is None:
        return []

    def percent(name: str, values: Sequence[tuple[DialPoint, float | None]]) -> _Curve:
        return name, [(one.strength, 100 * v) for one, v in values if v is not None]

    points = dial.points
    panels: list[tuple[str, list[_Curve]]] = [
        (
            "voice",
            [
                percent(wording("bars.voice"), [(one, one.voice.mean) for one in points]),
                percent(wording("bars.sense"), [(one, one.sense.mean) for one in points]),
            ],
        ),
        (
            "entropy",
            [(wording("dial.entropy"), [(p.strength, p.cross_entropy_change) for p in points])],
        ),
        (
            "kept",
            [
                percent(wording("dial.kept"), [(one, one.instructions) for one in points]),
                percent(wording("dial.refused"), [(one, _share(one.harmful)) for one in points]),
            ],
        ),
    ]
    return [
        figures.curves(
            [
                figures.Line(name, f"arm-{number + 1}", curve, number + 1)
                for number, (name, curve) in enumerate(lines)
                if curve
            ],
            wording(f"dial.panel.{panel}"),
            wording("dial.strength"),
        )
        for panel, lines in panels
        if any(curve for _, curve in lines)
    ]


def dial_parts(dial: Dial | None, wording: Wording) -> dict[str, object]:
    """Return what the templates show, by its name there."""
    return {
        "dial_lines": dial_lines(dial, wording),
        "dial_charts": dial_charts(dial, wording),
        "refused": refused,
    }


_Curve = tuple[str, list[figures.Point]]


def _share(requests: Refusals) -> float | None:
    return requests.refused / requests.asked if requests.asked else None
