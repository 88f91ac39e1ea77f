"""The branch of distillation: a small network learns a large one's descriptors, so that it can ask
in the large one's database.

The teacher describes every photo once; what it said is kept beside the decoded photos, for every
training that asks for it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption, NoPhotos, NotFitted, UnreadableImage
from whence.models.backbones.base import Features
from whence.models.descriptor import DescriptorModel, load_model
from whence.runtime import atomic_write, progress, random_stream
from whence.training.branches.places import Batch, shard
from whence.training.options.distilled import DistilledOptions
from whence.training.pixels import cached_pixels, key_of, stored_size
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share
from whence.training.ways import IsKept, SeenPhotos, Ways
from whence.types import SkippedPhoto

_ORDER = 109


class TaughtPhotos(NamedTuple):
    """This process's photos of a batch, and what the teacher says of them."""

    photos: SeenPhotos
    rows: Tensor
    """(b, D) float32 of unit length."""


class DistilledBranch(Branch):
    """All photos once an epoch, in a random order; the squared distance between unit vectors,
    student's and teacher's."""

    def __init__(self, options: DistilledOptions, setup: Setup) -> None:
        """Raises `BadOption`, `NoPhotos`, `UnknownName`, and as `load_teacher`."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        if not options.teacher:
            raise BadOption(
                f"say which model is learned from: --set {self.name}.teacher=NAME, or teacher=NAME"
            )
        self.photos = setup.data.photos
        if not 1 <= options.batch_size <= len(self.photos):
            raise BadOption(
                f"batches of {options.batch_size} photos of {len(self.photos)} are not possible; "
                "change batch_size"
            )
        self.teacher = load_teacher(options)
        if self.teacher.dim != setup.learner.module.dim:
            raise BadOption(
                f"{self.teacher.name} gives {self.teacher.dim} dimensions, the learner "
                f"{setup.learner.module.dim}: for a head that "
                f"ends in a linear layer set aggregator.options.dim={self.teacher.dim}"
            )
        self.ways = Ways(options.augment, setup, of=key_of(self.photos))

    def describe_data(self) -> dict[str, Any]:
        return {"num_photos": len(self.photos), "teacher": self.teacher.card.card_id}

    def open(self) -> None:
        (width, height), setup = stored_size(self.options.augment), self.setup
        self.pixels = cached_pixels(
            self.photos,
            width=width,
            height=height,
            folder=setup.pixels_folder,
            show_progress=setup.show_progress,
        )
        self.taught = self._described()
        self.usable = np.flatnonzero(self.taught.any(axis=1))
        if len(self.usable) < self.options.batch_size:
            raise NoPhotos(
                f"{self.teacher.name} describes {len(self.usable)} of {len(self.photos)} photos, "
                "too few for a batch"
            )
        self.ways.open()

    def _described(self) -> np.ndarray:
        """(N, D) float32 by the teacher, kept on disk; zero for photos that it cannot describe."""
        said = json.dumps(
            [self.teacher.card.card_id, self.teacher.options], sort_keys=True, default=str
        )
        key = hashlib.blake2b(f"{key_of(self.photos)}|{said}".encode(), digest_size=12).hexdigest()
        file = Path(self.setup.pixels_folder) / f"taught-{key}.npy"
        if not file.is_file():
            rows = np.zeros((len(self.photos), self.teacher.dim), np.float32)
            files = [self.photos.file(row) for row in range(len(self.photos))]
            with progress("teaching", total=len(files), show=self.setup.show_progress) as advance:
                for row, found in enumerate(self.teacher.describe_each(files)):
                    if isinstance(found, UnreadableImage):
                        self.setup.data.report(
                            (SkippedPhoto(self.photos.paths[row], found.reason),)
                        )
                    else:
                        rows[row] = found.descriptor
                    advance(1)
            with atomic_write(file) as out:
                np.save(out, rows)
        taught: np.ndarray = np.load(file, mmap_mode="r")
        return taught

    def num_batches(self, epoch: int) -> int:
        return len(self.usable) // self.options.batch_size

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.options.batch_size
        order = random_stream(self.setup.seed, _ORDER, place.epoch).permutation(self.usable)
        whole = order[place.number * size : (place.number + 1) * size]
        rows = shard(Batch(whole, whole), rank=share.rank, num_ranks=share.num_ranks).rows

        def photo(number: int, is_kept: IsKept) -> tuple[str, np.ndarray | None]:
            name = str(rows[number])
            return name, None if is_kept(name) else self.pixels[rows[number]]

        photos = self.ways.read(place, len(rows), photo, first=share.rank * len(rows))
        return Read(TaughtPhotos(photos, torch.from_numpy(np.array(self.taught[rows]))), len(rows))

    def change(self, content: TaughtPhotos, draw: Draw) -> tuple[Tensor | Features, Tensor]:
        """The network's input, and what it should say (b, D)."""
        return self.ways.change(content.photos, draw), content.rows.to(draw.device)

    def learn(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Losses:
        images, taught = content
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            descriptors = learner(images)
        unit = nn.functional.normalize(descriptors.float(), dim=1)
        return Losses((unit - taught).square().sum(dim=1).mean())

    def keep(self) -> None:
        self.ways.keep()


def load_teacher(options: DistilledOptions) -> DescriptorModel:
    """The model that is learned from, with what comes packaged where it is fitted on photos.

    Raises as `load_model`, and `NotFitted` where nothing is packaged.
    """
    teacher = load_model(options.teacher, options=options.teacher_options)
    if not teacher.is_fitted:
        try:
            teacher.load_packaged()
        except BadOption as error:
            raise NotFitted(
                f"{teacher.name} is fitted on photos, and nothing comes packaged to learn from: "
                f"{error}"
            ) from None
    return teacher
