"""Re-ranking by GeoWarp: what a photo keeps, how candidates are compared with a query, and what is drawn of it.

Each photo passes the backbone once, when it is prepared. A pair then costs the regressor in both orders, and its read-out:

- `exact`: both quadrilaterals are cut out of the photos at full size and pass the backbone, as published, without the
  originals passing again.
- `half`: the same from photos of half the size.
- `features`: the quadrilaterals are cut out of the backbone's maps; nothing passes the backbone.
- `hybrid`: `features` for all candidates, then `exact` for the best few, which come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from whence.data.images import shrink_smoothly
from whence.data.pictures import WarpedPair
from whence.errors import BadOption
from whence.models.checkpoints.files import fill_module, weights_digest
from whence.models.checkpoints.origins import get_weights
from whence.models.warp.geometry import Sampling, frame, homography_to, into_quad, is_sound, map_points
from whence.models.warp.model import GeoWarp, Quads, Regressor, cell_similarities, pool_cells
from whence.models.warp.readouts import DenseMap, Storage, cells_of_images, cells_of_maps, dense_maps, normalised
from whence.models.zoo import named_network
from whence.registry import get_card
from whence.runtime import in_chunks
from whence.types import Arrays, PairEvidence

Readout = Literal["exact", "half", "features", "hybrid"]
Computing = Literal["float32", "bfloat16"]
Sides = Literal["both", "query", "none"]
T = TypeVar("T")

CHUNK = 8
"""Candidates compared together; on a CPU larger chunks leave its cache."""


@dataclass(frozen=True, slots=True)
class WarpOptions:
    """How photos are kept and compared."""

    readout: Readout = "features"
    long_side_px: int = 640
    """Larger photos are shrunk to it, and all brought to the nearest size the backbone takes."""
    storage: Storage = "float16"
    """How maps and cells are kept: float16, or int8 at half the size."""
    num_exact: int = 5
    """Candidates that `hybrid` reads out of the pixels."""
    dtype: Computing = "float32"
    """What the backbone computes in; bfloat16 is faster on processors made for it."""
    sides: Sides = "both"
    """What is warped: both photos, the query alone onto the candidate, or neither; the last two are for comparison."""

    def __post_init__(self) -> None:
        for name, known in (("readout", Readout), ("storage", Storage), ("dtype", Computing), ("sides", Sides)):
            if getattr(self, name) not in get_args(known):
                raise BadOption(f"{name} is one of {', '.join(get_args(known))}, not {getattr(self, name)!r}")
        if self.long_side_px < 64 or self.num_exact < 1:
            raise BadOption("GeoWarp needs photos of at least 64 pixels and at least one candidate for the exact read-out")


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """One photo as the scorer uses it."""

    local: Tensor
    """(1, C, h, w) local descriptors of its cells."""
    map: DenseMap | None
    pixels: np.ndarray | None


class GeoWarpScorer:
    """Scores candidates by how alike they are to the query once both are seen from one viewpoint. A `PairScorer`."""

    def __init__(self, model: GeoWarp, *, options: WarpOptions | None = None) -> None:
        self.model = model.eval().to(memory_format=torch.channels_last)
        self.options = options or WarpOptions()
        self._device = next(model.parameters()).device

    @cached_property
    def key(self) -> str:
        """Before the slash what the kept arrays depend on, after it what else the similarities do."""
        o = self.options
        kept = {"exact": "pixels", "half": "halves", "features": "maps", "hybrid": "maps-pixels"}[o.readout]
        rows, columns = self.model.grid
        backbone = f"{self.model.backbone.name}-{weights_digest(self.model.backbone)}"
        arrays = f"{backbone}-{rows}x{columns}-{o.long_side_px}px-{kept}-{o.storage}"
        few = f"-{o.num_exact}" if o.readout == "hybrid" else ""
        sides = "" if o.sides == "both" else f"-{o.sides}"
        return f"{arrays}-{o.dtype}/{weights_digest(self.model.regressor)}-{o.readout}{few}-{self.model.sampling}{sides}"

    @torch.inference_mode()
    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What is kept of a uint8 image (H, W, 3): cells and pixels, or the backbone's map, as the read-out needs."""
        o = self.options
        image = shrink_smoothly(image, self._fitting_size(image, o.long_side_px))
        pixels = normalised(self.model, image[None])
        maps = dense_maps(self.model, pixels, is_bfloat16=o.dtype == "bfloat16")
        arrays: dict[str, np.ndarray] = {}
        if o.readout in ("features", "hybrid"):
            arrays |= DenseMap.of(maps[0], storage=o.storage).to_arrays("map")
        else:
            arrays |= DenseMap.of(pool_cells(maps, grid=self.model.grid)[0], storage=o.storage).to_arrays("local")
        if o.readout == "half":
            arrays["pixels"] = shrink_smoothly(image, self._fitting_size(image, max(image.shape) // 2))
        elif o.readout != "features":
            arrays["pixels"] = image
        return arrays

    def score(self, query: Arrays, candidates: Iterable[Arrays | None]) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, made chunk by chunk. Similarities are sums over the cells, at most their number.

        In `hybrid` the few that are read exactly get twice the number of cells on top, so that they stay first.
        """
        asked = self._unpack(query)
        if self.options.readout == "hybrid":
            yield from self._score_hybrid(asked, list(candidates))
            return
        for chunk in in_chunks(candidates, CHUNK):
            yield from self._score_chunk(asked, chunk)

    def compare(self, image0: np.ndarray, image1: np.ndarray) -> WarpedPair:
        """The quadrilaterals and the similar cells of two uint8 images (H, W, 3), for looking at."""
        first, second = (self._unpack(self.prepare(image)) for image in (image0, image1))
        with torch.inference_mode():
            quads, cells = self._compare(first, [second], exact=self.options.readout != "features")
            whole = cell_similarities(first.local, second.local).sum()
        quad0, quad1 = (quad[0].cpu().double().numpy() for quad in quads)
        return WarpedPair(quad0, quad1, cells[0].cpu().numpy(), float(whole))

    def _score_chunk(
        self, asked: _Prepared, chunk: Sequence[Arrays | None], *, exact: bool | None = None
    ) -> Iterator[PairEvidence | None]:
        exact = self.options.readout in ("exact", "half") if exact is None else exact
        with torch.inference_mode():
            known = [self._unpack(arrays) for arrays in chunk if arrays is not None]
            values = iter(self._compare(asked, known, exact=exact)[1].sum(dim=(1, 2)).tolist() if known else ())
        return (None if arrays is None else PairEvidence(next(values), num_inliers=None) for arrays in chunk)

    def _score_hybrid(self, asked: _Prepared, candidates: Sequence[Arrays | None]) -> Iterator[PairEvidence | None]:
        found = [one for chunk in in_chunks(candidates, CHUNK) for one in self._score_chunk(asked, chunk)]
        readable = [i for i, one in enumerate(found) if one is not None]
        best = sorted(readable, key=lambda i: -_similarity(found[i]))[: self.options.num_exact]
        head_start = 2.0 * self.model.grid[0] * self.model.grid[1]
        for rows in in_chunks(best, CHUNK):
            for i, one in zip(rows, self._score_chunk(asked, [candidates[i] for i in rows], exact=True), strict=True):
                found[i] = PairEvidence(_similarity(one) + head_start, num_inliers=None)
        yield from found

    def _compare(self, asked: _Prepared, others: Sequence[_Prepared], *, exact: bool) -> tuple[Quads, Tensor]:
        """Quadrilaterals, and the similarities of cells (B, h, w), of one image with others."""
        found = self.model.predict(asked.local, torch.cat([one.local for one in others]))
        quads = sound_pairs(on_sides(found, self.options.sides))
        both = torch.cat(quads)
        if exact:
            images = [one.pixels for one in (*[asked] * len(others), *others) if one.pixels is not None]
            cells = cells_of_images(self.model, images, both, is_bfloat16=self.options.dtype == "bfloat16")
        else:
            maps = [one.map for one in (asked, *others) if one.map is not None]
            owners = torch.arange(1, len(maps), device=both.device)
            cells = cells_of_maps(maps, torch.cat([torch.zeros_like(owners), owners]), both, grid=self.model.grid)
        return quads, cell_similarities(*cells.chunk(2))

    def _unpack(self, arrays: Arrays) -> _Prepared:
        """The prepared photo that `prepare` packed."""
        pixels = arrays.get("pixels")
        if "map" in arrays:
            dense = DenseMap.from_arrays(arrays, "map", device=self._device)
            return _Prepared(pool_cells(dense.map, grid=self.model.grid), dense, pixels)
        return _Prepared(DenseMap.from_arrays(arrays, "local", device=self._device).map, None, pixels)

    def _fitting_size(self, image: np.ndarray, long_side_px: int) -> tuple[int, int]:
        """Width and height of the image no longer than asked, or the nearest that the backbone takes."""
        height, width = image.shape[:2]
        scale = min(1.0, long_side_px / max(height, width))
        rows, columns = self.model.backbone.size_rule.nearest(round(height * scale), round(width * scale))
        return columns, rows


def sound_pairs(quads: Quads) -> Quads:
    """The quadrilaterals, both images whole where either quadrilateral of a pair cannot be warped."""
    keep = (is_sound(quads.first) & is_sound(quads.second))[:, None, None]
    return Quads(*(torch.where(keep, side, frame(like=side)) for side in quads))


def on_sides(quads: Quads, sides: Sides) -> Quads:
    """The quadrilaterals, or, where not both photos are warped, others that show the same with the second photo left whole."""
    whole = frame(like=quads.first).expand_as(quads.first)
    if sides == "both":
        return quads
    if sides == "none":
        return Quads(whole, whole)
    # Where the second photo's corners lie on the first: out of the second's quadrilateral, into the first's.
    return Quads(map_points(homography_to(quads.first), into_quad(whole, quads.second)), whole)


def load_regressor(regressor: Regressor, path: str | Path) -> None:
    """Fill the regressor from a file of weights: every tensor, none left over or missing, after an optional `module.`.

    Raises `UnreadableWeights`, and `WeightsMismatch` that lists what does not fit.
    """
    fill_module(regressor, path, what="a GeoWarp regressor")


def open_geowarp(
    name: str,
    made_for: str,
    *,
    weights: str = "",
    model: str = "",
    model_weights: str = "",
    sampling: str = "",
    readout: Readout = "features",
    long_side_px: int = 640,
    storage: Storage = "float16",
    num_exact: int = 5,
    dtype: Computing = "float32",
    sides: Sides = "both",
    device: str = "cpu",
) -> GeoWarpScorer:
    """The scorer of this name, with its own weights or others.

    `weights` is a file with a regressor, in place of the scorer's own. `model` names the network whose backbone it was trained
    for, or a safetensors file with a card, `made_for` without; `model_weights` is a file with that network's weights. Where neither
    side is warped another network needs no regressor.
    `sampling` is "legacy" for a published pair by default, else "exact". Raises as `whence.models.zoo.load_network`.
    """
    options = WarpOptions(readout, long_side_px, storage, num_exact, dtype, sides)
    if sampling not in ("", *get_args(Sampling)):
        raise BadOption(f"sampling is exact or legacy, not {sampling!r}")
    is_own = not (model or weights)
    if model and not weights and sides != "none":
        raise BadOption(f"a regressor serves the backbone it was trained for only: name the one for {model} as weights=FILE")
    is_legacy = sampling == "legacy" or not (sampling or weights)
    file = get_weights(get_card(name, kind="scorer"), weights=weights or None)[0] if weights or is_own else None
    network = named_network(model or made_for, weights=model_weights or None)
    warping = GeoWarp(network.backbone, sampling="legacy" if is_legacy else "exact")
    if file is not None:
        load_regressor(warping.regressor, file)
    return GeoWarpScorer(warping.to(device), options=options)


def _similarity(evidence: PairEvidence | None) -> float:
    return -np.inf if evidence is None else evidence.similarity
