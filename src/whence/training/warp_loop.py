"""Training GeoWarp's regressor on top of a network that stays as it is: what `whence.training.run` reads, learns from and measures.

Three losses (Berton et al., ICCV 2021): on pairs of views cut out of one photo, whose quadrilaterals are known; and on mined pairs
of a query and a positive, whose cells should be alike once cut out, and whose predictions should not depend on order or mirroring.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.data.formats import EvaluationSet
from whence.errors import BadOption
from whence.evaluation.protocol import metric_ground
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.models.warp.geometry import sound_or_frame, warp
from whence.models.warp.model import GeoWarp, match_both_orders, pool_cells
from whence.models.warp.pairs import ViewPair, change_colours, make_view_pairs
from whence.models.warp.scorer import load_regressor
from whence.models.zoo import named_network
from whence.registry import get_card
from whence.runtime import atomic_write
from whence.training.pixels import cached_pixels
from whence.training.recipe import LossOptions
from whence.training.run import BatchPlace, Read, Run, TrainSummary
from whence.training.warp_data import WarpBatches, mine_pairs, nearest_by_distance, spread_rows
from whence.training.warp_losses import BothOrders, consistency_loss, feature_loss, self_supervised_loss
from whence.training.warp_recipe import WarpRecipe, image_size
from whence.training.warp_validation import WarpValidation, describe_pixels, unit_rows

REMEMBERED_BYTES = 1_000_000_000
"""What maps of whole photos may take in memory."""
_SAMPLES = 2
"""Samples per cell and direction where cells are read out of maps."""


def train_warp(
    recipe: WarpRecipe,
    data: EvaluationSet,
    *,
    out: str | Path,
    validation: EvaluationSet | None = None,
    pixels_folder: str | Path,
    is_resumed: bool = False,
    show_progress: bool | None = None,
) -> TrainSummary:
    """Train a regressor by the recipe into the folder `out`: recipe.json, log.jsonl, checkpoints/, best and final weights.

    Views are cut out of all photos of the set; pairs are mined between its queries and its database. Raises as
    `whence.models.zoo.named_network`, and `BadOption`, `NoPhotos`, `InputError`.
    """
    run = WarpRun(recipe, data, Path(out), validation, Path(pixels_folder), is_resumed=is_resumed, show_progress=show_progress)
    return run.run()


class _Photos(NamedTuple):
    """This process's photos of a batch."""

    photos: Tensor
    """(V, H, W, 3) uint8: what views are cut out of."""
    queries: Tensor
    """(P, H, W, 3) uint8, and their positives."""
    positives: Tensor
    rows: tuple[np.ndarray, np.ndarray]
    """Rows of queries and positives among all photos."""


class _Images(NamedTuple):
    """A batch ready to learn from."""

    views: ViewPair | None
    queries: Tensor
    """(P, 3, H, W) normalised."""
    positives: Tensor
    rows: tuple[np.ndarray, np.ndarray]


