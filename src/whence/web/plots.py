"""Plots as SVG text: points with their intervals, joined to lines, over numbers or over names.
Nothing is loaded or run."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 720, 400
_LEFT_PX, _RIGHT_PX, _TOP_PX, _BOTTOM_PX = 70, 210, 20, 90
_COLOURS = (
    "#1b6ca8",
    "#c0392b",
    "#2e8b57",
    "#8e44ad",
    "#d68910",
    "#566573",
    "#16a2a2",
    "#c2185b",
    "#7a8b00",
    "#6d4c41",
    "#222222",
    "#e57373",
)


class PlotPoint(NamedTuple):
    """A place across, by number or by name, and a height with its interval where there is one."""

    x: float | str
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""
    """Shown where a pointer rests on it."""


def draw_points(
    lines: Mapping[str, Sequence[PlotPoint]],
    *,
    caption: str,
    has_log: bool = False,
    are_shares: bool = False,
) -> str:
    """The plot of named lines; an empty text where there are no points. With `has_log` numbers
    across are drawn by their logarithm.

    Points over numbers are joined in their order across, points over names are not. Of a single
    line without a name only the line is shown, its points where a pointer rests on them.
    `are_shares` are percentages across and up, of which none lies below 0.
    """
    found = [point for points in lines.values() for point in points]
    if not found:
        return ""
    is_named = any(isinstance(point.x, str) for point in found)
    names = list(dict.fromkeys(str(point.x) for point in found)) if is_named else []
    has_log = has_log and not is_named and all(float(point.x) > 0 for point in found)

    def number(x: float | str) -> float:
        return (
            float(names.index(str(x)))
            if is_named
            else math.log10(float(x))
            if has_log
            else float(x)
        )

    heights = [
        bound for point in found for bound in (point.y, point.low, point.high) if bound is not None
    ]
    is_alone = list(lines) == [""]
    right = 20 if is_alone else _RIGHT_PX
    across = _Scale.over(
        [number(point.x) for point in found], start=_LEFT_PX + 20, end=WIDTH - right - 20
    )
    up = _Scale.over(heights, start=HEIGHT - _BOTTOM_PX, end=_TOP_PX)
    if are_shares:
        across, up = (
            across._replace(low=0.0, high=100.0),
            up._replace(low=0.0, high=max(5.0, up.high)),
        )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
    about = (
        f'class="plot" role="img" aria-label="{html.escape(caption)}" font-size="12" '
        'font-family="sans-serif"'
    )
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}>']
    for tick in up.ticks():
        line = f'<path d="M{_LEFT_PX} {up(tick):.1f}H{WIDTH - right}" stroke="#ddd" class="grid"/>'
        parts.append(line + _label(_LEFT_PX - 8, up(tick) + 4, f"{tick:g}", "end"))
    if is_named:
        marks = [(float(place), name) for place, name in enumerate(names)]
    else:
        marks = [(tick, f"{10**tick if has_log else tick:.3g}") for tick in across.ticks()]
    for place, name in marks:
        x = across(place)
        turn = f' transform="rotate(-30 {x:.1f} {HEIGHT - _BOTTOM_PX + 18})"' if is_named else ""
        parts.append(
            _label(x, HEIGHT - _BOTTOM_PX + 18, name, "end" if is_named else "middle", turn)
        )
    parts.append(_label(_LEFT_PX, HEIGHT - 6, caption, "start"))
    for order, (name, points) in enumerate(lines.items()):
        parts += _line(
            [(across(number(point.x)), point) for point in points],
            up,
            colour=_COLOURS[order % len(_COLOURS)],
            is_joined=not is_named,
            has_spots=is_alone,
        )
        if is_alone:
            continue
        parts.append(
            (
                f'<circle cx="{WIDTH - _RIGHT_PX + 20}" cy="{_TOP_PX + 18 * order}" r="4" '
                f'fill="{_COLOURS[order % len(_COLOURS)]}"/>'
            )
            + _label(WIDTH - _RIGHT_PX + 30, _TOP_PX + 18 * order + 4, name, "start")
        )
    return "".join([*parts, "</svg>"])


def _line(
    places: Sequence[tuple[float, PlotPoint]],
    up: _Scale,
    *,
    colour: str,
    is_joined: bool,
    has_spots: bool,
) -> list[str]:
    parts = []
    if is_joined and len(places) > 1:
        path = "L".join(
            f"{x:.1f} {up(point.y):.1f}" for x, point in sorted(places, key=lambda place: place[0])
        )
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" class="curve"/>')
    spot = 'fill-opacity="0" class="spot"' if has_spots and is_joined else ""
    for x, point in places:
        if point.low is not None and point.high is not None:
            parts.append(
                f'<path d="M{x:.1f} {up(point.low):.1f}V{up(point.high):.1f}" stroke="{colour}"/>'
            )
        title = f"<title>{html.escape(point.title)}</title>" if point.title else ""
        parts.append(
            f'<circle cx="{x:.1f}" cy="{up(point.y):.1f}" r="4" fill="{colour}" '
            f"{spot}>{title}</circle>"
        )
    return parts


class _Scale(NamedTuple):
    """Numbers to places on the page."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, numbers: list[float], *, start: float, end: float) -> _Scale:
        low, high = min(numbers), max(numbers)
        margin = 0.05 * (high - low) or 0.5
        return cls(low - margin, high + margin, start, end)

    def __call__(self, number: float) -> float:
        return self.start + (number - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round numbers within."""
        step = 10.0 ** np.floor(np.log10((self.high - self.low) / 2))
        step = next(
            step * factor
            for factor in (0.5, 1, 2, 5, 10)
            if (self.high - self.low) / (step * factor) <= 6
        )
        return (
            (np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1) * step).round(10)
            + 0.0
        ).tolist()


def _label(x: float, y: float, text: str, anchor: str, turn: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'fill="#333"{turn}>{html.escape(text)}</text>'
    )
