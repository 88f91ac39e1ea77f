"""A matcher across sensors that needs no weights: orientations of edges, correlated template by
template.

A radar and a camera see other brightness at one place, but edges in the same directions. Each pixel
becomes a complex number: the doubled direction of its gradient, so that bright on dark and dark on
bright are the same, times its strength. That is orientation correlation (Fitch, Kadyrov, Christmas,
Kittler, BMVC 2002) with doubled directions; of nine channels of oriented gradients as in CFOG (Ye,
Bruzzone, Shan, Bovolo, Zhu, TGRS 2019) it keeps what is left without their mean, at a seventh of
the cost. Templates on a grid are looked for around the place where they should lie, by correlation
through Fourier transforms; neighbours add to one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np

from whence.errors import BadOption
from whence.matching.geometry import scaling
from whence.models.local.sift import to_grey
from whence.types import Arrays, PointPairs

_LEAST_SIDE_PX = 48
_SIGMA_PX, _SPREAD_PX = 1.5, 1.0
_DARK = 8
"""Grey up to which a border counts as the black around a turned image."""
_RIM_PX = 4
"""Around what is not known gradients are the border's own."""
_COARSE_PX = 128
_TURNS_DEG = range(-180, 180, 8)
_ZOOMS = tuple(2.0 ** (step / 4) for step in range(-4, 5))
_NUM_GUESSES = 3
_AGREED_PX = 4.0
_NEIGHBOURS = 0.5
LEAST_STANDING = 5.0
"""Of images that have nothing to do with each other none of 24 pairs of rendered ground reached
4.3, of others one lay below 7."""


class _Map(NamedTuple):
    """An image as orientations, zero where nothing is known."""

    values: np.ndarray
    """(H, W) complex64: doubled directions times strengths, at most 1."""
    is_known: np.ndarray
    """(H, W) uint8, 0 or 1."""


class _Found(NamedTuple):
    points0: np.ndarray
    points1: np.ndarray
    likeness: np.ndarray


