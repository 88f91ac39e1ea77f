"""EarthMatch's loop: a photo from orbit and a tile with its surroundings, matched round by round
until the footprint stands.

After Berton, Goletto, Trivigno, Stoken, Caputo, Masone (CVPR workshop on image matching, 2024). In
every round the estimate so far becomes the middle of what is matched, so that both images look more
alike. The published mode cuts corners to whole pixels, takes latitude for linear and accepts mirror
images; ours does none of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from whence.data.mosaics import AROUND
from whence.data.tiles import from_cells, to_cells
from whence.errors import BadOption
from whence.matching.geometry import GeometrySettings, fit_geometry
from whence.parts import Matcher

MOST_AREA = 9.0
"""In tiles: the whole of the surroundings."""
_PUBLISHED_THRESHOLD_PX = 3.0
_PUBLISHED_LEAST_MATCHES = 5


class Agreement(NamedTuple):
    """What matches between the photo and the middle of the surroundings agree on."""

    num_inliers: int
    matrix: np.ndarray | None
    """(3, 3) from the photo to the middle, in pixels; None where there is none."""
    rms_px: float = 0.0
    """Root of the mean square of what inliers are off."""


Find = Callable[[np.ndarray, np.ndarray, np.ndarray], Agreement]
"""Of the photo, the middle (both S, S, 3), and the (3, 3) warp that made the middle of the
candidate's pixels."""


@dataclass(frozen=True, slots=True)
class CoregisterOptions:
    """How it is done."""

    side_px: int = 512
    num_iterations: int = 4
    is_published: bool = False
    """As the published code: whole pixels, RANSAC, mirror images accepted, latitude linear within
    the surroundings."""
    stop_px: float = 0.0
    """Stop once no corner moves farther than this; 0 never, as published."""
    first_inliers: int = 0
    """Inliers of the first round below which a candidate is given up; 0 gives none up, as
    published."""
    look_px: int = 0
    """Side at which photo and candidate are looked at before the first round, which then decides by
    `first_inliers`; 0 not."""

    def __post_init__(self) -> None:
        if (
            self.side_px < 16
            or self.num_iterations < 1
            or self.stop_px < 0
            or 0 < self.look_px < 16
        ):
            raise BadOption("co-registration needs a side of at least 16 pixels and one iteration")


@dataclass(frozen=True)
class Coregistration:
    """What a candidate came to."""

    reason: str
    """Why the candidate is no match; empty where it is one."""
    num_inliers: int = 0
    """Of the last round."""
    rms_px: float = 0.0
    matrix: np.ndarray | None = None
    """(3, 3) from the photo, upright as given and brought to S x S, to the candidate's pixels, its
    top left corner at 0, 0."""
    corners: tuple[np.ndarray, ...] = ()
    """(4, 2) after each round, not cut to whole pixels: where the turned photo's corners (top left,
    top right, bottom right, bottom left) lie in the candidate's pixels."""
    footprint: np.ndarray | None = None
    """(4, 2) latitude and longitude of the photo's own lower left, upper left, upper right and
    lower right corner."""
    inliers: tuple[int, ...] = ()
    """After each round."""

    @property
    def is_match(self) -> bool:
        """Whether every round was valid. Whether that is enough, a threshold on the inliers
        says."""
        return not self.reason


