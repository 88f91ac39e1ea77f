"""A study's plot: measures against an axis or another measure. How it is drawn is in
`whence.web.plots`."""

from __future__ import annotations

from collections import defaultdict

from whence.studies.frame import RunResult, StudyResult
from whence.web.plots import PlotPoint, draw_points


def draw_plot(result: StudyResult) -> str:
    """The plot of what is measured, as SVG; an empty text where nothing is."""
    plot = result.study.plot
    return draw_points(_lines(result), caption=f"{', '.join(plot.y)} against {plot.x}")


def _lines(result: StudyResult) -> dict[str, list[PlotPoint]]:
    """Points by the name of their line, shares as percentages."""
    plot = result.study.plot
    units = {measure.name: measure.unit for measure in result.study.measures}
    factor = 100 if units.get(plot.y[0]) == "%" else 1
    lines: dict[str, list[PlotPoint]] = defaultdict(list)
    for found in result.runs:
        x = _place(found, plot.x)
        if x is None:
            continue
        for name in plot.y:
            if name in found.values:
                value = found.values[name]
                line = ", ".join(
                    [
                        *(str(found.run.settings[axis]) for axis in plot.by),
                        *([name] if len(plot.y) > 1 or not plot.by else []),
                    ]
                )
                low, high = (
                    None if bound is None else factor * bound for bound in (value.low, value.high)
                )
                lines[line].append(PlotPoint(x, factor * value.value, low, high))
    return lines


def _place(result: RunResult, x: str) -> float | str | None:
    if x in result.values:
        return result.values[x].value
    setting = result.run.settings.get(x)
    return setting if setting is None or isinstance(setting, str) else float(setting)
