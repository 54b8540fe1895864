"""Figures as inline SVG; colours come from the page's style sheet, so they follow its theme.

In: estimates and points, already worded. Out: markup that the templates put in as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from workbench.stats import Difference

Point = tuple[float, float]
WIDTH = 760
"""Width of a wide figure in its own units; the page scales it."""
ARMS = 8
"""Arms that have a colour and a marker of their own; further ones begin anew."""
_LABEL = 210
_ROW = 22


@dataclass(frozen=True)
class Estimate:
    """One row of the forest plot."""

    label: str
    arm: int
    """Position of the arm among all arms: its colour and marker."""
    difference: Difference
    text: str
    """The difference and its interval in words."""


@dataclass(frozen=True)
class Line:
    """One curve: its name, its style and its points."""

    label: str
    style: str
    points: Sequence[Point]
    arm: int | None = None
    """Position of the arm whose markers it has; plain dots by default."""
    intervals: Sequence[tuple[float, float, float]] = ()
    """Of points: where on the horizontal axis, the lower and the upper end."""
    faint: bool = False
    """Whether too little stands behind it to be read as a result: dashed."""


def svg(width: float, height: float, title: str, body: Sequence[Markup], kind: str) -> Markup:
    """Return an SVG image with a title for screen readers."""
    return Markup('<svg class="{}" role="img" viewBox="0 0 {} {}" aria-label="{}">{}</svg>').format(
        kind, _n(width), _n(height), title, Markup("").join(body)
    )


def forest(
    groups: Sequence[tuple[str, Sequence[Estimate]]], title: str, axis: str, unit: float = 100
) -> Markup:
    """Return a forest plot: differences to the base, with intervals, on one scale.

    ``groups`` are (metric, its estimates), drawn from top to bottom; a difference of 1 is ``unit``
    on the scale, by default in points.
    """
    ends = [
        unit * value
        for _, rows in groups
        for r in rows
        for value in (r.difference.mean, r.difference.low, r.difference.high, 0.0)
        if value is not None
    ]
    ticks = nice_ticks(min(ends), max(ends), 6)
    right, top = 190, 8
    x = _scale(ticks[0], ticks[-1], _LABEL, WIDTH - right)
    height = top + sum(len(rows) * _ROW + 10 for _, rows in groups)
    body = [_tick(x(tick), top, height, tick) for tick in ticks]
    y = float(top)
    for metric, rows in groups:
        body.append(_text(_LABEL - 14, y + 15, metric, "end", "label"))
        for row in rows:
            body += _estimate(row, lambda value: x(unit * value), y + 11)
            body.append(_text(WIDTH - right + 14, y + 15, row.text, "start", "value"))
            y += _ROW
        y += 10
        body.append(_line("rule", (0, WIDTH), (y - 5, y - 5)))
    body.append(_text((_LABEL + WIDTH - right) / 2, height + 36, axis, "middle", "axis"))
    return svg(WIDTH, height + 42, title, body, "forest")


def _estimate(row: Estimate, x: Callable[[float], float], y: float) -> list[Markup]:
    difference = row.difference
    parts = []
    if difference.low is not None and difference.high is not None:
        ends = x(difference.low), x(difference.high)
        parts.append(_line(f"whisker arm-{row.arm}", ends, (y, y)))
    parts.append(marker(row.arm, x(difference.mean), y, f"{row.label}: {row.text}"))
    return parts


def marker(arm: int, x: float, y: float, title: str = "") -> Markup:
    """Return an arm's marker; shapes differ, so that colour is not needed to tell arms apart."""
    shapes = (
        "M-5,0A5,5 0 1,0 5,0A5,5 0 1,0 -5,0Z",
        "M-4.5,-4.5H4.5V4.5H-4.5Z",
        "M0,-5.5L5.5,4.5H-5.5Z",
        "M0,-6L6,0L0,6L-6,0Z",
        "M-5.5,-4.5H5.5L0,5.5Z",
        "M-1.8,-6H1.8V-1.8H6V1.8H1.8V6H-1.8V1.8H-6V-1.8H-1.8Z",
        "M0,-6L5.7,-1.9L3.5,4.9H-3.5L-5.7,-1.9Z",
        "M-6,-3H6V3H-6Z",
    )
    return Markup(
        '<path class="marker arm-{}" transform="translate({} {})" d="{}"><title>{}</title></path>'
    ).format(arm, _n(x), _n(y), shapes[arm % len(shapes)], title)


