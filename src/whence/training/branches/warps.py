"""The two branches of GeoWarp's regressor: views cut out of one photo, whose quadrilaterals are
known, and pairs that were found.

Cells of a pair should be alike once cut out, and predictions should not depend on order or
mirroring (Berton et al., ICCV 2021). Pairs are found as its public code does: of each query's first
candidates those that are near enough on the ground and in the space of descriptors; the paper takes
all photos within the radius. Descriptors are compared at unit length, as everywhere here, where the
code takes GeM's as they are.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption, NoPhotos
from whence.evaluation.protocol import metric_ground
from whence.index.flat import FlatIndex
from whence.models.preprocessing import normalise
from whence.models.warp.geometry import sound_or_frame, warp
from whence.models.warp.model import match_both_orders, pool_cells
from whence.models.warp.pairs import ViewPair, change_colours, make_view_pairs
from whence.runtime import atomic_write, random_stream
from whence.training.learners import RegressorLearner
from whence.training.losses.warps import (
    BothOrders,
    consistency_loss,
    feature_loss,
    self_supervised_loss,
)
from whence.training.options.warps import FoundPairOptions, FoundPairsOptions, ViewsOptions
from whence.training.pixels import SetPixels, cached_set, key_of, spread_rows
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share
from whence.types import Neighbors

REMEMBERED_BYTES = 1_000_000_000
"""What maps of whole photos may take in memory."""
_SAMPLES = 2
"""Samples per cell and direction where cells are read out of maps."""
_VIEWS, _PAIRS = 81, 82


class Laps:
    """Which `size` of `total` a batch holds: in an order of their own for each time they have all
    been seen.

    A batch follows from the seed and its number alone; several processes take different ones.
    Raises `BadOption` where there are fewer than one batch needs.
    """

    def __init__(
        self, what: str, total: int, *, size: int, seed: int, stream: int, num_ranks: int = 1
    ) -> None:
        if size < 2:
            raise BadOption(
                f"a batch of {size} {what} is too small: batch norm learns from at least 2"
            )
        if total < size * num_ranks:
            raise BadOption(
                f"{total} {what} do not fill a batch of {size}; lower pairs.num_views or "
                "pairs.num_pairs"
            )
        self.total, self.size, self.seed, self.stream, self.num_ranks = (
            total,
            size,
            seed,
            stream,
            num_ranks,
        )
        self.num_batches = total // (size * num_ranks)
        """Batches until all have been seen."""
        self._lap, self._order = -1, np.empty(0, np.int64)

    def batch(self, place: BatchPlace, *, rank: int = 0) -> np.ndarray:
        """(size,) of `total`: this process's of a batch."""
        number = (place.epoch * self.num_batches + place.number) * self.num_ranks + rank
        lap, start = divmod(number, self.total // self.size)
        if lap != self._lap:
            self._lap, self._order = (
                lap,
                random_stream(self.seed, self.stream, lap).permutation(self.total),
            )
        return self._order[start * self.size : (start + 1) * self.size]


class WarpBranch(Branch):
    """What both branches need: the photos of a set, the network's maps of them, and the regressor's
    predictions."""

    def __init__(self, options: ViewsOptions | FoundPairsOptions, setup: Setup) -> None:
        super().__init__(options.name or options.kind)
        self.setup, self.weight = setup, options.weight
        if not isinstance(setup.learner, RegressorLearner):
            raise BadOption(
                f"the branch {self.name} trains a regressor; give the recipe such a learner"
            )
        self.warping, self.orders = setup.learner, options.losses.orders

    def describe_data(self) -> dict[str, Any]:
        data = self.setup.data.set
        return {"num_database": len(data.database), "num_queries": len(data.queries)}

    def open(self) -> None:
        self.pixels = cached_set(
            self.setup.data.set, size_px=self.warping.size_px, setup=self.setup
        )

    def normalised(self, photos: Tensor, draw: Draw) -> Tensor:
        """uint8 photos (B, H, W, 3) as the backbone takes them: (B, 3, H, W)."""
        backbone = self.warping.geowarp.backbone
        return normalise(photos.to(draw.device), mean=backbone.mean, std=backbone.std)

    def map(self, images: Tensor, draw: Draw) -> Tensor:
        """The backbone's maps, in the precision of the training."""
        with draw.autocast():
            maps: Tensor = self.warping.geowarp.backbone(
                images.contiguous(memory_format=torch.channels_last)
            ).map
        return maps.float()

    def cells(self, maps: Tensor) -> Tensor:
        """The maps (B, C, h, w) as cells."""
        return pool_cells(maps, grid=self.warping.geowarp.grid)

    def regress(
        self, regressor: nn.Module, similarities: Tensor, *, num_batches: int
    ) -> tuple[Tensor, ...]:
        """Predictions for the parts of a batch; the options say whether they go through the
        regressor together."""
        if self.orders == "together":
            found: tuple[Tensor, ...] = regressor(similarities).chunk(num_batches)
            return found
        return tuple(map(regressor, similarities.chunk(num_batches)))


class ViewBranch(WarpBranch):
    """Views cut out of all photos of a set."""

    def __init__(self, options: ViewsOptions, setup: Setup) -> None:
        super().__init__(options, setup)
        self.options = options

    def open(self) -> None:
        super().open()
        size, seed, ranks = (
            self.options.pairs.num_views,
            self.setup.seed,
            self.setup.share.num_ranks,
        )
        self.laps = Laps(
            "photos", len(self.pixels), size=size, seed=seed, stream=_VIEWS, num_ranks=ranks
        )

    def num_batches(self, epoch: int) -> int:
        return self.laps.num_batches

    def read(self, place: BatchPlace, share: Share) -> Read:
        rows = self.laps.batch(place, rank=share.rank)
        return Read(torch.from_numpy(self.pixels[rows]), len(rows))

    def change(self, content: Tensor, draw: Draw) -> ViewPair:
        photos = self.normalised(content, draw)
        keys = np.random.SeedSequence([draw.seed, draw.step, draw.batch, draw.share.rank])
        generator = torch.Generator().manual_seed(int(keys.generate_state(1)[0]))
        views = make_view_pairs(photos, k=self.options.pairs.k, generator=generator)
        if colour := self.options.pairs.colour:
            a, b = (
                change_colours(images, strength=colour, generator=generator)
                for images in (views.images_a, views.images_b)
            )
            views = views._replace(images_a=a, images_b=b)
        return views

    def learn(self, learner: nn.Module, content: ViewPair, draw: Draw) -> Losses:
        with torch.no_grad():
            cells = self.cells(self.map(torch.cat([content.images_a, content.images_b]), draw))
            similarities = match_both_orders(*cells.chunk(2))
        found = BothOrders(*self.regress(learner, similarities, num_batches=2))
        losses = self.options.losses
        value = self_supervised_loss(
            found, quads_a=content.quads_a, quads_b=content.quads_b, form=losses.form
        )
        value = losses.self_supervised * value
        return Losses(value, {"self_supervised": value})


class _Pairs(NamedTuple):
    """This process's pairs of a batch."""

    photos: tuple[Tensor, Tensor]
    """(P, H, W, 3) uint8 queries, and their positives; once changed (P, 3, H, W) normalised."""
    rows: tuple[np.ndarray, np.ndarray]
    """Their rows among all photos."""


class PairBranch(WarpBranch):
    """Pairs of a query and a database photo of its place."""

    def __init__(self, options: FoundPairsOptions, setup: Setup) -> None:
        super().__init__(options, setup)
        self.options = options
        self._maps: dict[tuple[int, bool], Tensor] = {}
        self._num_remembered_bytes = 0

    def open(self) -> None:
        super().open()
        self.mined = self._mine()
        size, seed, ranks = (
            self.options.pairs.num_pairs,
            self.setup.seed,
            self.setup.share.num_ranks,
        )
        self.laps = Laps(
            "pairs", len(self.mined), size=size, seed=seed, stream=_PAIRS, num_ranks=ranks
        )

    def _mine(self) -> np.ndarray:
        """The pairs of the set; kept beside the run, so that a run that goes on does not describe
        the photos again."""
        folder = self.setup.folder
        file = None if folder is None else folder / f"{self.name}.npy"
        if file is not None and file.is_file():
            pairs: np.ndarray = np.load(file)
            return pairs
        pairs = find_pairs(self.pixels, self.warping, self.setup, options=self.options.pairs)
        if file is not None and self.setup.share.rank == 0:
            with atomic_write(file) as out:
                np.save(out, pairs)
        return pairs

    def num_batches(self, epoch: int) -> int:
        return self.laps.num_batches

    def read(self, place: BatchPlace, share: Share) -> Read:
        pairs = self.mined[self.laps.batch(place, rank=share.rank)]
        rows = pairs[:, 0] + len(self.pixels.database), pairs[:, 1]
        queries, positives = (torch.from_numpy(self.pixels[chosen]) for chosen in rows)
        return Read(_Pairs((queries, positives), rows), 2 * len(pairs))

    def change(self, content: _Pairs, draw: Draw) -> _Pairs:
        queries, positives = (self.normalised(photos, draw) for photos in content.photos)
        return content._replace(photos=(queries, positives))

    def learn(self, learner: nn.Module, content: _Pairs, draw: Draw) -> Losses:
        """The weighted losses of consistency and of features. One pass of the regressor serves
        both."""
        losses, images = self.options.losses, content.photos
        consistency = features = images[0].new_zeros(())
        with torch.no_grad():
            whole = [
                self.maps_of(rows, one, draw)
                for rows, one in zip(content.rows, images, strict=True)
            ]
            similarities = [match_both_orders(*map(self.cells, whole))]
            if losses.consistency:
                mirrored = [
                    self.cells(self.maps_of(rows, one.flip(3), draw, is_mirrored=True))
                    for rows, one in zip(content.rows, images, strict=True)
                ]
                similarities.append(match_both_orders(*mirrored))
        found = self.regress(learner, torch.cat(similarities), num_batches=2 * len(similarities))
        straight = BothOrders(*found[:2])
        if losses.consistency:
            consistency = losses.consistency * consistency_loss(
                straight, mirrored=BothOrders(*found[2:]), form=losses.form
            )
        if losses.features:
            forth, back = straight
            quads = torch.cat([(forth[:, :4] + back[:, 4:]) / 2, (forth[:, 4:] + back[:, :4]) / 2])
            cells = self._cut(
                torch.cat(images), torch.cat(whole), sound_or_frame(quads), draw
            ).chunk(2)
            features = losses.features * feature_loss(*cells, form=losses.form)
        return Losses(consistency + features, {"consistency": consistency, "features": features})

    def _cut(self, images: Tensor, maps: Tensor, quads: Tensor, draw: Draw) -> Tensor:
        """Cells of quadrilaterals; gradients flow to these."""
        geowarp = self.warping.geowarp
        if self.options.losses.readout == "exact":
            return self.cells(self.map(geowarp.cut(images, quads), draw))
        rows, columns = geowarp.grid
        return self.cells(warp(maps, quads, size=(_SAMPLES * rows, _SAMPLES * columns)))

    def maps_of(
        self, rows: np.ndarray, images: Tensor, draw: Draw, *, is_mirrored: bool = False
    ) -> Tensor:
        """Maps of whole photos, which do not change: each is computed once, by itself, so that no
        batch matters to it."""
        found = []
        for row, image in zip(rows.tolist(), images, strict=True):
            known = self._maps.get((row, is_mirrored))
            if known is None:
                known = self.map(image[None], draw)[0]
                if self._num_remembered_bytes < REMEMBERED_BYTES:
                    self._maps[row, is_mirrored] = known
                    self._num_remembered_bytes += known.nbytes
            found.append(known)
        return torch.stack(found)


def find_pairs(
    pixels: SetPixels, learner: RegressorLearner, setup: Setup, *, options: FoundPairOptions
) -> np.ndarray:
    """(P, 2) int64 pairs of a query's row and a database row, found by the network. Raises
    `NoPhotos` where there is none."""
    rows = spread_rows(len(pixels.queries), options.max_queries)
    found = _found(pixels, rows, learner, setup, num=options.num_retrieved)
    ground = metric_ground(setup.data.set.database, setup.data.set.queries)
    distances = np.maximum(2 - 2 * found.similarities, 0).astype(np.float32)
    pairs = mine_pairs(
        found.ids,
        distances,
        database_m=ground.database,
        queries_m=ground.queries[rows],
        options=options,
    )
    pairs[:, 0] = rows[pairs[:, 0]]
    return pairs


def _found(
    pixels: SetPixels, rows: np.ndarray, learner: RegressorLearner, setup: Setup, *, num: int
) -> Neighbors:
    """Candidates of some queries; kept beside the decoded photos, since trainings on one set all
    ask for the same."""
    data, size = setup.data.set, "x".join(map(str, learner.size_px))
    asked = hashlib.blake2b(np.array([num, *rows], np.int64).tobytes(), digest_size=6).hexdigest()
    name = (
        f"{key_of(data.database)}-{key_of(data.queries)}-{size}-{learner.model_card.card_id}-"
        f"{asked}.npz"
    )
    file = setup.pixels_folder / name
    if file.is_file():
        with np.load(file) as kept:
            return Neighbors(kept["ids"], kept["similarities"])
    stored, queries = (learner.describe(part) for part in (pixels.database, pixels.queries[rows]))
    found = FlatIndex.over(stored).search(queries, k=num)
    if setup.share.rank == 0:
        with atomic_write(file) as out:
            np.savez(out, ids=found.ids, similarities=found.similarities)
    return found


def mine_pairs(
    rows: np.ndarray,
    squared_distances: np.ndarray,
    *,
    database_m: np.ndarray,
    queries_m: np.ndarray,
    options: FoundPairOptions,
) -> np.ndarray:
    """(P, 2) int64 pairs of a query and a database row that is one of its candidates (Q, K), near
    on the ground and in descriptors.

    Positions (N, d) and (Q, d) are metric. Raises `NoPhotos` where there is none.
    """
    gap = queries_m[:, None] - database_m[rows]
    is_near = np.einsum("qkd,qkd->qk", gap, gap) <= options.radius_m**2
    queries, ranks = np.nonzero(is_near & (squared_distances < options.max_squared_distance))
    if not len(queries):
        raise NoPhotos(
            f"no query finds a photo within {options.radius_m:g} m among its first "
            f"{options.num_retrieved}; raise pairs.num_retrieved or pairs.radius_m, or leave the "
            "losses of pairs out: losses.features=0 and losses.consistency=0"
        )
    return np.column_stack([queries, rows[queries, ranks]])
