"""The branch of SegVPR (Paolicelli et al., ICIAP 2021): triplets of labelled photos, what their
pixels show, and another domain."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.data.labels import IDDA_CLASSES, LabelledSet, read_classes
from whence.data.scan import scan_photos
from whence.errors import BadOption
from whence.evaluation.protocol import metric_ground
from whence.geo import neighbors_within
from whence.lists import NeighborLists
from whence.models.aggregators.attention import AttentionPool
from whence.models.backbones.base import Features
from whence.models.networks import Network
from whence.models.preprocessing import normalise
from whence.runtime import atomic_write, random_stream
from whence.training.branches.mined import TupleBranch
from whence.training.branches.tuples import TupleSet, chosen_queries, msls_weights, refuse_scope
from whence.training.losses.tuples import tuple_loss
from whence.training.options.augment import AugmentOptions
from whence.training.options.labelled import LabelledOptions
from whence.training.options.loop import OptimizerOptions
from whence.training.options.tuples import TuplesOptions
from whence.training.pixels import cached_pixels, key_of
from whence.training.segmentation import (
    Opponent,
    fooling_loss,
    make_head,
    opponent_loss,
    segmentation_loss,
)
from whence.training.task import BatchPlace, Draw, Losses, Read, Setup, Share

_WINDOW, _TARGET = 151, 152
_NORMS = re.compile(r"backbone\.(?:.*\.)?bn\d\.(?:weight|bias)|aggregator\.p")
"""Batch norms beside shortcuts, `downsample.1`, go on learning."""


class LabelledBatch(NamedTuple):
    """A batch: photos of triplets with their classes, and photos of the other domain."""

    photos: Tensor
    """(T * (2 + n), H, W, 3) uint8: the queries, then each one's positive and negatives."""
    classes: Tensor
    """(T * (2 + n), H, W) uint8."""
    target: Tensor | None
    """(b, H', W', 3) uint8."""


