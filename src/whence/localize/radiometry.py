"""Brightness made comparable before two sensors are matched: the nine ways of the SAR-optical
benchmark, each on one crop.

After Corley, Stoken, Berton: Are pretrained image matchers good enough for SAR-optical satellite
registration? (CVPR workshop on image matching, 2026). The winsol ways come from winners of SpaceNet
9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from whence.errors import UnknownName
from whence.models.local.sift import to_grey

_PERCENT = (2.0, 98.0)
_DEVIATIONS = 2.5
_CLIP, _CELLS = 2.0, (8, 8)
_SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]], np.float32)


def to_bytes(bands: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of bands (H, W) or (H, W, 1 or 3), stretched from the least to the largest
    finite value of all.

    Bytes stay as they are. One value everywhere, and what is not finite, becomes 0.
    """
    image = bands[..., None] if bands.ndim == 2 else bands
    if image.dtype != np.uint8:
        values = image.astype(np.float64)
        is_known = np.isfinite(values)
        low, high = (
            (values[is_known].min(), values[is_known].max()) if is_known.any() else (0.0, 0.0)
        )
        scaled = 255 * (values - low) / (high - low) if high > low else np.zeros_like(values)
        image = np.rint(np.where(is_known, scaled, 0)).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image)


def normalise(image: np.ndarray, way: str, *, is_sar: bool) -> np.ndarray:
    """(H, W, 3) float32 from 0 to 1 of a crop (H, W, 3) uint8. Raises `UnknownName` for a way that
    there is none of."""
    if way not in NORMALISATIONS:
        raise UnknownName("normalisation", way, NORMALISATIONS)
    optical, sar = NORMALISATIONS[way]
    return np.ascontiguousarray((sar if is_sar else optical)(image), np.float32)


def _identity(image: np.ndarray) -> np.ndarray:
    return image / np.float32(255)


def _percentile(image: np.ndarray) -> np.ndarray:
    return _stretched(image.astype(np.float64), image / 255.0)


def _stretched(values: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Values (H, W, 3) between their percentiles, band by band; of a flat band what is given
    otherwise. NaN is 0 and left out."""
    found = np.empty(values.shape)
    for band in range(values.shape[2]):
        low, high = (
            np.nanpercentile(values[..., band], _PERCENT)
            if np.isfinite(values[..., band]).any()
            else (0.0, 0.0)
        )
        is_flat = not high > low
        found[..., band] = (
            otherwise[..., band]
            if is_flat
            else np.clip((values[..., band] - low) / (high - low), 0, 1)
        )
    return np.nan_to_num(found)


def _zscore(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.float64)
    spread, middle = values.std(axis=(0, 1)), values.mean(axis=(0, 1))
    scores = np.clip((values - middle) / np.maximum(spread, 1e-6), -_DEVIATIONS, _DEVIATIONS)
    return np.where(spread < 1e-6, 0.5, (scores + _DEVIATIONS) / (2 * _DEVIATIONS))


def _clahe(image: np.ndarray) -> np.ndarray:
    # One for all bands: its tables are those of the last call.
    levels = cv2.createCLAHE(_CLIP, _CELLS)
    return (
        np.stack(
            [levels.apply(np.ascontiguousarray(image[..., band])) for band in range(3)], axis=-1
        )
        / 255.0
    )


def _log_percentile(image: np.ndarray) -> np.ndarray:
    return _stretched(np.log1p(image.astype(np.float64)), image / 255.0)


def _masked_log_percentile(image: np.ndarray) -> np.ndarray:
    """The same with zeros, which are no measurement, left out."""
    return _stretched(
        np.where(image > 0, np.log1p(image.astype(np.float64)), np.nan), image / 255.0
    )


def _grey(image: np.ndarray) -> np.ndarray:
    return _three(to_grey(image))


def _three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2) / 255.0


def _blurred(image: np.ndarray) -> np.ndarray:
    return _three(cv2.GaussianBlur(to_grey(image), (7, 7), 0))


def _bilateral(image: np.ndarray) -> np.ndarray:
    return cv2.bilateralFilter(to_grey(image), 9, 75, 75)


def _equalised(image: np.ndarray) -> np.ndarray:
    return _three(cv2.GaussianBlur(cv2.equalizeHist(_bilateral(image)), (5, 5), 0))


def _sharpened(image: np.ndarray) -> np.ndarray:
    levels = cv2.createCLAHE(_CLIP, _CELLS).apply(_bilateral(image))
    return _three(cv2.filter2D(cv2.GaussianBlur(levels, (5, 5), 0), -1, _SHARPEN))


def _grey_clahe(image: np.ndarray) -> np.ndarray:
    return _three(cv2.createCLAHE(_CLIP, _CELLS).apply(to_grey(image)))


Change = Callable[[np.ndarray], np.ndarray]
NORMALISATIONS: Mapping[str, tuple[Change, Change]] = {
    "identity": (_identity, _identity),
    "percentile": (_percentile, _percentile),
    "zscore": (_zscore, _zscore),
    "clahe": (_clahe, _clahe),
    "sarlog_percentile": (_percentile, _log_percentile),
    "winsol_gaussian": (_grey, _blurred),
    "winsol_bilateral": (_grey, _equalised),
    "winsol_clahe": (_grey_clahe, _sharpened),
    "winsol_log": (_percentile, _masked_log_percentile),
}
"""Ways by name: what happens to an optical crop, and what to one of a radar."""
