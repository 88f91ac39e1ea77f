"""Re-ranking by GeoWarp: what a photo keeps, how candidates are compared with a query, and what is
drawn of it. No torch here.

Each photo passes the backbone once, when it is prepared. A pair then costs the regressor in both
orders, and its read-out:

- `exact`: both quadrilaterals are cut out of the photos at full size and pass the backbone, as
  published, without the originals passing again.
- `half`: the same from photos of half the size.
- `features`: the quadrilaterals are cut out of the backbone's maps; nothing passes the backbone.
- `hybrid`: `features` for all candidates, then `exact` for the best few, which come first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from whence.data.images import shrink_smoothly
from whence.data.pictures import WarpedPair
from whence.errors import BadOption
from whence.models.warp.cells import DenseMap, Storage, pool_cells, read_cells, rows_of
from whence.models.warp.engines import WarpEngine
from whence.models.warp.quads import Quads, Sides, on_sides, sound_pairs
from whence.runtime import in_chunks
from whence.types import Arrays, PairEvidence

Readout = Literal["exact", "half", "features", "hybrid"]

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
    sides: Sides = "both"
    """What is warped: both photos, the query alone onto the candidate, or neither; the last two are
    for comparison."""
    enlarge: bool = False
    """Whether smaller photos are enlarged to `long_side_px`, so that thumbnails have as many
    positions to compare."""
    margin: float = 0.0
    """What the first candidate is given on top of its similarity: its place is taken only by one
    that is more alike by that."""

    def __post_init__(self) -> None:
        for name, known in (("readout", Readout), ("storage", Storage), ("sides", Sides)):
            if getattr(self, name) not in get_args(known):
                raise BadOption(
                    f"{name} is one of {', '.join(get_args(known))}, not {getattr(self, name)!r}"
                )
        if self.long_side_px < 64 or self.num_exact < 1 or not 0 <= self.margin < np.inf:
            raise BadOption(
                "GeoWarp needs photos of at least 64 pixels, at least one candidate for the exact "
                "read-out, and no margin below 0"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """One photo as the scorer uses it."""

    cells: np.ndarray
    """(h w, C) of unit length."""
    rows: np.ndarray | None
    """(H W, C) float32, its map; None where its pixels are compared."""
    size: tuple[int, int]
    """Rows and columns of the map."""
    pixels: np.ndarray | None


class GeoWarpScorer:
    """Scores candidates by how alike they are to the query once both are seen from one viewpoint. A
    `PairScorer`."""

    def __init__(self, engine: WarpEngine, *, options: WarpOptions | None = None) -> None:
        self.engine = engine
        self.options = options or WarpOptions()

    @cached_property
    def key(self) -> str:
        """Before the slash what the kept arrays depend on, after it what else the similarities
        do."""
        o = self.options
        kept = {"exact": "pixels", "half": "halves", "features": "maps", "hybrid": "maps-pixels"}[
            o.readout
        ]
        rows, columns = self.engine.grid
        size = f"{o.long_side_px}px{'-enlarged' if o.enlarge else ''}"
        few = f"-{o.num_exact}" if o.readout == "hybrid" else ""
        sides = ("" if o.sides == "both" else f"-{o.sides}") + (
            f"-{o.margin:g}ahead" if o.margin else ""
        )
        arrays = f"{self.engine.backbone_key}-{rows}x{columns}-{size}-{kept}-{o.storage}"
        return f"{arrays}/{self.engine.regressor_key}-{o.readout}{few}{sides}"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays kept of a uint8 image (H, W, 3): cells and pixels, or the backbone's map, as the
        read-out needs."""
        o = self.options
        image = shrink_smoothly(image, self._fitting_size(image, o.long_side_px))
        found = self.engine.maps(image[None])[0]
        rows, size = rows_of(found), (found.shape[1], found.shape[2])
        arrays: dict[str, np.ndarray] = {}
        if o.readout in ("features", "hybrid"):
            arrays |= DenseMap.of(rows, size, storage=o.storage).to_arrays("map")
        else:
            grid = self.engine.grid
            arrays |= DenseMap.of(
                pool_cells(rows, size, grid=grid), grid, storage=o.storage
            ).to_arrays("local")
        if o.readout == "half":
            arrays["pixels"] = shrink_smoothly(
                image, self._fitting_size(image, max(image.shape) // 2, enlarge=False)
            )
        elif o.readout != "features":
            arrays["pixels"] = image
        return arrays

    def score(
        self, query: Arrays, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        """One record per candidate, in order, made chunk by chunk. Similarities are sums over the
        cells, at most their number.

        The first candidate has the margin on top. In `hybrid` the few that are read exactly get
        twice the number of cells on top, so that they stay first.
        """
        found = self._score(self._unpack(query), candidates)
        for first in itertools.islice(found, 1):
            yield (
                None
                if first is None
                else replace(first, similarity=first.similarity + self.options.margin)
            )
        yield from found

    def _score(
        self, query: _Prepared, candidates: Iterable[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        if self.options.readout == "hybrid":
            yield from self._score_hybrid(query, list(candidates))
            return
        for chunk in in_chunks(candidates, CHUNK):
            yield from self._score_chunk(query, chunk)

    def compare(self, image0: np.ndarray, image1: np.ndarray) -> WarpedPair:
        """The quadrilaterals and the similar cells of two uint8 images (H, W, 3), for looking
        at."""
        first, second = (self._unpack(self.prepare(image)) for image in (image0, image1))
        quads, cells = self._compare(first, [second], exact=self.options.readout != "features")
        whole = float(np.einsum("nc,nc->", first.cells, second.cells))
        quad0, quad1 = (quad[0].astype(np.float64) for quad in quads)
        return WarpedPair(quad0, quad1, cells[0].reshape(self.engine.grid), whole)

    def _score_chunk(
        self, query: _Prepared, chunk: Sequence[Arrays | None], *, exact: bool | None = None
    ) -> Iterator[PairEvidence | None]:
        exact = self.options.readout in ("exact", "half") if exact is None else exact
        known = [self._unpack(arrays) for arrays in chunk if arrays is not None]
        values = iter(
            self._compare(query, known, exact=exact)[1].sum(axis=1).tolist() if known else ()
        )
        return (
            None if arrays is None else PairEvidence(next(values), num_inliers=None)
            for arrays in chunk
        )

    def _score_hybrid(
        self, query: _Prepared, candidates: Sequence[Arrays | None]
    ) -> Iterator[PairEvidence | None]:
        found = [
            one for chunk in in_chunks(candidates, CHUNK) for one in self._score_chunk(query, chunk)
        ]
        readable = [i for i, one in enumerate(found) if one is not None]
        best = sorted(readable, key=lambda i: -_similarity(found[i]))[: self.options.num_exact]
        head_start = 2.0 * self.engine.grid[0] * self.engine.grid[1]
        for rows in in_chunks(best, CHUNK):
            for i, one in zip(
                rows,
                self._score_chunk(query, [candidates[i] for i in rows], exact=True),
                strict=True,
            ):
                found[i] = PairEvidence(_similarity(one) + head_start, num_inliers=None)
        yield from found

    def _compare(
        self, query: _Prepared, others: Sequence[_Prepared], *, exact: bool
    ) -> tuple[Quads[np.ndarray], np.ndarray]:
        """Quadrilaterals, and the similarities of cells (B, h w), of one image with others."""
        found = self.engine.quads(query.cells, np.stack([one.cells for one in others]))
        quads = sound_pairs(on_sides(found, self.options.sides))
        views = [(query, quad) for quad in quads.first] + list(
            zip(others, quads.second, strict=True)
        )
        cells = (
            self._cells_of_pixels(views) if exact else [self._cells_of_map(*one) for one in views]
        )
        pairs = zip(cells[: len(others)], cells[len(others) :], strict=True)
        return quads, np.stack([np.einsum("nc,nc->n", *pair) for pair in pairs])

    def _cells_of_map(self, photo: _Prepared, quad: np.ndarray) -> np.ndarray:
        assert photo.rows is not None, "this read-out keeps maps"
        return read_cells(photo.rows, photo.size, quad, grid=self.engine.grid)

    def _cells_of_pixels(self, views: Sequence[tuple[_Prepared, np.ndarray]]) -> list[np.ndarray]:
        """Cells of quadrilaterals of photos, one pass of the backbone each; photos of one size pass
        it together."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, (photo, _) in enumerate(views):
            assert photo.pixels is not None, "this read-out keeps pixels"
            by_shape.setdefault(photo.pixels.shape, []).append(i)
        cells: dict[int, np.ndarray] = {}
        for where in by_shape.values():
            images = np.stack([pixels for i in where if (pixels := views[i][0].pixels) is not None])
            maps = self.engine.maps_of_quads(images, np.stack([views[i][1] for i in where]))
            for i, one in zip(where, maps, strict=True):
                cells[i] = pool_cells(
                    rows_of(one), (one.shape[1], one.shape[2]), grid=self.engine.grid
                )
        return [cells[i] for i in range(len(views))]

    def _unpack(self, arrays: Arrays) -> _Prepared:
        """The prepared photo that `prepare` packed."""
        pixels = arrays.get("pixels")
        if "map" in arrays:
            kept = DenseMap.from_arrays(arrays, "map")
            rows = kept.values()
            return _Prepared(
                pool_cells(rows, kept.size, grid=self.engine.grid), rows, kept.size, pixels
            )
        kept = DenseMap.from_arrays(arrays, "local")
        return _Prepared(kept.values(), None, kept.size, pixels)

    def _fitting_size(
        self, image: np.ndarray, long_side_px: int, *, enlarge: bool | None = None
    ) -> tuple[int, int]:
        """Width and height of the image no longer than asked, or the nearest that the backbone
        takes."""
        height, width = image.shape[:2]
        scale = long_side_px / max(height, width)
        if not (self.options.enlarge if enlarge is None else enlarge):
            scale = min(1.0, scale)
        rows, columns = self.engine.nearest(round(height * scale), round(width * scale))
        return columns, rows


def _similarity(evidence: PairEvidence | None) -> float:
    return -np.inf if evidence is None else evidence.similarity