class LabelledBranch(TupleBranch):
    """Tuples as others are mined; a head says what each pixel shows, an opponent which domain its
    maps are of."""

    def __init__(self, options: LabelledOptions, setup: Setup) -> None:
        """Raises `BadOption`, `NoPhotos` and `UnknownName`."""
        self.labelled: LabelledSet = setup.data.labelled(options.town)
        self.own = options
        if options.width > options.stored_width or options.height > options.stored_height:
            raise BadOption(
                "windows of photos are not larger than these: lower width and height, or raise "
                "stored_width and _height"
            )
        seen = AugmentOptions(
            options.width,
            options.height,
            stored_width=options.stored_width,
            stored_height=options.stored_height,
        )
        as_tuples = TuplesOptions(
            name=options.name or options.kind, weight=options.weight, mining=options.mining,
            batch_queries=options.batch_queries, augment=seen, loss=options.loss,
        )  # fmt: skip
        super().__init__(as_tuples, setup)
        network = setup.learner.module
        if not isinstance(network, Network):
            raise BadOption(
                "what pixels show is learned with a network: a backbone and an aggregator"
            )
        if options.freezes_norms:
            for name, parameter in network.named_parameters():
                if _NORMS.fullmatch(name):
                    parameter.requires_grad_(False)
        self.loss_lr = options.head_lr
        if options.segmentation_weight:
            torch.manual_seed(setup.seed)
            self.loss = make_head(options.head, network.backbone.channels, len(IDDA_CLASSES))
            if options.target and options.adversary_weight:
                self.opponent = Opponent(len(IDDA_CLASSES), options.opponent_width)
                self.opponent_optimizer = OptimizerOptions(
                    "adam", lr=options.opponent_lr, beta2=options.opponent_beta2
                )

    def _tuple_set(self) -> TupleSet:
        found, mining = self.labelled, self.own.mining
        refuse_scope(mining)
        ground = metric_ground(found.set.database, found.set.queries)
        positives, excluded = (
            neighbors_within(ground.database, ground.queries, radius_m=radius_m)
            for radius_m in (mining.positive_m, max(mining.positive_m, mining.excluded_m))
        )
        same = _same_view(positives, found.query_views, found.database_views)
        num = len(found.set.database)
        chosen = chosen_queries(found.set.name, same, excluded, num_database=num, options=mining)
        plain = np.zeros(len(chosen[0]), bool)
        return TupleSet(found.set, *chosen, msls_weights(is_night=plain, is_sideways=plain))

    def open(self) -> None:
        super().open()
        size = (self.own.stored_width, self.own.stored_height)
        found = self.labelled
        key = f"{key_of(found.set.database)}-{key_of(found.set.queries)}"
        self.classes = self._cached_classes(
            (*found.database_labels, *found.query_labels), key, size
        )
        self.target: np.ndarray | None = None
        if self.opponent is not None:
            photos = scan_photos(self.own.target, show_progress=False)
            self.target = cached_pixels(
                photos, width=self.own.target_width, height=self.own.target_height,
                folder=self.setup.pixels_folder, show_progress=self.setup.show_progress,
            )  # fmt: skip

    def _cached_classes(
        self, files: tuple[Path, ...], key: str, size: tuple[int, int]
    ) -> np.ndarray:
        file = Path(self.setup.pixels_folder) / f"classes-{key}-{size[0]}x{size[1]}.npy"
        if not file.is_file():
            with atomic_write(file) as out:
                np.save(out, np.stack([read_classes(path, size_px=size) for path in files]))
        classes: np.ndarray = np.load(file, mmap_mode="r")
        return classes

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.own.batch_queries // share.num_ranks
        first = share.rank * size
        start = place.number * self.own.batch_queries + first
        mine = self.mined[start : start + size]
        tuples = np.concatenate([self.tuples.num_database + mine[:, :1], mine[:, 1:]], axis=1)
        photos, classes = list[np.ndarray](), list[np.ndarray]()
        for number, rows in enumerate(tuples):
            window, is_mirrored = self._window(
                random_stream(self.setup.seed, _WINDOW, *place, first + number)
            )
            for seen, held in (
                (self.pixels[rows], photos),
                (np.stack([self.classes[row] for row in rows]), classes),
            ):
                cut = seen[:, window[0], window[1]]
                held.append(cut[:, :, ::-1] if is_mirrored else cut)
        # The queries first, then each one's others, as tuples are learned from.
        order = [part[:1] for part in photos] + [part[1:] for part in photos]
        of_classes = [part[:1] for part in classes] + [part[1:] for part in classes]
        target = None
        if self.target is not None:
            chosen = random_stream(self.setup.seed, _TARGET, *place, share.rank).integers(
                len(self.target), size=self.own.batch_target
            )
            target = torch.from_numpy(np.stack([self.target[row] for row in chosen]))
        batch = LabelledBatch(
            torch.from_numpy(np.concatenate(order).copy()),
            torch.from_numpy(np.concatenate(of_classes).copy()),
            target,
        )
        return Read(batch, len(batch.photos))

    def _window(self, random: np.random.Generator) -> tuple[tuple[slice, slice], bool]:
        own = self.own
        top = int(random.integers(own.stored_height - own.height + 1))
        left = int(random.integers(own.stored_width - own.width + 1))
        return (slice(top, top + own.height), slice(left, left + own.width)), bool(
            random.random() < own.flip_share
        )

    def change(self, content: Any, draw: Draw) -> Any:
        """Photos as the network takes them, their classes, and those of the other domain."""
        photos = draw.arranged(normalise(content.photos.to(draw.device)))
        target = (
            None
            if content.target is None
            else draw.arranged(normalise(content.target.to(draw.device)))
        )
        return photos, content.classes.to(draw.device), target

    def learn(self, learner: nn.Module, content: Any, draw: Draw) -> Losses:
        images, classes, target = content
        network, own = self.setup.learner.module, self.own
        draw.seed_torch(draw.share.rank)
        with draw.autocast():
            features = network.features(images)
            descriptors = learner(features)
        num_others = 1 + own.mining.num_negatives
        num = len(descriptors) // (1 + num_others)
        queries, others = descriptors.float().split([num, num * num_others])
        others = others.reshape(num, num_others, -1)
        places = tuple_loss(
            own.loss.name, queries, others[:, 0], others[:, 1:], margin=own.loss.margin
        )
        if not own.segmentation_weight:
            return Losses(places, {"places": places})
        with draw.autocast():
            logits = self.loss(features.map)
        pixels = segmentation_loss(
            logits, classes, self._weights(network, features) if own.is_guided else None
        )
        total, named = (
            places + own.segmentation_weight * pixels,
            {"places": places, "pixels": pixels},
        )
        if self.opponent is None or target is None:
            return Losses(total, named)
        with draw.autocast():
            found = self.loss(network.features(target).map)
        source_map, target_map = (_probabilities(one, images.shape[-2:]) for one in (logits, found))
        fooling = fooling_loss(self.opponent, target_map)
        total = total + own.segmentation_weight * own.adversary_weight * fooling
        return Losses(
            total,
            {**named, "fooling": fooling},
            opponent_loss(self.opponent, source_map, target_map),
        )

    def _weights(self, network: Network, features: Features) -> Tensor | None:
        pool = network.aggregator
        return pool.weights(features) if isinstance(pool, AttentionPool) else None


def _probabilities(logits: Tensor, size: torch.Size) -> Tensor:
    """Class probabilities at the size of photos, unweighted in both domains."""
    large = nn.functional.interpolate(
        logits.float(), size=size, mode="bilinear", align_corners=True
    )
    return large.softmax(dim=1)


def _same_view(
    positives: NeighborLists, query_views: np.ndarray, database_views: np.ndarray
) -> NeighborLists:
    """The positives that look the same way as their query."""
    kept = [
        rows[database_views[rows] == view]
        for rows, view in ((positives.of(q), query_views[q]) for q in range(len(query_views)))
    ]
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])])
    return NeighborLists(starts, np.concatenate([np.empty(0, np.int64), *kept]).astype(np.int64))
