"""A study's plot as SVG: points with their intervals, joined to lines, over numbers or over names."""

from __future__ import annotations

import html
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from whence.studies.frame import CellResult, StudyResult, Value

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 210, 20, 90
_COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#d68910", "#566573")


class _Point(NamedTuple):
    x: float | str
    y: Value


def draw_plot(result: StudyResult) -> str:
    """The plot of what is measured; an empty text where nothing is."""
    lines = _lines(result)
    if not lines:
        return ""
    names = list(dict.fromkeys(str(point.x) for points in lines.values() for point in points))
    is_named = any(isinstance(point.x, str) for points in lines.values() for point in points)
    numbers = [float(names.index(str(one.x)) if is_named else one.x) for points in lines.values() for one in points]
    units = {measure.name: measure.unit for measure in result.study.measures}
    factor = 100 if units.get(result.study.plot.y[0]) == "%" else 1
    heights = [factor * bound for points in lines.values() for one in points for bound in (one.y.value, one.y.low, one.y.high)
               if bound is not None]  # fmt: skip
    across = _Scale.over(numbers, start=_LEFT + 20, end=WIDTH - _RIGHT - 20)
    up = _Scale.over(heights, start=HEIGHT - _BOTTOM, end=_TOP)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="12" font-family="sans-serif">']
    for tick in up.ticks():
        parts.append(
            f'<path d="M{_LEFT} {up(tick):.1f}H{WIDTH - _RIGHT}" stroke="#ddd"/>'
            + _label(_LEFT - 8, up(tick) + 4, f"{tick:g}", "end")
        )
    marks = [(float(i), name) for i, name in enumerate(names)] if is_named else [(tick, f"{tick:g}") for tick in across.ticks()]
    for place, name in marks:
        x = across(place)
        turn = f' transform="rotate(-30 {x:.1f} {HEIGHT - _BOTTOM + 18})"' if is_named else ""
        parts.append(_label(x, HEIGHT - _BOTTOM + 18, name, "end" if is_named else "middle", turn))
    parts.append(_label(_LEFT, HEIGHT - 6, f"{', '.join(result.study.plot.y)} against {result.study.plot.x}", "start"))
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across(float(names.index(str(one.x)) if is_named else one.x)), one.y) for one in points]
        if not is_named and len(places) > 1:
            path = "L".join(f"{x:.1f} {up(factor * y.value):.1f}" for x, y in sorted(places, key=lambda place: place[0]))
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}"/>')
        for x, y in places:
            if y.low is not None and y.high is not None:
                parts.append(f'<path d="M{x:.1f} {up(factor * y.low):.1f}V{up(factor * y.high):.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x:.1f}" cy="{up(factor * y.value):.1f}" r="4" fill="{colour}"/>')
        parts.append(f'<circle cx="{WIDTH - _RIGHT + 20}" cy="{_TOP + 18 * number}" r="4" fill="{colour}"/>')
        parts.append(_label(WIDTH - _RIGHT + 30, _TOP + 18 * number + 4, name, "start"))
    return "".join([*parts, "</svg>"])


def _lines(result: StudyResult) -> dict[str, list[_Point]]:
    """Points by the name of their line."""
    plot = result.study.plot
    lines: dict[str, list[_Point]] = defaultdict(list)
    for found in result.cells:
        x = _place(found, plot.x)
        if x is None:
            continue
        for name in plot.y:
            if name in found.values:
                line = ", ".join(
                    [*(str(found.cell.settings[axis]) for axis in plot.by), *([name] if len(plot.y) > 1 or not plot.by else [])]
                )
                lines[line].append(_Point(x, found.values[name]))
    return lines


def _place(found: CellResult, x: str) -> float | str | None:
    if x in found.values:
        return found.values[x].value
    setting = found.cell.settings.get(x)
    return setting if setting is None or isinstance(setting, str) else float(setting)


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
        step = next(step * factor for factor in (0.5, 1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
        return (np.arange(np.ceil(self.low / step), np.floor(self.high / step) + 1) * step).round(10).tolist()


def _label(x: float, y: float, text: str, anchor: str, turn: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333"{turn}>{html.escape(text)}</text>'