_NOTHING = _Found(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True, slots=True)
class OrientationCorrelation:
    """Pairs places of two images of one footprint by the orientations of edges around them. A
    `Matcher`."""

    template_px: int = 96
    """Side of what is looked for; less on small images."""
    step_px: int = 32
    """From one template to the next."""
    reach_px: int = 32
    """How far around its place a template is looked for, once the images are moved together as a
    whole."""
    is_upright: bool = True
    """Whether both images are held the same way and show the same footprint; else all turns, and
    zooms up to 2, are tried."""
    least_standing: float = LEAST_STANDING
    """What `standing` must be where the matches put the images, else there are none; 0 gives
    whatever is found."""

    def __post_init__(self) -> None:
        if self.template_px < 16 or self.step_px < 1 or self.reach_px < 2:
            raise BadOption(
                "templates have at least 16 pixels along a side, a step of 1 and a reach of 2"
            )

    @property
    def key(self) -> str:
        """The settings as text; before the slash what the kept arrays depend on."""
        way = "upright" if self.is_upright else "turned"
        return (
            f"grey/orientation-{self.template_px}-{self.step_px}-{self.reach_px}-{way}-"
            f"{self.least_standing:g}"
        )

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """The grey image (H, W) uint8."""
        return {"grey": np.ascontiguousarray(to_grey(image))}

    def match(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PointPairs | None]:
        """One record per candidate, in order; confidences are correlations."""
        for arrays in candidates:
            yield None if arrays is None else self._pair(query["grey"], arrays["grey"])

    def _pair(self, first: np.ndarray, second: np.ndarray) -> PointPairs:
        size0, size1 = (first.shape[1], first.shape[0]), (second.shape[1], second.shape[0])
        best = _NOTHING
        if min(*size0, *size1) >= _LEAST_SIDE_PX:
            known = known_pixels(second)
            own = _orientations(first, known_pixels(first))
            guesses = self._guesses(first, second, known) if own.values.any() else []
            tried = [self._looked_for(own, second, known, guess) for guess in guesses]
            best = max(tried, key=lambda one: float(one.likeness.sum()), default=_NOTHING)
            if not self.is_upright and len(best.points0) >= 2:
                closer = _fitted(cv2.estimateAffinePartial2D, best.points1, best.points0)
                if closer is not None:
                    best = max(
                        best,
                        self._looked_for(own, second, known, closer),
                        key=lambda one: float(one.likeness.sum()),
                    )
            if self.least_standing > 0 and not self._stands(first, second, best):
                best = _NOTHING
        inside = ((best.points1 >= -0.5) & (best.points1 < np.array(size1) - 0.5)).all(axis=1)
        count = int(inside.sum())
        return PointPairs(
            best.points0[inside],
            best.points1[inside],
            size0,
            size1,
            (count, count),
            np.clip(best.likeness[inside], 0, 1),
        )

    def _stands(self, first: np.ndarray, second: np.ndarray, pair: _Found) -> bool:
        matrix = _fitted(cv2.estimateAffine2D, pair.points0, pair.points1)
        return matrix is not None and standing(first, second, matrix) >= self.least_standing

    def _guesses(
        self, first: np.ndarray, second: np.ndarray, is_known: np.ndarray
    ) -> list[np.ndarray]:
        """Maps (3, 3) from the second image to the first one that are tried, by how alike both are
        as a whole."""
        size0, size1 = first.shape[1::-1], second.shape[1::-1]
        whole = scaling((size1[0], size1[1]), (size0[0], size0[1]))
        if self.is_upright:
            shifted = coarse_guesses(
                first, second, is_known, turns_deg=(0.0,), zooms=(1.0,), is_same_footprint=True
            )
            away = np.abs((shifted[0] @ np.linalg.inv(whole))[:2, 2]).max() if shifted else np.inf
            return [shifted[0] if self.reach_px / 2 < away < max(size0) / 4 else whole]
        found = coarse_guesses(
            first, second, is_known, turns_deg=tuple(map(float, _TURNS_DEG)), zooms=_ZOOMS
        )
        return found[:_NUM_GUESSES] or [whole]

    def _looked_for(
        self, own: _Map, second: np.ndarray, is_known: np.ndarray, guess: np.ndarray
    ) -> _Found:
        """What is found of the first image in the second one, brought onto it by a guess."""
        height, width = own.values.shape
        brought, is_there = _brought(second, is_known, guess, (width, height))
        other = _orientations(brought, is_there)
        side = min(self.template_px, min(height, width) // 4 * 2)
        step, reach = min(self.step_px, max(1, side // 2)), min(self.reach_px, side)
        points0, surfaces = _surfaces(own, other, side=side, step=step, reach=reach)
        if not len(points0):
            return _NOTHING
        rows, shifts, likeness = _peaks(surfaces, reach)
        points = points0[rows]
        there = (
            cv2.perspectiveTransform((points + shifts)[None], np.linalg.inv(guess))[0]
            if len(points)
            else points
        )
        return _Found(points, there, likeness)


def open_orientation(
    *,
    template_px: int = 96,
    step_px: int = 32,
    reach_px: int = 32,
    is_upright: bool = True,
    least_standing: float = LEAST_STANDING,
) -> OrientationCorrelation:
    """The matcher by orientations of edges. Raises `BadOption`."""
    return OrientationCorrelation(template_px, step_px, reach_px, is_upright, least_standing)


def known_pixels(grey: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 0 where a grey image is the black around a turned one: dark as far as the edge,
    and 1 else.

    An image that is dark nearly everywhere is known everywhere.
    """
    dark = cv2.morphologyEx(
        (grey <= _DARK).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)
    )
    ringed = cv2.copyMakeBorder(dark, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(ringed)
    outside = labels[1:-1, 1:-1] == labels[0, 0]
    return np.ones(grey.shape, np.uint8) if outside.mean() > 0.9 else (~outside).astype(np.uint8)


def coarse_guesses(
    first: np.ndarray,
    second: np.ndarray,
    is_known: np.ndarray,
    *,
    turns_deg: Sequence[float],
    zooms: Sequence[float],
    is_same_footprint: bool = False,
) -> list[np.ndarray]:
    """Maps (3, 3) from the second grey image to the first one, best first: turned, zoomed, and
    moved to where both are most alike.

    `is_same_footprint`: a zoom of 1 stretches the second to the first one's width and height; else
    their pixels are equally large.
    """
    scale = min(1.0, _COARSE_PX / max(first.shape))
    small = _shrunk(first, scale)
    padded = 2 * max(small.shape)
    own = np.conj(np.fft.fft2(_orientations(small, known_pixels(small)).values, s=(padded, padded)))
    size = small.shape[1::-1]
    stretch = np.diag([scale, scale, 1.0])
    if is_same_footprint:
        stretch = scaling((second.shape[1], second.shape[0]), (size[0], size[1]))
    found = []
    for zoom in zooms:
        for turn in turns_deg:
            onto = _about_middle(stretch, second.shape, size, turn, zoom)
            image, is_there = _brought(second, is_known, onto, (size[0], size[1]))
            values = _orientations(image, is_there).values
            energy = float((np.abs(values) ** 2).sum())
            if energy <= 0:
                continue
            likeness = np.fft.ifft2(own * np.fft.fft2(values, s=(padded, padded))).real
            down, across = np.unravel_index(int(likeness.argmax()), likeness.shape)
            shift = [(int(value) + padded // 2) % padded - padded // 2 for value in (across, down)]
            back = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]], [0, 0, 1.0]])
            enlarged = scaling((size[0], size[1]), (first.shape[1], first.shape[0]))
            found.append((float(likeness[down, across]) / np.sqrt(energy), enlarged @ back @ onto))
    return [matrix for _, matrix in sorted(found, key=lambda one: -one[0])]


def standing(first: np.ndarray, second: np.ndarray, matrix: np.ndarray) -> float:
    """How far two grey images agree better where a matrix (3, 3) puts the first on the second than
    at other shifts, in deviations.

    Shifts of 8 to 64 pixels of the second image are the others. Of images that have nothing to do
    with each other, brought together as well as a matcher could, about 3; it says nothing of how
    the matrix was found.
    """
    size = (second.shape[1], second.shape[0])
    image, is_there = _brought(first, known_pixels(first), matrix, size)
    spectra = [
        np.fft.fft2(one.values)
        for one in (_orientations(second, known_pixels(second)), _orientations(image, is_there))
    ]
    alike = np.fft.fftshift(np.fft.ifft2(spectra[0] * np.conj(spectra[1])).real)
    down, across = np.mgrid[: size[1], : size[0]]
    away = np.hypot(down - size[1] // 2, across - size[0] // 2)
    others, here = alike[(away > 8) & (away < 64)], alike[away <= 1.5]
    spread = float(others.std()) if others.size else 0.0
    return float((here.max() - others.mean()) / spread) if spread > 0 else 0.0


def _about_middle(
    stretch: np.ndarray, shape: tuple[int, ...], size: tuple[int, ...], turn_deg: float, zoom: float
) -> np.ndarray:
    """(3, 3) from an image to a frame of this size: stretched, turned about its middle, zoomed, and
    put in the middle."""
    angle = np.radians(turn_deg)
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    middle = stretch @ np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2, 1.0])
    away = np.array([[1, 0, -middle[0]], [0, 1, -middle[1]], [0, 0, 1.0]])
    there = np.array([[1, 0, (size[0] - 1) / 2], [0, 1, (size[1] - 1) / 2], [0, 0, 1.0]])
    return np.asarray(there @ turn @ away @ stretch)


def _shrunk(image: np.ndarray, scale: float) -> np.ndarray:
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    found: np.ndarray = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return found


def _brought(
    image: np.ndarray, is_known: np.ndarray, onto: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """An image and what of it is known in another frame; averaged first where it becomes
    smaller."""
    zoom = float(np.sqrt(abs(np.linalg.det(onto[:2, :2]))))
    if zoom < 0.7:
        small = _shrunk(image, zoom)
        onto = onto @ scaling((small.shape[1], small.shape[0]), (image.shape[1], image.shape[0]))
        image, is_known = (
            small,
            cv2.resize(is_known, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_NEAREST),
        )
    pixels = cv2.warpPerspective(image, onto, size, flags=cv2.INTER_LINEAR)
    return pixels, cv2.warpPerspective(is_known, onto, size, flags=cv2.INTER_NEAREST)


def _orientations(grey: np.ndarray, is_known: np.ndarray) -> _Map:
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SIGMA_PX)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    # The square of a direction has it doubled; strengths are squared with it, and then bounded.
    doubled = (across * across - down * down, 2 * across * down)
    real, imaginary = (cv2.GaussianBlur(part, (0, 0), _SPREAD_PX) for part in doubled)
    rim = 2 * _RIM_PX + 1
    inner = cv2.erode(
        is_known, np.ones((rim, rim), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1
    )
    strength = np.hypot(real, imaginary)
    usual = float(strength[inner > 0].mean()) if inner.any() else 0.0
    bound = (
        np.where(inner > 0, 1 / (strength + usual + 1e-9), 0)
        if usual > 1e-6
        else np.zeros_like(strength)
    )
    return _Map((real * bound + 1j * imaginary * bound).astype(np.complex64), inner)


def _surfaces(
    own: _Map, other: _Map, *, side: int, step: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Middles (n, 2) of templates, and (n, 2 r + 1, 2 r + 1) how alike each is to its surroundings,
    with its neighbours'."""
    height, width = own.values.shape
    lefts, tops = (np.arange(0, extent - side + 1, step) for extent in (width, height))
    extent = side + 2 * reach
    padded = np.pad(other.values, reach)
    power = np.pad(np.abs(other.values) ** 2, reach)
    found = np.zeros((len(tops), len(lefts), 2 * reach + 1, 2 * reach + 1), np.float32)
    is_used = np.zeros((len(tops), len(lefts)), bool)
    for row, top in enumerate(tops):
        templates = np.stack([own.values[top : top + side, left : left + side] for left in lefts])
        around = np.stack([padded[top : top + extent, left : left + extent] for left in lefts])
        spectra = np.fft.fft2(around) * np.conj(np.fft.fft2(templates, s=(extent, extent)))
        alike = np.fft.ifft2(spectra).real[:, : 2 * reach + 1, : 2 * reach + 1]
        energy = (np.abs(templates) ** 2).sum(axis=(1, 2))
        there = (
            np.array(
                [float(power[top : top + extent, left : left + extent].sum()) for left in lefts]
            )
            * (side / extent) ** 2
        )
        shares = np.array(
            [own.is_known[top : top + side, left : left + side].mean() for left in lefts]
        )
        is_used[row] = (shares > 0.5) & (energy > 0) & (there > 0)
        found[row] = np.where(
            is_used[row][:, None, None],
            alike / np.sqrt(np.maximum(energy * there, 1e-9))[:, None, None],
            0,
        )
    smooth = _with_neighbours(_with_neighbours(found, 0), 1) / (1 + 2 * _NEIGHBOURS) ** 2
    middles = np.stack(np.meshgrid(lefts, tops), axis=-1).reshape(-1, 2) + (side - 1) / 2
    chosen = is_used.ravel()
    return middles[chosen], smooth.reshape(-1, *smooth.shape[2:])[chosen]


def _with_neighbours(surfaces: np.ndarray, axis: int) -> np.ndarray:
    ends = [(0, 0)] * surfaces.ndim
    ends[axis] = (1, 1)
    wide = np.pad(surfaces, ends)
    size = surfaces.shape[axis]
    before, after = (wide.take(range(start, start + size), axis) for start in (0, 2))
    return np.asarray(surfaces + _NEIGHBOURS * (before + after))


def _peaks(surfaces: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (m,) of surfaces whose highest place is not at the edge, where that lies (m, 2), finer
    than pixels, and its height."""
    flat = surfaces.reshape(len(surfaces), -1)
    best = flat.argmax(axis=1)
    down, across = np.unravel_index(best, surfaces.shape[1:])
    inside = (down > 0) & (down < 2 * reach) & (across > 0) & (across < 2 * reach)
    rows = np.flatnonzero(inside)
    down, across = down[rows], across[rows]
    top = surfaces[rows, down, across]

    def finer(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return np.asarray((after - before) / (2 * np.maximum(2 * top - before - after, 1e-9)))

    x = across - reach + finer(surfaces[rows, down, across - 1], surfaces[rows, down, across + 1])
    y = down - reach + finer(surfaces[rows, down - 1, across], surfaces[rows, down + 1, across])
    return rows, np.stack([x, y], axis=1).astype(np.float64), top.astype(np.float64)


def _fitted(
    estimate: Callable[..., Any], points0: np.ndarray, points1: np.ndarray
) -> np.ndarray | None:
    """(3, 3) that places found agree on; None where they do not."""
    if len(points0) < 3:
        return None
    matrix, _ = estimate(points0, points1, method=cv2.RANSAC, ransacReprojThreshold=_AGREED_PX)
    if matrix is None or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-6:
        return None
    return np.vstack([matrix, [0, 0, 1]])
