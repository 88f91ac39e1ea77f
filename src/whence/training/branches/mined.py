"""The branch of mined tuples.

An epoch is a refresh: tuples are mined with the learner as it stands, then all are learned from,
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators.words import NetVlad
from whence.models.backbones.base import Features
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.runtime import progress, random_stream
from whence.training.branches.mining import Miner
from whence.training.branches.tuples import TupleSet, make_tuple_set
from whence.training.losses.tuples import tuple_loss
from whence.training.options.augment import AugmentOptions
from whence.training.options.sequences import SequencesOptions
from whence.training.options.tuples import TuplesOptions, WordOptions
from whence.training.pixels import cached_set, key_of, stored_size
from whence.training.task import BatchPlace, Branch, Describe, Draw, Losses, Read, Setup, Share
from whence.training.ways import IsKept, ReadPhoto, SeenPhotos, Ways

_WORDS = 93


def sample_locations(
    network: Network, photos: np.ndarray, *, options: WordOptions, device: torch.device, seed: int
) -> Tensor:
    """Local descriptors (M, C) of unit length at random locations of photos (N, H, W, 3) uint8."""
    random = random_stream(seed, _WORDS, 1)
    found = []
    with torch.inference_mode():
        for photo in photos:
            map = (
                network.features(normalise(torch.from_numpy(np.array(photo[None])).to(device)))
                .map[0]
                .flatten(1)
            )
            chosen = random.choice(
                map.shape[1], min(options.num_locations, map.shape[1]), replace=False
            )
            found.append(
                nn.functional.normalize(
                    map[:, torch.from_numpy(chosen).to(device)].T.float(), dim=1
                ).cpu()
            )
    return torch.cat(found)


class Tuples(NamedTuple):
    """This process's tuples of a batch."""

    queries: SeenPhotos
    others: SeenPhotos
    """Each query's positive and its negatives."""


