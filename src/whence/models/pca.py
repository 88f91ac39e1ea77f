"""PCA of descriptors: fewer dimensions, with or without whitening, fitted on a database's own
photos or on a training set's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from whence.cards import Preprocessing
from whence.errors import BadOption, NotFitted
from whence.parts import Descriptor
from whence.runtime import in_batches, random_stream

PCA_OPTIONS = ("pca_dim", "pca_whiten")
"""Options that every network has beside its own."""
MAX_SAMPLE_PHOTOS = 16_384
"""Photos that a PCA is fitted on at most; the benchmark's number."""
_LEAST_SHARE = 1e-5
"""Axes whose singular value is a smaller share of the largest are noise."""
PRIOR_PHOTOS = 30
Whitening = tuple[np.ndarray, np.ndarray]
"""Mean (E,) and axes (D, E)."""


class Prior(NamedTuple):
    """What is known of photos in general, before a database's own."""

    mean: np.ndarray
    """(E,)"""
    spreads: np.ndarray
    """(R, E) principal axes, each as long as photos spread along it."""


def fit_pca(
    raw: np.ndarray, dim: int, *, is_whitened: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Mean (E,) and principal axes (D, E) of vectors (N, E), each over its spread where whitened;
    needs N of at least 2 D."""
    if len(raw) < 2 * dim:
        raise NotFitted(
            f"a PCA to {dim} dimensions needs at least {2 * dim} photos, not {len(raw)}: lower "
            "pca_dim or leave it out"
        )
    mean = raw.mean(axis=0)
    centred = raw - mean
    if len(raw) < raw.shape[1]:
        variances, inner = np.linalg.eigh(centred @ centred.T / len(raw))
        axes = (centred.T @ inner).T[::-1][:dim]
        axes = axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-12)
    else:
        variances, vectors = np.linalg.eigh(centred.T @ centred / len(raw))
        axes = vectors.T[::-1][:dim]
    if is_whitened:
        spread = np.sqrt(np.maximum(variances[::-1][:dim], 0))
        # A tiny floor keeps directions the sample never moved in from being blown up to noise.
        axes = axes / np.maximum(spread, 1e-3 * spread[0])[:, None]
    return mean, axes.astype(np.float32)


def fit_half_whitening(raw: np.ndarray, dim: int, *, prior: Prior | None = None) -> Whitening:
    """Mean (E,) and the `dim` principal axes (D, E) of vectors (N, E), each over the square root of
    its singular value.

    Fewer photos have fewer axes; the rest is zero, so that the numbers of a descriptor are always
    as many. A prior counts as `PRIOR_PHOTOS` photos more: few photos then have all axes, and photos
    that come later find theirs among them. Rows of zeros, of photos that show nothing, do not
    count.
    """
    raw = raw[raw.any(axis=1)]
    whole = np.zeros((dim, raw.shape[1]), np.float32)
    if prior is None:
        mean = raw.mean(axis=0, dtype=np.float64) if len(raw) else np.zeros(raw.shape[1])
        rows = raw - mean
    else:
        mean = (raw.sum(axis=0, dtype=np.float64) + PRIOR_PHOTOS * prior.mean) / (
            len(raw) + PRIOR_PHOTOS
        )
        rows = np.concatenate([raw - mean, np.sqrt(PRIOR_PHOTOS) * prior.spreads])
    if len(rows) < 2:
        return as_whitening(mean, whole)
    values, vectors = np.linalg.eigh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    values, vectors = values[::-1][:dim], vectors.T[::-1][:dim]
    kept = values > max(values[0], 1e-30) * _LEAST_SHARE**2
    axes = vectors[kept]
    if len(rows) < rows.shape[1]:
        axes = (axes @ rows) / np.sqrt(values[kept])[:, None]
    # Singular values are the roots of these; the axes are divided by roots of them again.
    whole[: len(axes)] = axes / values[kept, None] ** 0.25
    return as_whitening(mean, whole)


def complete_whitening(whitening: Whitening, *, num_photos: int, seed: int = 0) -> Whitening:
    """A half whitening whose zero axes are filled with random ones (Johnson, Lindenstrauss): photos
    that come later show in them.

    They are at right angles to the axes that were fitted, and as long as those of photos that share
    nothing with the fitted ones.
    """
    mean, axes = whitening
    num = int(axes.any(axis=1).sum())
    if num == len(axes):
        return whitening
    more = random_stream(seed, 2).normal(size=(len(axes) - num, axes.shape[1])) / np.sqrt(
        len(axes) - num
    )
    own = to_unit_length(axes[:num])
    more -= (more @ own.T) @ own
    return as_whitening(mean, np.concatenate([axes[:num], more * (num_photos + 1) ** -0.25]))


def half_whitened(raw: np.ndarray, state: Whitening) -> np.ndarray:
    """Vectors (N, E) as vectors (N, D) of unit length; zero stays zero."""
    mean, axes = state
    return np.asarray(
        to_unit_length((raw - mean) @ axes.T) * raw.any(axis=1, keepdims=True), np.float32
    )


def to_unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows (..., D) over their lengths; zero stays zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def as_whitening(mean: np.ndarray, axes: np.ndarray) -> Whitening:
    """A mean (E,) and axes (D, E) as float32."""
    return np.asarray(mean, np.float32), np.ascontiguousarray(axes, np.float32)


class Reduced(Descriptor):
    """A descriptor that needs no fitting itself, and a PCA after it: unit vectors of `pca_dim`
    dimensions.

    The Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022) leaves vectors after its
    PCA at their own length and compares by distance; here they are brought to unit length, as all
    descriptors are. Whitening divides each axis by its spread first, as with the published
    4096-dimensional NetVLAD. Until fitted, or loaded, `describe` raises `NotFitted`.
    """

    def __init__(self, descriptor: Descriptor, *, pca_dim: int, is_whitened: bool = False) -> None:
        if not 1 <= pca_dim <= descriptor.dim:
            raise BadOption(f"pca_dim must lie between 1 and {descriptor.dim}, not {pca_dim}")
        self.descriptor, self.pca_dim, self.is_whitened = descriptor, pca_dim, is_whitened
        self.dim, self.min_photos = pca_dim, 2 * pca_dim
        self.num_sample_photos = min(MAX_SAMPLE_PHOTOS, 8 * pca_dim)
        self.batch_size, self.least_side_px, self.network = (
            descriptor.batch_size,
            descriptor.least_side_px,
            descriptor.network,
        )
        self._pca: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def is_fitted(self) -> bool:  # type: ignore[override]
        return self._pca is not None

    @property
    def reading(self) -> Preprocessing | None:
        """Steps of a photo before `describe`: as the descriptor says."""
        return self.descriptor.reading

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that the descriptor's numbers depend on beside its weights."""
        return self.descriptor.settings

    def load_packaged(self) -> None:
        """Raises `NotFitted`: no PCA is packaged."""
        raise NotFitted(
            f"a PCA to {self.pca_dim} dimensions is fitted on at least {self.min_photos} photos: "
            "lower pca_dim"
        )

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        """Fit on uint8 images, a batch at a time. Raises `NotFitted` for too few."""
        found, batch = [], []
        for image in images:
            batch.append(image)
            if len(batch) == self.batch_size:
                found.append(self.descriptor.describe(batch))
                batch = []
        found += [self.descriptor.describe(rest) for rest in in_batches(batch, self.batch_size)]
        raw = np.concatenate(found) if found else np.empty((0, self.descriptor.dim), np.float32)
        self._pca = fit_pca(raw, self.pca_dim, is_whitened=self.is_whitened)

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length. Raises `NotFitted`."""
        return self.project(self.descriptor.describe(images))

    def project(self, raw: np.ndarray) -> np.ndarray:
        """Vectors (N, E) of the descriptor as vectors (N, D) of unit length. Raises `NotFitted`."""
        if self._pca is None:
            raise NotFitted("this PCA has not seen photos yet: fit it first")
        mean, axes = self._pca
        rows = (raw - mean) @ axes.T
        return np.asarray(
            rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32
        )

    def state(self) -> dict[str, np.ndarray]:
        """Arrays of the fitted state, by name. Raises `NotFitted`."""
        if self._pca is None:
            raise NotFitted("this PCA has not seen photos yet: fit it first")
        return {"pca_mean": self._pca[0], "pca_axes": self._pca[1]}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what another instance fitted. Raises `BadOption` where shapes do not fit the
        options."""
        expected = {
            "pca_mean": (self.descriptor.dim,),
            "pca_axes": (self.pca_dim, self.descriptor.dim),
        }
        for name, shape in expected.items():
            if name not in state or state[name].shape != shape:
                found = "nothing" if name not in state else f"shape {state[name].shape}"
                raise BadOption(
                    f"the fitted state's {name!r} should have shape {shape}, found {found}"
                )
        self._pca = (
            np.asarray(state["pca_mean"], np.float32),
            np.ascontiguousarray(state["pca_axes"], np.float32),
        )