def coregister(
    query: np.ndarray,
    surroundings: np.ndarray,
    box: Sequence[float],
    find: Find,
    *,
    turns: int = 0,
    options: CoregisterOptions = CoregisterOptions(),
) -> Coregistration:
    """The finer place of a photo (H, W, 3) uint8 in the surroundings (3 tiles along each side) of a
    candidate.

    `box` is the candidate's own south, west, north, east. `turns`: quarters, counter-clockwise, by
    which the photo is turned first, as retrieval found it.
    """
    side = options.side_px
    photo = np.ascontiguousarray(np.rot90(_to_side(query, side), turns))
    around = _to_side(surroundings, AROUND * side)
    shift = 0.0 if options.is_published else 0.5
    outline = np.array([[0, 0], [side, 0], [side, side], [0, side]], float)
    whole: np.ndarray | None = None
    corners = outline
    outlines: list[np.ndarray] = []
    inliers: list[int] = []
    agreed = Agreement(0, None)
    if options.look_px:
        small = options.look_px
        seen = find(
            _to_side(photo, small),
            _to_side(_middle(around, np.eye(3), side, shift), small),
            np.eye(3),
        ).num_inliers
        if seen < options.first_inliers:
            return Coregistration(
                f"at a first look {seen} points agree, {options.first_inliers} are asked for"
            )
    for _ in range(options.num_iterations):
        # Whole corners are no longer those of the estimate: the warp is then by them.
        onto: np.ndarray = np.eye(3)
        if whole is not None and options.is_published:
            onto = cv2.getPerspectiveTransform(
                corners.astype(np.float32), outline.astype(np.float32)
            )
        elif whole is not None:
            onto = np.linalg.inv(whole)
        agreed = find(photo, _middle(around, onto, side, shift), onto)
        if agreed.num_inliers == 0 or agreed.matrix is None:
            return Coregistration(
                "no points agree on a geometry", corners=tuple(outlines), inliers=tuple(inliers)
            )
        whole = agreed.matrix if whole is None else whole @ agreed.matrix
        whole = whole / whole[2, 2]
        projected = _project(whole, outline)
        # In single precision, as published: what is a whole number but for rounding stays it.
        corners = (
            np.trunc(projected.astype(np.float32)).astype(float)
            if options.is_published
            else projected
        )
        reason = _refusal(whole, corners, side, is_published=options.is_published)
        outlines.append(projected)
        inliers.append(agreed.num_inliers)
        if (
            not reason
            and not options.look_px
            and len(outlines) == 1
            and agreed.num_inliers < options.first_inliers
        ):
            reason = (
                f"{agreed.num_inliers} points agree at first, {options.first_inliers} are asked "
                "for to go on"
            )
        if reason:
            return Coregistration(reason, corners=tuple(outlines), inliers=tuple(inliers))
        if (
            options.stop_px
            and len(outlines) > 1
            and np.abs(outlines[-1] - outlines[-2]).max() < options.stop_px
        ):
            break
    assert whole is not None
    return Coregistration(
        "",
        agreed.num_inliers,
        agreed.rms_px,
        whole @ _turning(turns, side),
        tuple(outlines),
        footprint_after(corners, box, turns=turns, side_px=side, is_linear=options.is_published),
        tuple(inliers),
    )


def footprint_after(
    corners: np.ndarray, box: Sequence[float], *, turns: int, side_px: int, is_linear: bool = False
) -> np.ndarray:
    """(4, 2) latitude and longitude of a photo's own lower left, upper left, upper right and lower
    right corner.

    `corners` (4, 2) are those of the turned photo in a candidate's pixels, upper left first.
    """
    turned = to_degrees(corners, box, side_px=side_px, is_linear=is_linear)
    # Corner i of the photo as given is corner i - turns of the turned one; then lower left first,
    # as names have it.
    return turned[(np.arange(4) - turns) % 4][[3, 0, 1, 2]]


def finder(matcher: Matcher, *, is_published: bool = False) -> Find:
    """A function that finds what a matcher of the house finds; the photo is described once,
    whatever it is compared with."""
    prepared: dict[int, tuple[np.ndarray, dict[str, np.ndarray]]] = {}
    settings = GeometrySettings(method="ransac" if is_published else "magsac")

    def find(photo: np.ndarray, middle: np.ndarray, onto: np.ndarray) -> Agreement:
        known = prepared.get(len(photo))
        if known is None or (known[0] is not photo and not np.array_equal(known[0], photo)):
            prepared[len(photo)] = known = (photo, matcher.prepare(photo))
        pairs = next(iter(matcher.match(known[1], [matcher.prepare(middle)])))
        if pairs is None or len(pairs.points0) < _PUBLISHED_LEAST_MATCHES:
            return Agreement(0, None)
        size = (photo.shape[1], photo.shape[0])
        if is_published:
            matrix, mask = cv2.findHomography(
                pairs.points0,
                pairs.points1,
                cv2.RANSAC,
                _PUBLISHED_THRESHOLD_PX,
                maxIters=2000,
                confidence=0.995,
            )
            if matrix is None or mask is None:
                return Agreement(0, None)
            chosen = mask.ravel().astype(bool)
        else:
            found = fit_geometry(
                pairs.points0, pairs.points1, size0_px=size, size1_px=size, settings=settings
            )
            if found.matrix is None:
                return Agreement(0, None)
            matrix, chosen = found.matrix, found.is_inlier
        off = _project(matrix, pairs.points0[chosen]) - pairs.points1[chosen]
        shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        # From middles of pixels at whole numbers to edges at whole numbers.
        edges = matrix if is_published else shift @ matrix @ np.linalg.inv(shift)
        return Agreement(
            int(chosen.sum()),
            edges,
            float(np.sqrt((off**2).sum(axis=1).mean())) if chosen.any() else 0.0,
        )

    return find


