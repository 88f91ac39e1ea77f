"""Pictures for people: two photos side by side with the matches between them, or with the parts
that GeoWarp finds the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from whence.parts import PairScorer
from whence.runtime import atomic_write
from whence.types import Match

INLIER_RGB = (30, 200, 60)
OUTLIER_RGB = (220, 60, 40)
MAX_LINES = 120
_GAP_PX = 12
QUAD_RGB = (30, 200, 60)
VIEW_RGB = ((60, 120, 240), (245, 150, 30))
_KEY_PX = 26


@dataclass(frozen=True, slots=True, eq=False)
class WarpedPair:
    """What GeoWarp finds on two images. Corners go top left, top right, bottom right, bottom left;
    x and y from -1 to 1."""

    quad0: np.ndarray
    """(4, 2) float64: the part of the first image that shows what both show."""
    quad1: np.ndarray
    """(4, 2) the same on the second image."""
    cells: np.ndarray
    """(h, w) similarity, cell by cell, of the two parts stretched to the whole frame; at most 1."""
    whole_similarity: float
    """Sum of the similarities of the cells of the whole images."""

    @property
    def similarity(self) -> float:
        """Sum of the similarities of the cells: what candidates are ordered by."""
        return float(self.cells.sum())


@runtime_checkable
class WarpScorer(PairScorer, Protocol):
    """A pair scorer that warps, and shows how: `compare` takes two uint8 images (H, W, 3)."""

    def compare(self, image0: np.ndarray, image1: np.ndarray) -> WarpedPair: ...


def draw_attention(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB with weights (h, w) above 0 laid over it: blue where little
    counts, red where much does."""
    large = cv2.resize(
        np.asarray(weights, np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR
    )
    low, high = np.percentile(large, (2, 98))
    scaled = np.clip((large - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(image, 0.5, heat, 0.5, 0))


def draw_match(
    image0: np.ndarray, image1: np.ndarray, match: Match, *, height_px: int = 480
) -> np.ndarray:
    """Two images (H, W, 3) side by side, uint8 RGB: inliers joined by green lines, other matches as
    red dots.

    `image0` and `image1` may be any size: points are brought from the sizes `match` was made for.
    Of many inliers an even share of `MAX_LINES` is drawn.
    """
    parts = [_to_height(image, height_px) for image in (image0, image1)]
    canvas = _beside(parts)
    first = _on_canvas(match.points0, match.size0_px, parts[0])
    second = _on_canvas(match.points1, match.size1_px, parts[1]) + np.array(
        [parts[0].shape[1] + _GAP_PX, 0]
    )
    for a, b in zip(first[~match.is_inlier], second[~match.is_inlier], strict=True):
        for x, y in (a, b):
            cv2.circle(canvas, (int(x), int(y)), 2, OUTLIER_RGB, -1, cv2.LINE_AA)
    inliers = np.flatnonzero(match.is_inlier)
    if len(inliers) > MAX_LINES:
        inliers = inliers[np.linspace(0, len(inliers) - 1, MAX_LINES).round().astype(int)]
    for row in inliers:
        a, b = (tuple(int(value) for value in point) for point in (first[row], second[row]))
        cv2.line(canvas, a, b, INLIER_RGB, 1, cv2.LINE_AA)
        for centre in (a, b):
            cv2.circle(canvas, centre, 3, INLIER_RGB, 1, cv2.LINE_AA)
    return canvas


def draw_warped_pair(
    image0: np.ndarray, image1: np.ndarray, pair: WarpedPair, *, height_px: int = 300
) -> np.ndarray:
    """Two images (H, W, 3) with their quadrilaterals; below, both cut out, and how similar they are
    cell by cell; uint8 RGB.

    Cells are coloured from 0 and below (dark) to 1 (yellow) over the first image's part.
    """
    images = [_to_height(image, height_px) for image in (image0, image1)]
    quads = (pair.quad0, pair.quad1)
    outlined = [_outlined(image, quad, QUAD_RGB) for image, quad in zip(images, quads, strict=True)]
    parts = [_cut_out(image, quad) for image, quad in zip(images, quads, strict=True)]
    heat = _heat(pair.cells, parts[0].shape[1], height_px)
    cells = cv2.addWeighted(parts[0], 0.35, heat, 0.65, 0)
    return _below([_beside(outlined), _beside([*parts, cells, _heat_key(height_px)])])


def draw_view_pair(
    image: np.ndarray,
    *,
    cuts: tuple[np.ndarray, np.ndarray],
    quads: tuple[np.ndarray, np.ndarray],
    shared: np.ndarray,
    height_px: int = 300,
) -> np.ndarray:
    """An image (H, W, 3) with two trapezoids `cuts` and, tinted, the part `shared` by both; below,
    both views, that part outlined.

    At the bottom, the shared part cut out of each view. All quadrilaterals are (4, 2), normalised;
    uint8 RGB.
    """
    whole = _to_height(image, height_px)
    views = [_cut_out(whole, cut) for cut in cuts]
    parts = [_cut_out(view, quad) for view, quad in zip(views, quads, strict=True)]
    outlined = [_outlined(view, quad, QUAD_RGB) for view, quad in zip(views, quads, strict=True)]
    rims = [
        cv2.copyMakeBorder(one, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=c)
        for one, c in zip(outlined, VIEW_RGB, strict=True)
    ]
    filled = cv2.fillConvexPoly(
        whole.copy(), np.rint(_corners_px(shared, whole)).astype(np.int32), QUAD_RGB
    )
    whole = cv2.addWeighted(whole, 0.65, filled, 0.35, 0)
    for quad, colour in zip(cuts, VIEW_RGB, strict=True):
        whole = _outlined(whole, quad, colour)
    return _below([_beside([whole]), _beside(rims), _beside(parts)])


def write_picture(path: str | Path, image: np.ndarray) -> None:
    """Write RGB pixels (H, W, 3) uint8 as PNG, or as JPEG where the ending is .jpg or .jpeg; whole
    or not at all."""
    ending = ".jpg" if Path(path).suffix.lower() in (".jpg", ".jpeg") else ".png"
    is_done, data = cv2.imencode(ending, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert is_done, "a picture in memory cannot fail"
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _to_height(image: np.ndarray, height_px: int) -> np.ndarray:
    height, width = image.shape[:2]
    size = (max(1, round(width * height_px / height)), height_px)
    return cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if height_px < height else cv2.INTER_LINEAR
    )


def _on_canvas(points: np.ndarray, size_px: tuple[int, int], picture: np.ndarray) -> np.ndarray:
    scale = np.array([picture.shape[1] / size_px[0], picture.shape[0] / size_px[1]])
    return np.rint((np.asarray(points, float).reshape(-1, 2) + 0.5) * scale - 0.5).astype(int)


def _beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images of one height side by side."""
    canvas = np.full(
        (images[0].shape[0], sum(image.shape[1] + _GAP_PX for image in images) - _GAP_PX, 3),
        255,
        np.uint8,
    )
    left = 0
    for image in images:
        canvas[:, left : left + image.shape[1]] = image
        left += image.shape[1] + _GAP_PX
    return canvas


def _below(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Images one below the other, each in the middle."""
    width = max(row.shape[1] for row in rows)
    canvas = np.full(
        (sum(row.shape[0] + _GAP_PX for row in rows) - _GAP_PX, width, 3), 255, np.uint8
    )
    top = 0
    for row in rows:
        left = (width - row.shape[1]) // 2
        canvas[top : top + row.shape[0], left : left + row.shape[1]] = row
        top += row.shape[0] + _GAP_PX
    return canvas


def _corners_px(quad: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of a normalised quadrilateral in pixels of an image."""
    return ((np.asarray(quad, float) + 1) / 2 * [image.shape[1], image.shape[0]] - 0.5).astype(
        np.float32
    )


def _outlined(image: np.ndarray, quad: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The image with a quadrilateral; what of it lies outside is drawn along the rim."""
    drawn = image.copy()
    corners = np.clip(_corners_px(quad, image), 1, [image.shape[1] - 2, image.shape[0] - 2])
    cv2.polylines(drawn, [np.rint(corners).astype(np.int32)], True, (0, 0, 0), 5, cv2.LINE_AA)
    cv2.polylines(drawn, [np.rint(corners).astype(np.int32)], True, colour, 3, cv2.LINE_AA)
    return drawn


def _cut_out(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """A quadrilateral stretched to the image's own size."""
    whole = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)
    matrix = cv2.getPerspectiveTransform(_corners_px(quad, image), _corners_px(whole, image))
    return cv2.warpPerspective(
        image, matrix, (image.shape[1], image.shape[0]), flags=cv2.INTER_LINEAR
    )


def _heat(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """Values from 0 to 1 as colours, every cell a box."""
    levels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    return cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)


def _heat_key(height_px: int) -> np.ndarray:
    """What the colours of the cells mean: 1 at the top, 0 at the bottom."""
    key = _heat(np.linspace(1, 0, height_px)[:, None], _KEY_PX, height_px)
    for text, y, colour in (("1", 18, (0, 0, 0)), ("0", height_px - 8, (255, 255, 255))):
        cv2.putText(key, text, (7, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return key
