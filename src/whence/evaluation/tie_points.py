"""How well pairs of images are registered, by their tie points, as the SAR-optical benchmark counts
it.

Failed pairs are left out of the mean error and of the share within so many pixels, as published, so
the share that failed stands beside them; `penalised` counts their points as missed. Errors are in
pixels of the fixed image as it was matched, and in those of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.data.raster_windows import ArrayWindows, RasterWindows, open_windows
from whence.data.registration_sets import TiePair
from whence.errors import UnreadableImage
from whence.localize.radiometry import to_bytes
from whence.localize.register import MatchedTiles, RegisterOptions, fit_tiles, match_tiles, transfer
from whence.matching.geometry import rescale_points
from whence.parts import Matcher

WITHIN_PX = (1, 2, 3, 5, 10)
_UNSTABLE_PX = 1e6
_SEED = 42
_NUM_DRAWS = 1000
_NONE = np.zeros(0)


@dataclass(frozen=True)
class PairScore:
    """How one pair came out."""

    name: str
    kind: str
    status: str
    """ok, no_tiles, invalid_projection, unstable_homography, or the reason why it could not be
    read."""
    errors_px: np.ndarray
    """(n,) of its tie points, in pixels of the fixed image as it was matched; none where the pair
    failed."""
    native: float = 1.0
    """Pixels of the file to one of those."""
    num_inliers: int = 0
    num_tiles: int = 0
    coverage: float = 0.0

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class RegistrationSummary:
    """All pairs of a set, or of one kind of them."""

    num_pairs: int
    failure_rate: float
    mean_px: float
    """Mean over pairs of each one's mean error; NaN where all failed."""
    mean_native_px: float
    median_px: float
    """Median over pairs of each one's mean error, failed ones counted as infinite: beside a mean
    that leaves them out."""
    within: tuple[float, ...]
    """Mean over pairs that did not fail of the share of points within 1, 2, 3, 5 and 10 pixels."""
    penalised: tuple[float, ...]
    """The same with failed pairs as 0."""
    intervals: dict[str, tuple[float, float]]
    """95 %, of failure, mean and the shares within 5 and 10 pixels."""


@dataclass(frozen=True)
class MatchedPair:
    """What was matched of a pair."""

    pair: TiePair
    matched: MatchedTiles
    ties: np.ndarray
    """(n, 4) its tie points in pixels as matched."""
    native: float
    """Pixels of the fixed image's file to one of those."""


def read_windows(path: Path, *, max_side_px: int) -> tuple[ArrayWindows, tuple[int, int]]:
    """An image as bytes, stretched as published, no longer than a side where one is given, and the
    file's width and height.

    Raises `UnreadableImage`.
    """
    windows = open_windows(path)
    if isinstance(windows, RasterWindows):
        with windows:
            bands = [1, 2, 3] if windows.source.count >= 3 else [1]
            values, known = windows.read_bands(0, 0, *windows.size_px, bands=bands)
        windows = ArrayWindows(
            to_bytes(np.where(known, values, values.dtype.type(0)).transpose(1, 2, 0)), known
        )
    return windows.shrunk(max_side_px), windows.size_px


def match_pair(
    pair: TiePair, matcher: Matcher, options: RegisterOptions, *, max_side_px: int = 0
) -> MatchedPair:
    """Matches of a pair. Raises `UnreadableImage`."""
    moving, size0 = read_windows(pair.moving, max_side_px=max_side_px)
    fixed, size1 = read_windows(pair.fixed, max_side_px=max_side_px)
    points0 = rescale_points(pair.ties[:, :2], scale=np.array(moving.size_px) / size0)
    points1 = rescale_points(pair.ties[:, 2:], scale=np.array(fixed.size_px) / size1)
    matched = match_tiles(moving, fixed, matcher, options)
    return MatchedPair(
        pair, matched, np.hstack([points0, points1]), max(size1) / max(fixed.size_px)
    )


def score_pair(outcome: MatchedPair, options: RegisterOptions) -> PairScore:
    """How far a pair's tie points are off by what was matched of it."""
    tiles, pair, native = fit_tiles(outcome.matched, options), outcome.pair, outcome.native
    if not tiles:
        return PairScore(pair.name, pair.kind, "no_tiles", _NONE, native)
    errors = np.linalg.norm(transfer(outcome.ties[:, :2], tiles) - outcome.ties[:, 2:], axis=1)
    about = (
        sum(tile.num_inliers for tile in tiles),
        len(tiles),
        float(np.mean([tile.coverage for tile in tiles])),
    )
    if not np.isfinite(errors).all():
        return PairScore(pair.name, pair.kind, "invalid_projection", _NONE, native, *about)
    if errors.mean() > _UNSTABLE_PX:
        return PairScore(pair.name, pair.kind, "unstable_homography", _NONE, native, *about)
    return PairScore(pair.name, pair.kind, "ok", errors, native, *about)


def evaluate_pairs(
    pairs: Sequence[TiePair], matcher: Matcher, options: RegisterOptions, *, max_side_px: int = 0
) -> Iterator[PairScore]:
    """A score for each pair, one after the other; one that cannot be read fails, and says why."""
    for pair in pairs:
        try:
            yield score_pair(match_pair(pair, matcher, options, max_side_px=max_side_px), options)
        except UnreadableImage as error:
            yield PairScore(pair.name, pair.kind, error.reason, _NONE)


def summarise(scores: Sequence[PairScore], *, group: str) -> RegistrationSummary:
    """The published metrics of pairs; `group` seeds the intervals, published as
    MATCHER|NORMALISATION|tiled or full."""
    failed = np.array([not one.is_ok for one in scores], float)
    means = np.array([one.errors_px.mean() if one.is_ok else np.nan for one in scores])
    natives = np.array([one.native for one in scores])
    within = np.array(
        [
            [(one.errors_px <= limit).mean() if one.is_ok else np.nan for limit in WITHIN_PX]
            for one in scores
        ]
    )
    drawn = (failed, means, within[:, WITHIN_PX.index(5)], within[:, WITHIN_PX.index(10)])
    names = ("failure", "mean", "within 5", "within 10")
    return RegistrationSummary(
        len(scores),
        float(failed.mean()),
        _mean(means),
        _mean(means * natives),
        float(np.median(np.where(np.isfinite(means), means, np.inf))),
        tuple(_mean(column) for column in within.T),
        tuple(float(value) for value in np.nan_to_num(within).mean(axis=0)),
        dict(zip(names, bootstrap_by_group(drawn, group=group), strict=True)),
    )


def group_seed(group: str) -> int:
    """The published seed of a group's intervals, without what is added to it: the first 8 bytes of
    its SHA-256."""
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "little")


def bootstrap_by_group(columns: Sequence[np.ndarray], *, group: str) -> list[tuple[float, float]]:
    """95 % intervals of the means of columns (n,), drawn one after the other from one generator;
    NaN is left out before.

    Of one value that value twice, of none NaN.
    """
    random, found = np.random.default_rng(_SEED + group_seed(group)), []
    for column in columns:
        values = column[~np.isnan(column)]
        if len(values) < 2:
            found.append(
                (float(values[0]), float(values[0]))
                if len(values)
                else (float("nan"), float("nan"))
            )
            continue
        means = values[random.integers(0, len(values), (_NUM_DRAWS, len(values)))].mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        found.append((float(low), float(high)))
    return found


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