class TupleBranch(Branch):
    """Queries, their positives and their negatives."""

    is_mined = True

    def __init__(self, options: TuplesOptions | SequencesOptions, setup: Setup) -> None:
        """Raises `BadOption`, `NoPhotos` and `UnknownName`."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.tuples = self._tuple_set()
        self.miner = Miner(self.tuples, options=options.mining, seed=setup.seed)
        self.mined = np.empty((0, 2 + options.mining.num_negatives), np.int64)
        if not 1 <= options.batch_queries <= self.miner.num_tuples:
            raise BadOption(
                f"a batch of {options.batch_queries} tuples is not possible with "
                f"{self.miner.num_tuples} a refresh; change batch_queries or mining.num_queries"
            )
        if options.batch_queries % setup.share.num_ranks:
            raise BadOption(
                f"{options.batch_queries} tuples cannot be shared evenly by "
                f"{setup.share.num_ranks} processes"
            )
        seen = options.augment
        plain = AugmentOptions(
            width=seen.width,
            height=seen.height,
            flip_share=seen.flip_share,
            num_views=min(1, seen.num_views),
        )
        data = self.tuples.data
        of = f"{key_of(data.database)}-{key_of(data.queries)}"
        self.ways, self.plain = Ways(seen, setup, of=of), Ways(plain, setup, of=of)

    def _tuple_set(self) -> TupleSet:
        return make_tuple_set(self.setup.data.set, options=self.options.mining)

    def describe_data(self) -> dict[str, Any]:
        data = self.tuples.data
        sizes = {"num_database": len(data.database), "num_queries": len(data.queries)}
        return {**sizes, "num_queries_with_positives": len(self.tuples.queries)}

    def open(self) -> None:
        self.pixels = cached_set(
            self.tuples.data, size_px=stored_size(self.options.augment), setup=self.setup
        )
        self.ways.open()
        self.plain.open()

    def keep(self) -> None:
        self.ways.keep()
        self.plain.keep()

    def start(self, learner: nn.Module, device: torch.device) -> None:
        """Let visual words that are in no weights to start from begin at the k-means of local
        descriptors of training photos."""
        holders = [part for part in learner.modules() if isinstance(part, NetVlad)]
        if not holders or not self.setup.learner.begins_anew or not isinstance(learner, Network):
            return
        seed, total = self.setup.seed, len(self.pixels)
        random = random_stream(seed, _WORDS, 0)
        chosen = random.choice(total, min(self.options.words.num_photos, total), replace=False)
        learner.eval()
        sample = sample_locations(
            learner, self._sampled(chosen), options=self.options.words, device=device, seed=seed
        )
        for holder in holders:
            holder.fit(sample, seed=seed)
        learner.train()

    def _sampled(self, rows: np.ndarray) -> np.ndarray:
        """Photos (n, H, W, 3) uint8 whose local descriptors visual words begin from."""
        return self._resized(rows)

    def num_batches(self, epoch: int) -> int:
        return self.miner.num_tuples // self.options.batch_queries

    def refresh(self, epoch: int, describe: Describe) -> None:
        """Mine the tuples of a refresh; the main process does and tells the others."""
        if describe.share.rank == 0:
            asked = partial(
                describe, read=self._looked_at, batch_size=self.options.mining.batch_size
            )
            with progress("mining", total=None, show=self.setup.show_progress):
                mined = self.miner.mine(epoch, asked)
        else:
            mined = np.zeros((self.miner.num_tuples, self.mined.shape[1]), np.int64)
        self.mined = describe.broadcast(mined)

    def _looked_at(self, rows: np.ndarray) -> np.ndarray | Features:
        """Photos to be described, or what the backbone made of them."""
        if self.plain.maps is None:
            return self._resized(rows)
        return self.plain.plain(
            [str(row) for row in rows], lambda missing: self._resized(rows[missing])
        )

    def _resized(self, rows: np.ndarray) -> np.ndarray:
        return self._at_size(self.pixels[rows])

    def _at_size(self, photos: np.ndarray) -> np.ndarray:
        """Photos (..., H, W, 3) uint8 at the size that is learned from, unchanged otherwise."""
        seen = self.options.augment
        if photos.shape[-3:-1] == (seen.height, seen.width):
            return photos
        flat = photos.reshape(-1, *photos.shape[-3:])
        resized = [
            cv2.resize(photo, (seen.width, seen.height), interpolation=cv2.INTER_AREA)
            for photo in flat
        ]
        return np.stack(resized).reshape(*photos.shape[:-3], seen.height, seen.width, 3)

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.options.batch_queries // share.num_ranks
        first = share.rank * size
        start = place.number * self.options.batch_queries + first
        mine = self.mined[start : start + size]
        queries, others = self.tuples.num_database + mine[:, 0], mine[:, 1:].ravel()
        read = Tuples(
            self.ways.read(place, len(queries), self._photos(queries), first=first),
            self.plain.read(
                place, len(others), self._photos(others), first=self.options.batch_queries
            ),
        )
        return Read(read, len(queries) + len(others))

    def _photos(self, rows: np.ndarray) -> ReadPhoto:
        def photo(number: int, is_kept: IsKept) -> tuple[str, np.ndarray | None]:
            name = str(rows[number])
            return name, None if is_kept(name) else self.pixels[rows[number : number + 1]][0]

        return photo

    def change(self, content: Tuples, draw: Draw) -> Tensor | Features:
        """The network's input: the queries, then the others. All are mirrored, or none."""
        queries, others = (
            self.ways.change(content.queries, draw),
            self.plain.change(content.others, draw),
        )
        if isinstance(queries, Tensor) and isinstance(others, Tensor):
            return draw.arranged(torch.cat([queries, others]))
        assert isinstance(queries, Features)
        assert isinstance(others, Features)
        tokens = (
            None
            if queries.cls is None or others.cls is None
            else torch.cat([queries.cls, others.cls])
        )
        return Features(torch.cat([queries.map, others.map]), tokens)

    def learn(self, learner: nn.Module, content: Tensor | Features, draw: Draw) -> Losses:
        num_others = 1 + self.options.mining.num_negatives
        draw.seed_torch(draw.share.rank)
        with draw.autocast():
            descriptors = learner(content)
        num_queries = len(descriptors) // (1 + num_others)
        queries, others = descriptors.float().split([num_queries, num_queries * num_others])
        others = others.reshape(num_queries, num_others, -1)
        options = self.options.loss
        return Losses(
            tuple_loss(options.name, queries, others[:, 0], others[:, 1:], margin=options.margin)
        )

    def state(self) -> dict[str, Tensor]:
        """The tuples being learned from, and what full mining remembers."""
        return {
            "tuples": torch.from_numpy(self.mined),
            "hardest": torch.from_numpy(self.miner.hardest),
        }

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on with what `state` gave."""
        self.mined, self.miner.hardest = tensors["tuples"].numpy(), tensors["hardest"].numpy()
