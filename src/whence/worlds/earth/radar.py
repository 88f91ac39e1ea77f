"""Pairs of a radar's and a camera's view of one piece of rendered ground, with exact tie points, in
the files of SpaceNet 9.

For each pair `CASE_sar_train_NUMBER.tif`, `CASE_optical_train_NUMBER.tif` and
`CASE_tiepoints_train_NUMBER.csv`; a case is a region. The radar's view is turned, scaled and moved
a little against the camera's, and displaces heights towards itself, which the tie points know.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from whence.errors import BadOption, InputError
from whence.runtime import atomic_write, claim_folder, progress, random_stream
from whence.worlds.earth.ground import Region, Survey, make_region
from whence.worlds.earth.noise import Window
from whence.worlds.earth.paint import YEARS, Day, backscatter, displacement_px, paint

PAIRS_A_CASE = 10
TIES_ALONG = 20
_REGION, _PAIR = 501, 502
_REGION_CELLS = 8
_MARGIN = 1.2
_LOOKED_AT_PX = 48
_MOST_WATER = 0.5
_DRAWS = 30
_KM_PER_PX = (0.05, 0.1)
_TURN_DEG, _ZOOM, _SHIFT = 2.0, 0.03, 0.02


@dataclass(frozen=True, slots=True)
class RadarSpec:
    """Everything the pairs' pixels follow from."""

    seed: int = 0
    num_pairs: int = 20
    side_px: int = 512
    kind: str = "radar pairs"

    def __post_init__(self) -> None:
        if self.seed < 0 or self.num_pairs < 1 or not 64 <= self.side_px <= 4096:
            raise BadOption(
                "a seed of zero or more, at least one pair, and sides from 64 to 4,096 pixels"
            )


@dataclass(frozen=True, slots=True)
class RadarSummary:
    """What was rendered."""

    path: Path
    num_pairs: int
    num_rendered: int
    """Pairs rendered now; the others were there."""
    seconds: float


@dataclass(frozen=True)
class RadarPair:
    """One pair with its tie points."""

    sar: np.ndarray
    """(H, H) uint8."""
    optical: np.ndarray
    """(H, H, 3) uint8."""
    ties: np.ndarray
    """(n, 4) x and y on the radar's view, and x and y on the camera's; middles of pixels are whole
    numbers."""


def render_pair(spec: RadarSpec, number: int) -> RadarPair:
    """One pair of a seed."""
    case, random = number // PAIRS_A_CASE, random_stream(spec.seed, _PAIR, number)
    region = make_region(
        int(random_stream(spec.seed, _REGION, case).integers(2**31)), side=_REGION_CELLS
    )
    wide = math.ceil(_MARGIN * spec.side_px / 2) * 2
    window = _on_land(region, random, wide)
    survey = Survey(region, window)
    middle, edge = (wide - 1) / 2, (wide - spec.side_px) // 2
    angle, zoom = (
        np.radians(random.uniform(-_TURN_DEG, _TURN_DEG)),
        1 + random.uniform(-_ZOOM, _ZOOM),
    )
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    own_middle = (spec.side_px - 1) / 2 + spec.side_px * random.uniform(-_SHIFT, _SHIFT, 2)
    from_wide = np.vstack(
        [np.column_stack([turn, own_middle - turn @ np.array([middle, middle])]), [0, 0, 1]]
    )
    size = (spec.side_px, spec.side_px)
    sar = cv2.warpPerspective(
        backscatter(survey), from_wide, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    optical = paint(survey, Day(YEARS[-1]))[edge : edge + spec.side_px, edge : edge + spec.side_px]
    along = np.linspace(0, spec.side_px - 1, TIES_ALONG)
    grid = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    seen = cv2.perspectiveTransform(grid[None], np.linalg.inv(from_wide))[0].astype(np.float32)
    moved = cv2.remap(
        displacement_px(survey), seen[None, :, 0], seen[None, :, 1], cv2.INTER_LINEAR
    )[0]
    there = seen + np.stack([moved, np.zeros_like(moved)], axis=1) - edge
    is_seen = ((seen >= 0) & (seen <= wide - 1)).all(axis=1) & (
        (there >= 0) & (there <= spec.side_px - 1)
    ).all(axis=1)
    as_bytes = [
        np.ascontiguousarray((255 * np.clip(image, 0, 1) + 0.5).astype(np.uint8))
        for image in (sar, optical)
    ]
    return RadarPair(as_bytes[0], as_bytes[1], np.column_stack([grid, there])[is_seen])


def render_radar(
    out: str | Path, spec: RadarSpec, *, show_progress: bool | None = None
) -> RadarSummary:
    """A summary of pairs, rendered into the folder `out`; those that are there already are kept.
    Raises `InputError` and `UnwritableFile`."""
    started, folder = time.perf_counter(), Path(out)
    record = {name: value for name, value in asdict(spec).items() if name != "num_pairs"}
    found = claim_folder(folder, record, name="world.json")
    if found is not None and found != json.loads(json.dumps(record)):
        raise InputError(
            f"{str(folder / 'world.json')!r} describes other pairs; choose another folder"
        )
    num_rendered = 0
    with progress("rendering", total=spec.num_pairs, show=show_progress) as advance:
        for number in range(spec.num_pairs):
            advance(1)
            case = f"region{number // PAIRS_A_CASE:02d}"
            names = {
                kind: folder / f"{case}_{kind}_train_{number:03d}"
                for kind in ("sar", "optical", "tiepoints")
            }
            # Written last: where it is the pair is whole.
            table = names["tiepoints"].with_suffix(".csv")
            if table.is_file():
                continue
            pair = render_pair(spec, number)
            for kind, image in (("sar", pair.sar), ("optical", pair.optical[..., ::-1])):
                is_done, data = cv2.imencode(".tif", image)
                assert is_done, "a TIFF in memory cannot fail"
                with atomic_write(names[kind].with_suffix(".tif"), is_flushed=False) as file:
                    file.write(data.tobytes())
            lines = [
                "sar_row,sar_col,optical_row,optical_col",
                *(f"{b:.3f},{a:.3f},{d:.3f},{c:.3f}" for a, b, c, d in pair.ties),
            ]
            with atomic_write(table, "w", is_flushed=False) as file:
                file.write("\n".join([*lines, ""]))
            num_rendered += 1
    return RadarSummary(folder, spec.num_pairs, num_rendered, time.perf_counter() - started)


def _on_land(region: Region, random: np.random.Generator, wide: int) -> Window:
    """A window of a region that is not mostly water, as far as some draws find one."""
    km = float(random.choice(_KM_PER_PX))
    extent = region.km_per_cell * region.side
    km = min(km, 0.9 * extent / wide)
    best, least = None, np.inf
    for _ in range(_DRAWS):
        left, top = random.uniform(0, extent - wide * km, 2)
        coarse = Window(
            float(left), float(top), km * wide / _LOOKED_AT_PX, _LOOKED_AT_PX, _LOOKED_AT_PX
        )
        water = float(Survey(region, coarse).water.mean())
        if water < least:
            best, least = Window(float(left), float(top), km, wide, wide), water
        if least < _MOST_WATER:
            break
    assert best is not None, "there was a first draw"
    return best