def curves(
    lines: Sequence[Line], title: str, step: str, *, legend: bool = True, first: float = 0
) -> Markup:
    """Return a line chart over steps.

    The horizontal axis is named ``step`` and begins at ``first``.
    """
    width, height, left, top, bottom = 440, 240, 48, 34 if legend else 12, 40
    points = [point for line in lines for point in line.points]
    steps = nice_ticks(first, max(p[0] for p in points), 5)
    heights = [p[1] for p in points]
    heights += [end for line in lines for own in line.intervals for end in own[1:]]
    values = nice_ticks(min(heights), max(heights), 5)
    x = _scale(steps[0], steps[-1], left, width - 12)
    y = _scale(values[0], values[-1], height - bottom, top)
    body = []
    for value in values:
        body.append(_line("grid", (left, width - 12), (y(value), y(value))))
        body.append(_text(left - 8, y(value) + 4, _short(value), "end", "tick"))
    body += [_text(x(s), height - bottom + 16, _short(s), "middle", "tick") for s in steps]
    body.append(_text((left + width - 12) / 2, height - 4, step, "middle", "axis"))
    for number, line in enumerate(lines):
        body += _curve(line, x, y, step)
        if legend:
            body += _legend(line, left + 150.0 * number)
    return svg(width, height, title, body, "chart")


def _curve(
    line: Line, x: Callable[[float], float], y: Callable[[float], float], step: str
) -> list[Markup]:
    path = " ".join(
        f"{'L' if i else 'M'}{_n(x(a))},{_n(y(b))}" for i, (a, b) in enumerate(line.points)
    )
    style = f"{line.style} faint" if line.faint else line.style
    parts = [Markup('<path class="curve {}" d="{}"/>').format(style, path)]
    parts += [
        _line(f"curve interval {line.style}", (x(at), x(at)), (y(low), y(high)))
        for at, low, high in line.intervals
    ]
    if line.arm is not None:
        parts += [
            marker(line.arm, x(a), y(b), f"{line.label}, {step} {_short(a)}: {_short(b)}")
            for a, b in line.points
        ]
    elif len(line.points) <= 20:
        parts += [
            Markup('<circle class="dot {}" cx="{}" cy="{}" r="2.5"/>').format(
                line.style, _n(x(a)), _n(y(b))
            )
            for a, b in line.points
        ]
    return parts


def _legend(line: Line, at: float) -> list[Markup]:
    return [
        _line(f"curve {line.style}", (at, at + 18), (12, 12)),
        _text(at + 24, 16, line.label, "start", "tick"),
    ]


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Return some ``about`` round values that enclose ``low`` and ``high``."""
    span = (high - low) or abs(high) or 1.0
    raw = span / max(about - 1, 1)
    size = 10 ** math.floor(math.log10(raw))
    unit = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    return [round(unit * i, 10) for i in range(first, max(last, first + 1) + 1)]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _tick(x: float, top: float, height: float, value: float) -> Markup:
    line = _line(f"grid {'' if value else 'zero'}", (x, x), (top, height))
    return line + _text(x, height + 16, _signed(value), "middle", "tick")


def _line(kind: str, x: tuple[float, float], y: tuple[float, float]) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        kind, *map(_n, (*x, *y))
    )


def _text(x: float, y: float, text: str, anchor: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _n(x), _n(y), anchor, text
    )


def _signed(value: float) -> str:
    sign = "" if not value else "+" if value > 0 else "\N{MINUS SIGN}"
    return f"{sign}{_short(abs(value))}"


def _short(value: float) -> str:
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