class WarpRun(Run[WarpRecipe]):
    """A training of a regressor."""

    def __init__(
        self,
        recipe: WarpRecipe,
        data: EvaluationSet,
        out: Path,
        validation: EvaluationSet | None,
        pixels_folder: Path,
        *,
        is_resumed: bool,
        show_progress: bool | None,
    ) -> None:
        losses = recipe.losses
        if not losses.self_supervised and not losses.features and not losses.consistency:
            raise BadOption("all losses have weight 0: nothing would be learned")
        self.data, self.asked, self.pixels_folder = data, validation, pixels_folder
        self.needs_pairs = bool(losses.features or losses.consistency)
        self.validation: WarpValidation | None = None
        self._maps: dict[tuple[int, bool], Tensor] = {}
        self._num_remembered_bytes = 0
        super().__init__(recipe, out=out, is_resumed=is_resumed, show_progress=show_progress)

    def make_parts(self) -> tuple[nn.Module, nn.Module, LossOptions]:
        if not self.recipe.model:
            raise BadOption("say which network the regressor is for: --model NAME")
        self.card = get_card(self.recipe.model)
        self.retrieval: Network = named_network(self.recipe.model).to(self.device).eval()
        self.retrieval.requires_grad_(False)
        torch.manual_seed(self.recipe.loop.seed)
        self.geowarp = GeoWarp(self.retrieval.backbone)
        if self.recipe.start_from:
            load_regressor(self.geowarp.regressor, self.recipe.start_from)
        return self.geowarp.regressor, nn.Module(), LossOptions()

    def describe_data(self) -> Mapping[str, Any]:
        return {"num_database": len(self.data.database), "num_queries": len(self.data.queries), "model": self.card.card_id}

    def open_data(self) -> None:
        width, height = image_size(self.recipe, self.card)
        size: dict[str, Any] = {"width": width, "height": height, "folder": self.pixels_folder, "show_progress": self.show_progress}
        self.database = cached_pixels(self.data.database, **size)
        self.queries = cached_pixels(self.data.queries, **size)
        self.mined = self._mine() if self.needs_pairs else np.empty((0, 2), np.int64)
        self.batches = WarpBatches(
            num_photos=len(self.database) + len(self.queries),
            num_pairs=len(self.mined),
            options=self.recipe.pairs,
            seed=self.recipe.loop.seed,
            num_ranks=self.num_ranks,
        )
        if self.asked is not None:
            self.validation = WarpValidation(
                self.asked,
                self.retrieval,
                options=self.recipe.validate_on,
                pixels=(cached_pixels(self.asked.database, **size), cached_pixels(self.asked.queries, **size)),
                reading=self.card.preprocessing,
            )

    def _mine(self) -> np.ndarray:
        """The pairs of the set; kept beside the run, so that a run that goes on does not describe the photos again."""
        file = self.out / "pairs.npy"
        if file.is_file():
            pairs: np.ndarray = np.load(file)
            return pairs
        options = self.recipe.pairs
        rows = spread_rows(len(self.queries), options.max_queries)
        parts = (self.database, self.queries[rows])
        stored, asked = (unit_rows(describe_pixels(self.retrieval, part, reading=self.card.preprocessing)) for part in parts)
        found = nearest_by_distance(stored, asked, k=options.num_retrieved)
        ground = metric_ground(self.data.database, self.data.queries)
        pairs = mine_pairs(found, database_m=ground.database, queries_m=ground.queries[rows], options=options)
        pairs[:, 0] = rows[pairs[:, 0]]
        if self.is_main:
            with atomic_write(file) as out:
                np.save(out, pairs)
        return pairs

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches

    def read(self, place: BatchPlace) -> Read:
        number = place.epoch * self.batches.num_batches + place.number
        rows = self.batches.photos(number, rank=self.rank) if self.recipe.losses.self_supervised else np.empty(0, np.int64)
        pairs = self.mined[self.batches.pairs(number, rank=self.rank)] if self.needs_pairs else self.mined
        of_queries, of_positives = pairs[:, 0] + len(self.database), pairs[:, 1]
        photos, queries, positives = (self._photos(chosen) for chosen in (rows, of_queries, of_positives))
        return Read(_Photos(photos, queries, positives, (of_queries, of_positives)), len(rows) + 2 * len(pairs))

    def _photos(self, rows: np.ndarray) -> Tensor:
        """(n, H, W, 3) uint8 photos, database first, then queries."""
        first = len(self.database)
        if not len(rows):
            return torch.empty((0, *self.database.shape[1:]), dtype=torch.uint8)
        return torch.from_numpy(np.stack([self.database[row] if row < first else self.queries[row - first] for row in rows]))

    def change(self, content: _Photos, batch: int) -> _Images:
        views = None
        if len(content.photos):
            photos = normalise(content.photos.to(self.device))
            keys = np.random.SeedSequence([self.recipe.loop.seed, self.step, batch, self.rank])
            generator = torch.Generator().manual_seed(int(keys.generate_state(1)[0]))
            views = make_view_pairs(photos, k=self.recipe.pairs.k, generator=generator)
            if colour := self.recipe.pairs.colour:
                a, b = (change_colours(images, strength=colour, generator=generator) for images in (views.images_a, views.images_b))
                views = views._replace(images_a=a, images_b=b)
        queries, positives = (normalise(photos.to(self.device)) for photos in (content.queries, content.positives))
        return _Images(views, queries, positives, content.rows)

    def learn(self, content: _Images) -> dict[str, float]:
        values = {}
        if content.views is not None:
            values["self_supervised"] = self._learn(self.recipe.losses.self_supervised * self._on_views(content.views))
        if self.needs_pairs:
            consistency, features = self._on_pairs(content)
            values["consistency"], values["features"] = float(consistency.detach()), float(features.detach())
            values["pairs"] = self._learn(consistency + features)
        return {"loss": values.get("self_supervised", 0.0) + values.pop("pairs", 0.0), **values}

    def _learn(self, loss: Tensor) -> float:
        loss = loss / self.recipe.loop.accumulate
        self.accelerator.backward(loss)
        return float(loss.detach())

    def _on_views(self, views: ViewPair) -> Tensor:
        with torch.no_grad():
            cells = self._cells(self._map(torch.cat([views.images_a, views.images_b])))
            similarities = match_both_orders(*cells.chunk(2))
        found = BothOrders(*self._regress(similarities, num_batches=2))
        return self_supervised_loss(found, quads_a=views.quads_a, quads_b=views.quads_b, form=self.recipe.losses.form)

    def _on_pairs(self, content: _Images) -> tuple[Tensor, Tensor]:
        """The weighted losses of consistency and of features. One pass of the regressor serves both."""
        losses = self.recipe.losses
        with torch.no_grad():
            images, zero = (content.queries, content.positives), content.queries.new_zeros(())
            whole = [self._maps_of(rows, one) for rows, one in zip(content.rows, images, strict=True)]
            similarities = [match_both_orders(*map(self._cells, whole))]
            if losses.consistency:
                mirrored = [
                    self._cells(self._maps_of(rows, one.flip(3), is_mirrored=True))
                    for rows, one in zip(content.rows, images, strict=True)
                ]
                similarities.append(match_both_orders(*mirrored))
        found = self._regress(torch.cat(similarities), num_batches=2 * len(similarities))
        straight = BothOrders(*found[:2])
        consistency = features = zero
        if losses.consistency:
            consistency = losses.consistency * consistency_loss(straight, mirrored=BothOrders(*found[2:]), form=losses.form)
        if losses.features:
            forth, back = straight
            quads = torch.cat([(forth[:, :4] + back[:, 4:]) / 2, (forth[:, 4:] + back[:, :4]) / 2])
            cells = self._cut(torch.cat(images), torch.cat(whole), sound_or_frame(quads)).chunk(2)
            features = losses.features * feature_loss(*cells, form=losses.form)
        return consistency, features

    def _regress(self, similarities: Tensor, *, num_batches: int) -> tuple[Tensor, ...]:
        """Predictions for the parts of a batch; the recipe says whether they go through the regressor together."""
        if self.recipe.losses.orders == "together":
            return self.forward(similarities).chunk(num_batches)
        return tuple(map(self.forward, similarities.chunk(num_batches)))

    def _cut(self, images: Tensor, maps: Tensor, quads: Tensor) -> Tensor:
        """Cells of quadrilaterals; gradients flow to these."""
        if self.recipe.losses.readout == "exact":
            return self._cells(self._map(self.geowarp.cut(images, quads)))
        rows, columns = self.geowarp.grid
        return self._cells(warp(maps, quads, size=(_SAMPLES * rows, _SAMPLES * columns)))

    def _cells(self, maps: Tensor) -> Tensor:
        return pool_cells(maps, grid=self.geowarp.grid)

    def _map(self, images: Tensor) -> Tensor:
        """The backbone's maps, in the precision of the training."""
        with self.accelerator.autocast():
            maps: Tensor = self.geowarp.backbone(images.contiguous(memory_format=torch.channels_last)).map
        return maps.float()

    def _maps_of(self, rows: np.ndarray, images: Tensor, *, is_mirrored: bool = False) -> Tensor:
        """Maps of whole photos, which do not change: each is computed once, by itself, so that no batch matters to it."""
        found = []
        for row, image in zip(rows.tolist(), images, strict=True):
            known = self._maps.get((row, is_mirrored))
            if known is None:
                known = self._map(image[None])[0]
                if self._num_remembered_bytes < REMEMBERED_BYTES:
                    self._maps[row, is_mirrored] = known
                    self._num_remembered_bytes += known.nbytes
            found.append(known)
        return torch.stack(found)

    def measure(self, network: nn.Module) -> dict[str, float]:
        assert self.validation is not None
        return self.validation.measure(network)

    @property
    def is_validated(self) -> bool:
        return self.validation is not None
