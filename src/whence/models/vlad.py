"""VLAD: one vector per image from its local descriptors, without a network.

For each visual word, the sum of the differences between the local descriptors nearest to it and the
word itself (Jegou et al., CVPR 2010), each difference brought to unit length first (Delhumeau et
al., ACM Multimedia 2013), then each word's block (intra-normalisation, Arandjelovic and Zisserman,
CVPR 2013), then the whole.
`rootsift-vlad` pools RootSIFT at detected keypoints; `densevlad` pools a dense grid, after
DenseVLAD (Torii et al., CVPR 2015).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import resources

import numpy as np

from whence.errors import BadOption, NotFitted
from whence.models.local.sift import SIFT_DIM, DenseRootSift, LocalDescriptors, RootSift
from whence.models.pca import (
    Whitening,
    complete_whitening,
    fit_half_whitening,
    fit_pca,
    half_whitened,
    to_unit_length,
)
from whence.parts import Descriptor, Extractor
from whence.runtime import map_threads, random_stream, threads

MAX_SAMPLE_DESCRIPTORS = 200_000
"""Local descriptors the vocabulary is fitted on at most (100 MB)."""
MIN_PHOTOS = 100
"""A vocabulary is fitted on at least so many."""
MIN_SAMPLE_DESCRIPTORS_PER_WORD = 39
"""Below this, k-means words are noise (the bound faiss warns at)."""


class Vlad(Descriptor):
    """VLAD over an extractor's RootSIFT, with an optional PCA whitening to `pca_dim` dimensions.

    `has_power_law` replaces every value by its signed root before the last normalisation (Jegou et
    al., PAMI 2012), which damps the many equal patches of a dense grid.

    The vocabulary (and the PCA) is fitted on images of the database, or loaded; until then
    `describe` raises `NotFitted`. Half whitening (`is_half_whitened`) takes any number of images:
    what they cannot say comes with Whence, or is drawn.
    """

    local: Extractor

    def __init__(
        self,
        *,
        extractor: Extractor,
        num_words: int = 64,
        pca_dim: int | None = None,
        is_half_whitened: bool = False,
        packaged: str = "",
        has_power_law: bool = False,
    ) -> None:
        if num_words < 2:
            raise BadOption(f"a vocabulary needs at least 2 words, not {num_words}")
        if pca_dim is not None and not 1 <= pca_dim <= num_words * SIFT_DIM:
            raise BadOption(f"pca_dim must lie between 1 and {num_words * SIFT_DIM}, not {pca_dim}")
        self.local = extractor
        self.num_words = num_words
        self.pca_dim = pca_dim
        self.packaged = packaged
        self.has_power_law = has_power_law
        self.dim = pca_dim or num_words * SIFT_DIM
        self.is_half_whitened = is_half_whitened
        raw_dim, size = num_words * SIFT_DIM, 2 if is_half_whitened else 4
        self.state_bytes = 4 * raw_dim + (0 if pca_dim is None else raw_dim * (size * pca_dim + 4))
        # Enough for a vocabulary, and for a PCA at least twice its dimension. With half whitening
        # any number will do.
        self.min_photos = 1 if is_half_whitened else max(MIN_PHOTOS, 2 * (pca_dim or 0))
        self._words: np.ndarray | None = None
        self._pca: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def is_fitted(self) -> bool:  # type: ignore[override]
        return self._words is not None and (self.pca_dim is None or self._pca is not None)

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        """Fit vocabulary and PCA on a stream of uint8 images. The same images in the same order
        give the same state.

        Of each image an even share of `MAX_SAMPLE_DESCRIPTORS` is kept, so memory does not grow
        with the number of images.
        """
        self.fit_local(map_threads(self.local.extract, images), seed=seed)

    def fit_local(self, photos: Iterable[LocalDescriptors], *, seed: int) -> None:
        """The same from what the extractor found on each image."""
        sample, pooled = _Reservoir(MAX_SAMPLE_DESCRIPTORS, seed), []
        for local in photos:
            sample.add(local.descriptors)
            if self.pca_dim is not None:
                pooled.append(local.without_descriptors())
        self._words = self._words_of(sample.rows(), num_photos=len(pooled), seed=seed)
        if self.pca_dim is not None:
            raw = np.stack([self._pool(local.with_descriptors().descriptors) for local in pooled])
            self._pca = self._fit_half(raw) if self.is_half_whitened else fit_pca(raw, self.pca_dim)

    def _words_of(self, rows: np.ndarray, *, num_photos: int, seed: int) -> np.ndarray:
        """Visual words of a sample; with half whitening those that come with Whence where that is
        too small."""
        is_small = (
            num_photos < MIN_PHOTOS or len(rows) < MIN_SAMPLE_DESCRIPTORS_PER_WORD * self.num_words
        )
        if self.is_half_whitened and self.packaged and is_small:
            return _packaged_words(self.packaged)
        return k_means(rows, self.num_words, seed=seed)

    def _fit_half(self, raw: np.ndarray) -> Whitening:
        assert self.pca_dim is not None
        mean, axes = complete_whitening(fit_half_whitening(raw, self.pca_dim), num_photos=len(raw))
        # Kept as float16, which halves what a small database takes; used as kept.
        return mean, axes.astype(np.float16).astype(np.float32)

    def load_packaged(self) -> None:
        """Use the vocabulary that comes with Whence. Raises `BadOption` where none fits these
        options."""
        if (
            not self.packaged
            or self.num_words != 64
            or (self.pca_dim is not None and not self.is_half_whitened)
        ):
            raise BadOption(
                "a packaged vocabulary exists for 64 words without PCA; fit on at least 100 "
                "photos for anything else"
            )
        self._words = _packaged_words(self.packaged)
        if self.is_half_whitened:
            self._pca = self._fit_half(np.zeros((0, self.num_words * SIFT_DIM), np.float32))

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of uint8 images: unit length, zero where an image has no local
        descriptors."""
        if not len(images):
            return np.zeros((0, self.dim), np.float32)
        return np.stack([self.pool(local) for local in map_threads(self.local.extract, images)])

    def pool(self, local: LocalDescriptors) -> np.ndarray:
        """The descriptor (D,) of one image's local descriptors."""
        return self._project(self._pool(local.descriptors))

    def state(self) -> dict[str, np.ndarray]:
        """Arrays of the fitted state, by name."""
        if self._words is None:
            raise NotFitted("this VLAD has no vocabulary yet: fit it on photos first")
        state = {"words": self._words}
        if self._pca is not None:
            mean, axes = self._pca
            state |= {
                "pca_mean": mean,
                "pca_axes": axes.astype(np.float16) if self.is_half_whitened else axes,
            }
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what another instance fitted. Raises `BadOption` where shapes do not fit the
        options."""
        expected: dict[str, tuple[int, ...]] = {"words": (self.num_words, SIFT_DIM)}
        if self.pca_dim is not None:
            expected |= {
                "pca_mean": (self.num_words * SIFT_DIM,),
                "pca_axes": (self.pca_dim, self.num_words * SIFT_DIM),
            }
        for name, shape in expected.items():
            if name not in state or state[name].shape != shape:
                found = "nothing" if name not in state else f"shape {state[name].shape}"
                raise BadOption(
                    f"the fitted state's {name!r} should have shape {shape}, found {found}"
                )
        self._words = np.ascontiguousarray(state["words"], np.float32)
        if self.pca_dim is not None:
            self._pca = (
                np.asarray(state["pca_mean"], np.float32),
                np.ascontiguousarray(state["pca_axes"], np.float32),
            )

    def _pool(self, descriptors: np.ndarray) -> np.ndarray:
        if self._words is None:
            raise NotFitted(
                "this VLAD has no vocabulary yet: fit it on photos, or load the packaged one"
            )
        words = self._words
        sums = np.zeros_like(words)
        if len(descriptors):
            nearest = np.argmax(
                descriptors @ words.T - 0.5 * np.einsum("kd,kd->k", words, words), axis=1
            )
            # One sorted reduction instead of a scattered add: the same sums, ten times faster.
            order = np.argsort(nearest, kind="stable")
            present, starts = np.unique(nearest[order], return_index=True)
            residuals = to_unit_length(descriptors[order] - words[nearest[order]])
            sums[present] = np.add.reduceat(residuals, starts, axis=0)
        blocks = to_unit_length(sums)
        if self.has_power_law:
            blocks = np.sign(blocks) * np.sqrt(np.abs(blocks))
        return to_unit_length(blocks.reshape(1, -1))[0]

    def _project(self, raw: np.ndarray) -> np.ndarray:
        if self.pca_dim is None:
            return raw
        if self._pca is None:
            raise NotFitted("this VLAD has no PCA yet: fit it on photos first")
        if self.is_half_whitened:
            return half_whitened(raw[None], self._pca)[0]
        mean, axes = self._pca
        return to_unit_length(axes @ (raw - mean))


def rootsift_vlad(
    *,
    num_words: int = 64,
    pca_dim: int | None = None,
    max_keypoints: int = 2000,
    is_upright: bool = True,
) -> Vlad:
    """The model `rootsift-vlad`: for photos with detail enough for keypoints."""
    extractor = RootSift(max_keypoints=max_keypoints, is_upright=is_upright)
    return Vlad(extractor=extractor, num_words=num_words, pca_dim=pca_dim, packaged="rootsift-vlad")


def dense_vlad(
    *,
    num_words: int = 64,
    pca_dim: int | None = None,
    step_px: int = 8,
    sizes_px: Sequence[int] = (16, 24, 32, 48),
) -> Vlad:
    """The model `densevlad`: for small or dark photos, where keypoints are few."""
    extractor = DenseRootSift(step_px=step_px, sizes_px=tuple(sizes_px))
    return Vlad(
        extractor=extractor,
        num_words=num_words,
        pca_dim=pca_dim,
        packaged="densevlad",
        has_power_law=True,
    )


class _Reservoir:
    """A uniform sample of at most `size` rows of a stream, the same for the same stream and
    seed."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.random = random_stream(seed, 1)
        self.keys = np.zeros(0)
        self.sample = np.zeros((0, SIFT_DIM), np.float32)

    def add(self, rows: np.ndarray) -> None:
        keys = np.concatenate([self.keys, self.random.random(len(rows))])
        kept = np.concatenate([self.sample, rows])
        if len(keys) > 2 * self.size:
            keys, kept = self._smallest(keys, kept)
        self.keys, self.sample = keys, kept

    def _smallest(self, keys: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(keys, kind="stable")[: self.size]
        return keys[order], rows[order]

    def rows(self) -> np.ndarray:
        return self._smallest(self.keys, self.sample)[1]


def k_means(
    rows: np.ndarray,
    num_words: int,
    *,
    seed: int,
    num_iterations: int = 20,
    is_spherical: bool = False,
) -> np.ndarray:
    """Visual words (K, C): k-means of local descriptors (M, C), by cosine to unit words where
    spherical.

    Raises `NotFitted` for fewer than 39 descriptors per word.
    """
    if len(rows) < MIN_SAMPLE_DESCRIPTORS_PER_WORD * num_words:
        raise NotFitted(
            f"the photos hold {len(rows)} local descriptors, too few for {num_words} words "
            f"({MIN_SAMPLE_DESCRIPTORS_PER_WORD * num_words} are needed): use the packaged "
            "vocabulary or more photos"
        )
    import faiss

    fitted = faiss.Kmeans(
        rows.shape[1],
        num_words,
        niter=num_iterations,
        seed=seed + 1,
        max_points_per_centroid=10**9,
        spherical=is_spherical,
    )
    # On a busy machine the threads of faiss wait for each other by spinning; one is as fast and far
    # cheaper for so little work.
    with threads(1):
        fitted.train(np.ascontiguousarray(rows, np.float32))
    return np.ascontiguousarray(fitted.centroids, np.float32)


@lru_cache(maxsize=8)
def _packaged_words(name: str) -> np.ndarray:
    file = resources.files("whence.models").joinpath("vocabularies", f"{name}.npz")
    if not file.is_file():
        raise NotFitted(f"no packaged vocabulary for {name!r}")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return np.ascontiguousarray(arrays["words"], np.float32)
