"""Training a retrieval network on mined tuples: what `whence.training.run` reads, learns from and measures for it.

An epoch is a refresh: tuples are mined with the network as it stands, then all are learned from, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from accelerate.utils import broadcast
from torch import Tensor, nn

from whence.data.formats import EvaluationSet
from whence.errors import BadOption
from whence.models.aggregators.words import NetVlad
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.runtime import progress, random_stream
from whence.training import checkpoints
from whence.training.augment import Augment
from whence.training.loop import NetworkRun, make_network, read_start
from whence.training.losses import tuple_loss
from whence.training.mining import Miner
from whence.training.pixels import cached_pixels
from whence.training.recipe import AugmentOptions, LossOptions
from whence.training.run import BatchPlace, Read, TrainSummary
from whence.training.tuple_recipe import TupleRecipe, WordOptions
from whence.training.tuples import make_tuple_set

_WORDS = 93


def train_tuples(
    recipe: TupleRecipe,
    data: EvaluationSet,
    *,
    out: str | Path,
    validation: EvaluationSet | None = None,
    pixels_folder: str | Path,
    is_resumed: bool = False,
    show_progress: bool | None = None,
) -> TrainSummary:
    """Train by the recipe into the folder `out`: recipe.json, log.jsonl, checkpoints/, best.safetensors, final.safetensors.

    `is_resumed` goes on from the last checkpoint, in the middle of a refresh too. Raises `BadOption`, `UnknownName`, `InputError`,
    `NoPhotos`.
    """
    run = TupleRun(recipe, data, Path(out), validation, Path(pixels_folder), is_resumed=is_resumed, show_progress=show_progress)
    return run.run()


def make_tuple_network(recipe: TupleRecipe) -> Network:
    """The recipe's network with the weights it starts from. Raises as `whence.training.loop.make_network`."""
    if recipe.start_with == "all" or not recipe.start_from:
        return make_network(recipe)
    network = make_network(replace(recipe, start_from=""))
    prefix = "backbone."
    held = {name.removeprefix(prefix): value for name, value in read_start(recipe.start_from).items() if name.startswith(prefix)}
    try:
        network.backbone.load_state_dict(held)
    except RuntimeError as error:
        raise BadOption(f"{recipe.start_from!r} holds another backbone than {recipe.backbone}: {error}") from None
    return network


def sample_locations(network: Network, photos: np.ndarray, *, options: WordOptions, device: torch.device, seed: int) -> Tensor:
    """Local descriptors (M, C) of unit length at random locations of photos (N, H, W, 3) uint8."""
    random = random_stream(seed, _WORDS, 1)
    found = []
    with torch.inference_mode():
        for photo in photos:
            map = network.features(normalise(torch.from_numpy(np.array(photo[None])).to(device))).map[0].flatten(1)
            chosen = random.choice(map.shape[1], min(options.num_locations, map.shape[1]), replace=False)
            found.append(nn.functional.normalize(map[:, torch.from_numpy(chosen).to(device)].T.float(), dim=1).cpu())
    return torch.cat(found)


class _Tuples(NamedTuple):
    """This process's tuples of a batch."""

    queries: Tensor
    """(b, H, W, 3) uint8."""
    others: Tensor
    """(b * (1 + N), H, W, 3) uint8: each query's positive and its negatives."""
    first: int
    """Number of the first query in the whole batch."""


