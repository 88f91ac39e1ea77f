"""Descriptors out of EfficientNet-Lite0 as it was trained on ImageNet: coarse grid, pooled vector,
and what was learned of streets.

The maps of blocks 10 and 12 (the first is 0) keep where things are and forget how they are lit. The
grid is each map averaged onto 3 x 4 cells of unit length; the vector is the generalised mean (p 3)
of block 12; both are as they come, nothing trained. The project's own network adds a third part: a
small head that learned on rendered streets what a place looks like from other points. Every part is
half whitened: centred on photos of the database, turned to their principal axes, each divided by
the square root of its singular value. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np

from whence.errors import BadOption, NotFitted, UnreadableWeights
from whence.models.cards.backbones import BACKBONES
from whence.models.checkpoints.origins import get_weights
from whence.models.checkpoints.plain import read_old_weights
from whence.models.engines.lite_graph import MULTIPLE_PX, OWN_OUTPUTS, lite0_graph, open_maps
from whence.models.engines.onnx_graph import Run, open_graph
from whence.models.pca import (
    Prior,
    Whitening,
    as_whitening,
    fit_half_whitening,
    half_whitened,
    to_unit_length,
)
from whence.models.remembered import Remembered
from whence.parts import Descriptor
from whence.registry import get_card
from whence.runtime import in_chunks

BLOCKS = (10, 12)
OWN = "whence-lite0-448"
NUM_ROWS, NUM_COLUMNS = 3, 4
RAW_DIMS = {"grid": NUM_ROWS * NUM_COLUMNS * (112 + 192), "gem": 192, "learned": 256}
"""Numbers of each part before they are whitened."""
_P = 3.0

Kind = Literal["grid", "gem", "both", "whence"]


class Share(NamedTuple):
    """A part of a descriptor: its numbers, and what its similarity counts."""

    dim: int
    weight: float = 1.0


SHARES: dict[Kind, dict[str, Share]] = {
    "grid": {"grid": Share(256)},
    "gem": {"gem": Share(192)},
    "both": {"grid": Share(256), "gem": Share(192)},
    "whence": {"grid": Share(160), "gem": Share(96), "learned": Share(192, 1.3)},
}


class LiteDescriptor(Descriptor):
    """The half-whitened parts of `SHARES` side by side, weighted, of unit length as a whole.

    The weights are read, or fetched, when the first photo is described. What was found on the
    photos it is fitted on is remembered, 16 kB of each, until they are described.
    """

    num_sample_photos = 2000
    min_photos = 1
    has_prior = True
    """Whether photos of rendered cities stand beside few photos of the database's own when the
    whitening is fitted."""

    def __init__(self, kind: Kind, *, weights: str | None = None) -> None:
        self.kind: Kind = kind
        self.parts: Mapping[str, Share] = SHARES[kind]
        self.dim = sum(share.dim for share in self.parts.values())
        self.length = float(np.sqrt(sum(share.weight**2 for share in self.parts.values())))
        """Of a descriptor whose parts are each of unit length, before the whole is brought to
        it."""
        self.state_bytes = sum(
            4 * RAW_DIMS[part] * (share.dim + 1) for part, share in self.parts.items()
        )
        self._weights = weights
        self._states: dict[str, Whitening] = {}
        self._remembered: Remembered[dict[str, np.ndarray]] = Remembered()

    @property
    def is_fitted(self) -> bool:  # type: ignore[override]
        return len(self._states) == len(self.parts)

    @cached_property
    def maps(self) -> Run:
        """A function that makes the maps of both blocks, and of the project's own network what it
        learned.

        Raises as `get_weights`, and `UnreadableWeights` for another network's file.
        """
        if self.kind == "whence":
            return open_own(self._weights)
        file = get_weights(BACKBONES["efficientnet_lite0"], weights=self._weights)[0]
        try:
            return open_maps(lite0_graph(read_old_weights(file), BLOCKS), BLOCKS)
        except KeyError as error:
            raise UnreadableWeights(
                file, f"it is no EfficientNet-Lite0: {error} is missing"
            ) from None

    def describe(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length. Raises `NotFitted`, and as `maps`."""
        self.require_fitted()
        known = [self._remembered.take(image) for image in images]
        new = [i for i, one in enumerate(known) if one is None]
        raw = {part: np.zeros((len(images), RAW_DIMS[part]), np.float32) for part in self.parts}
        for part, rows in self.raw([images[i] for i in new]).items():
            raw[part][new] = rows
            for i, one in enumerate(known):
                if one is not None:
                    raw[part][i] = one[part]
        return self.whitened(raw)

    def require_fitted(self) -> None:
        """Raises `NotFitted`, before a photo is looked at or weights are fetched in vain."""
        if not self.is_fitted:
            raise NotFitted(
                "this descriptor has not seen photos yet: fit it first, or load the packaged state"
            )

    def whitened(self, raw: Mapping[str, np.ndarray]) -> np.ndarray:
        """Descriptors (N, D) float32 of what `raw` gave, once it is fitted."""
        found = np.hstack(
            [
                share.weight * half_whitened(raw[part], self._states[part])
                for part, share in self.parts.items()
            ]
        )
        return np.asarray(to_unit_length(found), np.float32)

    def raw(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Vectors that are whitened then, by part: (N, E) float32 of unit length."""
        found = {part: np.zeros((len(images), RAW_DIMS[part]), np.float32) for part in self.parts}
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(_network_size(image), []).append(i)
        for size, rows in by_size.items():
            maps = self.maps(np.stack([_pixels(images[i], size) for i in rows]))
            for part in self.parts:
                found[part][rows] = _PARTS[part](maps)
        return found

    def fit(self, images: Iterable[np.ndarray], *, seed: int) -> None:
        """Fit the whitening on a stream of uint8 images. Raises `NotFitted` for no photos."""
        self._remembered.clear()
        raws = []
        for batch in in_chunks(images, self.batch_size):
            raws.append(self.raw(batch))
            for i, image in enumerate(batch):
                self._remembered.put(image, {part: rows[i] for part, rows in raws[-1].items()})
        self.fit_raw(raws)

    def fit_raw(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Fit the whitening on what `raw` gave, batch by batch. Raises `NotFitted` for no
        photos."""
        if not batches:
            raise NotFitted("a whitening is fitted on at least one photo")
        self._states = {
            part: fit_half_whitening(
                np.concatenate([batch[part] for batch in batches]),
                share.dim,
                prior=packaged_prior(part) if self.has_prior else None,
            )
            for part, share in self.parts.items()
        }

    def load_packaged(self) -> None:
        """Take the whitening that comes with Whence, of photos of rendered cities."""
        self._remembered.clear()
        self._states = {
            part: fit_half_whitening(
                np.zeros((0, RAW_DIMS[part])), share.dim, prior=packaged_prior(part)
            )
            for part, share in self.parts.items()
        }

    def state(self) -> dict[str, np.ndarray]:
        """Arrays of the fitted state. Raises `NotFitted`."""
        if not self.is_fitted:
            raise NotFitted("this descriptor has not seen photos yet: fit it first")
        return {
            f"{part}_{name}": self._states[part][i]
            for part in self.parts
            for i, name in enumerate(("mean", "axes"))
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what another instance fitted. Raises `BadOption` where shapes do not fit."""
        self._remembered.clear()
        for part, share in self.parts.items():
            for name, shape in (("mean", (RAW_DIMS[part],)), ("axes", (share.dim, RAW_DIMS[part]))):
                found = state.get(f"{part}_{name}")
                if found is None or found.shape != shape:
                    had = "nothing" if found is None else f"shape {found.shape}"
                    raise BadOption(
                        f"the fitted state's '{part}_{name}' should have shape {shape}, found {had}"
                    )
        self._states = {
            part: as_whitening(state[f"{part}_mean"], state[f"{part}_axes"]) for part in self.parts
        }


def open_lite(kind: Kind, *, weights: str | None = None) -> LiteDescriptor:
    """The descriptor of this kind; `weights` names a file of EfficientNet-Lite0 to take in place of
    the cache's."""
    return LiteDescriptor(kind, weights=weights)


def grid(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Maps (N, C, h, w) each averaged onto 3 x 4 cells of unit length, of unit length as a whole,
    side by side: (N, E)."""
    rows = [to_unit_length(to_unit_length(_averaged(one)).reshape(len(one), -1)) for one in maps]
    return np.hstack(rows)


def generalised_mean(one: np.ndarray) -> np.ndarray:
    """The mean of a map's (N, C, h, w) cubes, its cube root, of unit length: (N, C)."""
    return to_unit_length((np.maximum(one, 1e-6) ** _P).mean(axis=(2, 3)) ** (1 / _P))


def _network_size(image: np.ndarray) -> tuple[int, int]:
    """Height and width that the network takes nearest to an image's own."""
    height, width = (MULTIPLE_PX * max(1, round(side / MULTIPLE_PX)) for side in image.shape[:2])
    return height, width


def _pixels(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A uint8 image (H, W, 3) in this size, as the network takes it: (3, H, W) float32, (x - 127) /
    128."""
    if image.shape[:2] != size:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1))


def _averaged(one: np.ndarray) -> np.ndarray:
    """A map (N, C, h, w) as the means of 3 x 4 cells (N, 12, C); where sides do not divide,
    neighbouring cells share positions."""
    height, width = one.shape[2:]
    cells = [
        one[
            :,
            :,
            row * height // NUM_ROWS : _end(row, height, NUM_ROWS),
            column * width // NUM_COLUMNS : _end(column, width, NUM_COLUMNS),
        ]
        for row in range(NUM_ROWS)
        for column in range(NUM_COLUMNS)
    ]
    return np.stack([cell.mean(axis=(2, 3)) for cell in cells], axis=1)


def _end(index: int, side: int, count: int) -> int:
    return -(-(index + 1) * side // count)


_PARTS: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "grid": lambda maps: grid(maps[:2]),
    "gem": lambda maps: generalised_mean(maps[1]),
    "learned": lambda maps: to_unit_length(maps[2].reshape(len(maps[2]), -1)),
}


def open_own(weights: str | Path | None = None) -> Run:
    """A function that makes the maps of both blocks and the learned vector (B, 256, 1, 1), out of
    the network that comes with Whence.

    `weights` is another file of that kind. Raises as `get_weights`, and `UnreadableWeights` for a
    file that is none.
    """
    file = get_weights(get_card(OWN), weights=weights)[0]
    try:
        return open_graph(Path(file).read_bytes(), OWN_OUTPUTS)
    except Exception as error:  # Both engines have errors of their own.
        raise UnreadableWeights(file, f"no network of this kind: {str(error)[:200]}") from None


@lru_cache(maxsize=3)
def packaged_prior(part: str) -> Prior:
    """The statistics of a part on photos of rendered cities."""
    file = resources.files("whence.models").joinpath("vocabularies", f"lite0-{part}.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return Prior(arrays["mean"].astype(np.float32), arrays["spreads"].astype(np.float32))