def to_degrees(
    points: np.ndarray, box: Sequence[float], *, side_px: int, is_linear: bool = False
) -> np.ndarray:
    """(n, 2) latitude and longitude of points (n, 2) in a candidate's pixels, of its box of south,
    west, north, east.

    Linear is the published way: within the surroundings latitudes are taken for evenly spaced.
    """
    south, west, north, east = map(float, box)
    width = (east - west) % 360 or 360.0
    if is_linear:
        lat = (
            (south + north) / 2
            + 1.5 * (north - south)
            - (points[:, 1] + side_px) / side_px * (north - south)
        )
        return np.stack([lat, west - width + (points[:, 0] + side_px) / side_px * width], axis=1)
    (_, _), (top, bottom) = to_cells(np.array([north, south]), np.zeros(2), 0)
    row = top + (bottom - top) * points[:, 1] / side_px
    lat, _ = from_cells(np.zeros(len(points)), row, 0)
    return np.stack([lat, west + width * points[:, 0] / side_px], axis=1)


def _to_side(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape[:2] == (side, side):
        return image
    way = cv2.INTER_AREA if min(image.shape[:2]) > side else cv2.INTER_LINEAR
    found: np.ndarray = cv2.resize(image, (side, side), interpolation=way)
    return found


def _middle(around: np.ndarray, onto: np.ndarray, side: int, shift: float) -> np.ndarray:
    """The middle (S, S, 3) of the surroundings, after the warp of the candidate's pixels."""
    to_candidate = np.array([[1, 0, shift - side], [0, 1, shift - side], [0, 0, 1.0]])
    to_pixels = np.array([[1, 0, -shift], [0, 1, -shift], [0, 0, 1.0]])
    warp = to_pixels @ onto @ to_candidate
    found: np.ndarray = cv2.warpPerspective(
        around, warp, (side, side), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0)
    )
    return found


def _refusal(matrix: np.ndarray, corners: np.ndarray, side: int, *, is_published: bool) -> str:
    """Why an estimate cannot be; empty where it can."""
    ahead = np.roll(corners, -1, axis=0) - corners
    following = np.roll(ahead, -1, axis=0)
    bends = ahead[:, 0] * following[:, 1] - ahead[:, 1] * following[:, 0]
    if not (np.isfinite(corners).all() and ((bends > 0).all() or (bends < 0).all())):
        return "the footprint is folded"
    x, y = corners.T / side
    area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    if area > MOST_AREA:
        return "the footprint is larger than the surroundings"
    if is_published:
        return ""
    reach = matrix[2] @ np.array([[0, side, side, 0], [0, 0, side, side], [1, 1, 1, 1]], float)
    if (reach <= 0).any():
        return "a corner lies beyond the horizon"
    if (bends < 0).all():
        return "the footprint is mirrored"
    return ""


def _project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    found = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(found[:, :2] / found[:, 2:])


def _turning(turns: int, side: int) -> np.ndarray:
    """(3, 3) from a square's pixels to those of the square turned by quarters,
    counter-clockwise."""
    quarter = np.array([[0, 1, 0], [-1, 0, side], [0, 0, 1.0]])
    return np.asarray(np.linalg.matrix_power(quarter, turns % 4))