class TupleRun(NetworkRun[TupleRecipe]):
    """A training on queries, their positives and their negatives."""

    is_mined = True

    def __init__(
        self,
        recipe: TupleRecipe,
        data: EvaluationSet,
        out: Path,
        validation: EvaluationSet | None,
        pixels_folder: Path,
        *,
        is_resumed: bool,
        show_progress: bool | None,
    ) -> None:
        self.data, self.asked, self.pixels_folder = data, validation, pixels_folder
        self.tuples = make_tuple_set(data, options=recipe.mining)
        self.miner = Miner(self.tuples, options=recipe.mining, seed=recipe.loop.seed)
        self.mined = np.empty((0, 2 + recipe.mining.num_negatives), np.int64)
        if not 1 <= recipe.batch_queries <= self.miner.num_tuples:
            raise BadOption(
                f"a batch of {recipe.batch_queries} tuples is not possible with {self.miner.num_tuples} a refresh; "
                "change batch_queries or mining.num_queries"
            )
        seed, seen = recipe.loop.seed, recipe.augment
        plain = AugmentOptions(width=seen.width, height=seen.height, flip_share=seen.flip_share)
        self.augment, self.resize = Augment(seen, seed=seed), Augment(plain, seed=seed)
        super().__init__(recipe, out=out, is_resumed=is_resumed, show_progress=show_progress)
        if recipe.batch_queries % self.num_ranks:
            raise BadOption(f"{recipe.batch_queries} tuples cannot be shared evenly by {self.num_ranks} processes")

    def make_parts(self) -> tuple[nn.Module, nn.Module, LossOptions]:
        return make_tuple_network(self.recipe), nn.Module(), LossOptions()

    def describe_data(self) -> Mapping[str, Any]:
        sizes = {"num_database": len(self.data.database), "num_queries": len(self.data.queries)}
        return {**sizes, "num_queries_with_positives": len(self.tuples.queries)}

    def open_data(self) -> None:
        seen = self.recipe.augment
        size: dict[str, Any] = {"folder": self.pixels_folder, "show_progress": self.show_progress}
        of_training = {"width": seen.stored_width or seen.width, "height": seen.stored_height or seen.height, **size}
        self.database, self.queries = (cached_pixels(photos, **of_training) for photos in (self.data.database, self.data.queries))
        self.open_validation(self.asked, folder=self.pixels_folder)
        is_begun = checkpoints.newest_checkpoint(self.out / "checkpoints") is not None
        if not is_begun and (not self.recipe.start_from or self.recipe.start_with == "backbone"):
            self._fit_words()

    def _fit_words(self) -> None:
        """Let visual words begin at the k-means of local descriptors of training photos."""
        network = self.network
        holders = [part for part in network.modules() if isinstance(part, NetVlad)]
        if not holders or not isinstance(network, Network):
            return
        total = len(self.database) + len(self.queries)
        random = random_stream(self.recipe.loop.seed, _WORDS, 0)
        chosen = random.choice(total, min(self.recipe.words.num_photos, total), replace=False)
        network.eval()
        sample = sample_locations(
            network, self._resized(chosen), options=self.recipe.words, device=self.device, seed=self.recipe.loop.seed
        )
        for holder in holders:
            holder.fit(sample, seed=self.recipe.loop.seed)
        network.train()

    def num_batches(self, epoch: int) -> int:
        return self.miner.num_tuples // self.recipe.batch_queries

    def begin(self, epoch: int) -> None:
        """Mine the tuples of a refresh; the main process does and tells the others."""
        if self.is_main:
            with progress("mining", total=None, show=self._shows()):
                self.network.eval()
                mined = self.miner.mine(epoch, self._describe)
                self.network.train()
        else:
            mined = np.zeros((self.miner.num_tuples, self.mined.shape[1]), np.int64)
        self.mined = mined if self.num_ranks == 1 else broadcast(torch.from_numpy(mined).to(self.device)).cpu().numpy()

    def _describe(self, rows: np.ndarray) -> Tensor:
        """Descriptors of photos, counted from the database's first, on the CPU."""
        size, parts = self.recipe.mining.batch_size, []
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            for start in range(0, len(rows), size):
                photos = torch.from_numpy(self._resized(rows[start : start + size])).to(self.device)
                parts.append(self.network(normalise(photos)).float().cpu())
        return torch.cat(parts)

    def _resized(self, rows: np.ndarray) -> np.ndarray:
        """Photos (n, H, W, 3) uint8 at the size that is learned from, unchanged otherwise."""
        photos = self._pixels(rows)
        seen = self.recipe.augment
        if photos.shape[1:3] == (seen.height, seen.width):
            return photos
        return np.stack([cv2.resize(photo, (seen.width, seen.height), interpolation=cv2.INTER_AREA) for photo in photos])

    def _pixels(self, rows: np.ndarray) -> np.ndarray:
        num = len(self.database)
        return np.stack([self.database[row] if row < num else self.queries[row - num] for row in rows])

    def read(self, place: BatchPlace) -> Read:
        size = self.recipe.batch_queries // self.num_ranks
        first = self.rank * size
        start = place.number * self.recipe.batch_queries + first
        mine = self.mined[start : start + size]
        queries, others = (self._pixels(rows) for rows in (len(self.database) + mine[:, 0], mine[:, 1:].ravel()))
        return Read(_Tuples(torch.from_numpy(queries), torch.from_numpy(others), first), len(queries) + len(others))

    def change(self, content: _Tuples, batch: int) -> Tensor:
        """The images, normalised: the queries, then the others. All are mirrored, or none."""
        found = []
        for augment, photos, first in (
            (self.augment, content.queries, content.first),
            (self.resize, content.others, self.recipe.batch_queries),
        ):
            found.append(augment(photos.to(self.device), step=self.step, batch=batch, first=first))
        images = torch.cat(found)
        return images.contiguous(memory_format=torch.channels_last) if self.recipe.loop.is_channels_last else images

    def learn(self, content: Tensor) -> dict[str, float]:
        num_others = 1 + self.recipe.mining.num_negatives
        num_queries = len(content) // (1 + num_others)
        torch.manual_seed((self.recipe.loop.seed << 40) ^ (self.step << 8) ^ self.rank)
        with self.accelerator.autocast():
            descriptors = self.forward(content)
        queries, others = descriptors.float().split([num_queries, num_queries * num_others])
        others = others.reshape(num_queries, num_others, -1)
        options = self.recipe.loss
        value = tuple_loss(options.name, queries, others[:, 0], others[:, 1:], margin=options.margin)
        value = value / self.recipe.loop.accumulate
        self.accelerator.backward(value)
        return {"loss": float(value.detach())}

    def state_tensors(self) -> dict[str, Tensor]:
        """The tuples being learned from, and what full mining remembers."""
        return {"tuples": torch.from_numpy(self.mined), "hardest": torch.from_numpy(self.miner.hardest)}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what `state_tensors` gave."""
        self.mined, self.miner.hardest = tensors["tuples"].numpy(), tensors["hardest"].numpy()
