"""A heat map over places as SVG text: one dot a place, the warmer the larger its value, north up,
with a key in numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whence.geo import local_metres, mean_point
from whence.runtime import atomic_write

_SIDE, _MARGIN, _DOT = 640, 50, 6
_COLD, _WARM = np.array([43, 92, 165]), np.array([206, 51, 39])


def draw_heat(
    points: np.ndarray, values: np.ndarray, *, caption: str, titles: Sequence[str] = ()
) -> str:
    """The map of points (N, 2), latitude and longitude, coloured by values (N,); `titles` are shown
    over the dots."""
    lat, lon = points[:, 0], points[:, 1]
    metres = local_metres(lat, lon, origin=mean_point(lat, lon))
    east, north = metres[:, 0], metres[:, 1]
    extent = max(float(np.ptp(east)), float(np.ptp(north)), 1.0)
    scale = (_SIDE - 2 * _MARGIN) / extent
    across = _MARGIN + (east - east.min()) * scale
    down = _MARGIN + (north.max() - north) * scale
    low, high = float(values.min()), float(values.max())
    shares = (values - low) / max(high - low, 1e-12)
    size = f'viewBox="0 0 {_SIDE} {_SIDE}" width="{_SIDE}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-size="13" font-family="sans-serif">'
    ]
    # The warmest last, so that nothing hides them.
    for row in np.argsort(values, kind="stable"):
        title = f"{titles[row]}: {values[row]:.3f}" if len(titles) else f"{values[row]:.3f}"
        place, fill = (
            f'cx="{across[row]:.1f}" cy="{down[row]:.1f}" r="{_DOT}"',
            _colour(float(shares[row])),
        )
        parts.append(
            f'<circle {place} fill="{fill}" '
            f'fill-opacity="0.8"><title>{html.escape(title)}</title></circle>'
        )
    for number in range(5):
        share, x = number / 4, _MARGIN + 70 * number
        parts.append(f'<circle cx="{x}" cy="{_SIDE - 14}" r="{_DOT}" fill="{_colour(share)}"/>')
        parts.append(f'<text x="{x + 10}" y="{_SIDE - 9}">{low + share * (high - low):.2f}</text>')
    parts.append(
        f'<text x="{_MARGIN}" y="20">{html.escape(caption)}; {extent:.0f} m across</text></svg>'
    )
    return "\n".join(parts)


def write_heat(path: str | Path, text: str) -> None:
    """Write a map as SVG, whole or not at all. Raises `UnwritableFile`."""
    with atomic_write(path, "w") as file:
        file.write(text)


def _colour(share: float) -> str:
    red, green, blue = (_COLD + share * (_WARM - _COLD)).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
