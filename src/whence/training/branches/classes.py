"""The branch of classes: groups in turn, a classifier and its optimizer a group, and crops towards
focal points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.data.images import image_header, load_image
from whence.data.panoramas import (
    cut_crop,
    direction_deg,
    is_panorama,
    left_column,
    require_panoramas,
)
from whence.errors import BadOption, NoPhotos, UnreadableImage
from whence.index.cells.classifier import CellClassifier, write_cells
from whence.models.backbones.base import Features
from whence.training.branches.grouped import ClassBatches, make_grouped
from whence.training.branches.placed import PlacePhotos
from whence.training.branches.places import Batch, shard
from whence.training.losses.by_label import make_classifiers, prototypes_of
from whence.training.losses.sharded import bounds, gathered, share_classifiers
from whence.training.options.classes import ClassesOptions
from whence.training.pixels import at_size, read_at, spread_rows, stored_size
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share
from whence.training.turns import Turns
from whence.training.ways import IsKept, Ways
from whence.types import SkippedPhoto

_ANGLES_DEG = {"lateral": 0.0, "frontal": 90.0}
_NUM_LOOKED_AT = 16
"""Photos whose shape is looked at before anything is learned."""


class ClassBranch(Branch):
    """Photos of the classes of one group, and its classifier; a photo that cannot be read is named,
    and another takes its place."""

    def __init__(self, options: ClassesOptions, setup: Setup) -> None:
        """Raises `NoPhotos`, `BadOption`, `UnknownName`, and `InputError` where the run's partition
        is another's."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.partition_file = (
            None if setup.folder is None else setup.folder / f"{self.name}.partition.npz"
        )
        if options.batches_per_turn < 1:
            raise BadOption(f"turns of {options.batches_per_turn} batches are not possible")
        files = setup.data.files(are_panoramas=options.are_panoramas)
        self.grouped = make_grouped(
            files,
            cells=options.cells,
            num_groups=options.num_groups,
            partition_file=self.partition_file,
        )
        self.batches = self.make_batches(options)
        self.ways = Ways(options.augment, setup)
        self._unread: dict[int, str] = {}
        self._focal = np.empty((0, 2))
        if options.are_panoramas:
            angle = _ANGLES_DEG[options.view]
            self._focal = self.grouped.partition.focal_points(
                distance_m=options.focal_m, angle_deg=angle
            )

        self.make_loss(options)

    def make_batches(self, options: ClassesOptions) -> ClassBatches:
        """Batches of classes. Raises `BadOption`."""
        return ClassBatches(self.grouped, batch_size=options.batch_size, seed=self.setup.seed)

    def make_loss(self, options: ClassesOptions) -> None:
        """Get what is learned by ready. Raises `BadOption` and `UnknownName`."""
        num_classes = [len(group) for group in self.grouped.groups]
        parts = make_classifiers(
            options.loss, num_classes=num_classes, dim=self.setup.learner.module.dim
        )
        self.is_state_shared = options.is_sharded and self.setup.share.num_ranks > 1
        if self.is_state_shared:
            if self.setup.dtype == torch.float16:
                raise BadOption(
                    "is_sharded goes with loop.precision bf16 or no: fp16 skips steps by what one "
                    "process saw"
                )
            parts = share_classifiers(parts, self.setup.share)
        self.turns = Turns(parts, options=options.optimizer)
        self._whole: dict[str, Tensor] = {}

    def describe_data(self) -> dict[str, Any]:
        return {**self.grouped.counts(), "partition": self.grouped.partition.digest}

    def open(self) -> None:
        """Look at the shape of some photos, and keep the partition beside the run. Raises
        `InputError`."""
        files = self.grouped.files
        sizes, names = [], []
        for row in spread_rows(len(files), _NUM_LOOKED_AT).tolist():
            try:
                header = image_header(files.file(row))
                sizes.append((header.width, header.height))
                names.append(files.names.of(row))
            except UnreadableImage as error:
                self._skip(row, error.reason)
        require_panoramas(sizes, names, are_wanted=self.options.are_panoramas)
        if self.partition_file is not None and not self.partition_file.is_file():
            self.grouped.partition.write(self.partition_file)
        self.ways.open()

    def keep(self) -> None:
        self.ways.keep()

    def finish(self, weights: Path) -> None:
        """Write the cells that the classifiers tell apart, for `whence index --cells`: cells
        without headings, all of a map."""
        partition = self.grouped.partition
        if partition.options.has_headings or len(self.grouped.groups) < len(
            partition.groups.counts
        ):
            return
        # The classifier's groups stand in the partition's own order, turns in that of the photos.
        parts = [self.turns.parts[turn] for turn in np.argsort(partition.num_in_order)]
        found = [prototypes_of(part) for part in parts]
        if self.is_state_shared:
            order = np.argsort(partition.num_in_order).tolist()
            found = [(self._whole[f"{turn}.part.loss.W"].float().numpy().T, None) for turn in order]
        bias = [one[1] for one in found if one[1] is not None]
        cells = CellClassifier.of_groups(
            partition, [one[0] for one in found], model=str(weights.absolute()), bias=bias
        )
        write_cells(weights.with_name(f"{self.name}.cells.npz"), cells)

    def num_batches(self, epoch: int) -> int:
        return self.options.batches_per_turn

    def begin(self, epoch: int, device: torch.device) -> None:
        self.turns.begin(self.batches.group_of(epoch), device)

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        return (self.turns.optimizer,)

    def read(self, place: BatchPlace, share: Share) -> Read:
        classes = self.batches.classes(place.epoch, place.number)
        mine = shard(
            Batch(np.arange(len(classes)), classes), rank=share.rank, num_ranks=share.num_ranks
        )

        def photo(number: int, is_kept: IsKept) -> tuple[str, np.ndarray | None]:
            number = int(mine.rows[number])
            return self._photo(place, number, int(classes[number]), is_kept)

        photos = self.ways.read(place, len(mine.rows), photo, first=int(mine.rows[0]))
        return Read(PlacePhotos(photos, torch.from_numpy(classes)), len(mine.rows))

    def _photo(
        self, place: BatchPlace, number: int, which: int, is_kept: IsKept
    ) -> tuple[str, np.ndarray | None]:
        """The first photo of a class, in the order drawn, that can be read: its name, and its
        pixels as they are kept decoded."""
        rows = self.batches.rows(place.epoch, place.number, number, which)
        cell = int(self.grouped.groups[self.batches.group_of(place.epoch)][which])
        for row in rows.tolist():
            if row not in self._unread:
                try:
                    return self._seen(self.grouped.files.file(row), row, cell, is_kept)
                except UnreadableImage as error:
                    self._skip(row, error.reason)
        first = int(rows[0])
        raise NoPhotos(
            f"no photo of a class can be read; one is {str(self.grouped.files.file(first))!r}: "
            f"{self._unread[first]}"
        )

    def _seen(
        self, file: Path, row: int, cell: int, is_kept: IsKept
    ) -> tuple[str, np.ndarray | None]:
        width, height = stored_size(self.options.augment)
        looking = None
        if self.options.are_panoramas:
            files = self.grouped.files
            looking = float(
                direction_deg(np.array([files.east_m[row], files.north_m[row]]), self._focal[cell])
            )
        name = _name_of(file, looking) if self.options.augment.num_views else ""
        if is_kept(name):
            return name, None
        if looking is None:
            return name, read_at(file, width, height)
        panorama = load_image(file)
        if not is_panorama(panorama.shape[1], panorama.shape[0]):
            raise UnreadableImage(
                file, f"{panorama.shape[1]} x {panorama.shape[0]} pixels: no panorama"
            )
        left = left_column(
            looking, heading_deg=float(files.heading_deg[row]), height_px=len(panorama)
        )
        return name, at_size(np.ascontiguousarray(cut_crop(panorama, left)), width, height)

    def _skip(self, row: int, reason: str) -> None:
        if row not in self._unread:
            self._unread[row] = reason
            self.setup.data.report((SkippedPhoto(self.grouped.files.names.of(row), reason),))

    def change(self, content: PlacePhotos, draw: Draw) -> tuple[Tensor | Features, Tensor]:
        """The network's input, and the classes of the whole batch."""
        return self.ways.change(content.photos, draw), content.labels

    def learn(
        self, learner: nn.Module, content: tuple[Tensor | Features, Tensor], draw: Draw
    ) -> Losses:
        images, labels = content
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            descriptors = learner(images)
        return Losses(self.turns.part(draw.gather(descriptors.float()), labels.to(draw.device)))

    def state(self) -> dict[str, Tensor]:
        """As a single process keeps it, also where classes are shared: a run goes on with any
        number of processes."""
        found = self.turns.state()
        if self.is_state_shared:
            for number, name in self._shared(found):
                num_classes = len(self.grouped.groups[number])
                found[name] = gathered(
                    found[name],
                    num_classes=num_classes,
                    share=self.setup.share,
                    device=self.setup.device,
                )
            self._keep_whole(found)
        return found

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        if self.is_state_shared:
            self._keep_whole(tensors)
            tensors = dict(tensors)
            for number, name in self._shared(tensors):
                first, last = bounds(len(self.grouped.groups[number]), self.setup.share)
                tensors[name] = tensors[name][:, first:last].clone()
        self.turns.load_state(tensors)

    def _shared(self, tensors: Mapping[str, Tensor]) -> list[tuple[int, str]]:
        """The groups and names of tensors that go by class: the weights, and what an optimizer
        keeps of each."""
        shapes = {
            f"{number}": tensors[f"{number}.part.loss.W"].shape
            for number in range(len(self.grouped.groups))
        }
        found = ((name.partition(".")[0], name) for name in tensors)
        return sorted(
            (int(number), name) for number, name in found if tensors[name].shape == shapes[number]
        )

    def _keep_whole(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep what the classifiers compare with, in the process that writes it when the training
        is over."""
        if self.setup.share.rank == 0:
            self._whole = {
                name: tensor for name, tensor in tensors.items() if name.endswith(".part.loss.W")
            }


def _name_of(file: Path, looking_deg: float | None) -> str:
    """What stands for a photo as it is now, and for the crop of it. Raises `UnreadableImage`."""
    try:
        found = file.stat()
    except OSError as error:
        raise UnreadableImage(file, error.strerror or str(error)) from None
    return f"{file}|{found.st_size}|{found.st_mtime_ns}|{looking_deg}"
