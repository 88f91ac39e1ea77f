"""The branch of taught points: a small network learns where a large one finds keypoints, and what
it says of them.

The teacher looks at every photo once, as it is; the learner sees views of it, cut out anew every
time, by day and by night. So it comes to say in every light what the teacher says in the best.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.local.dense import DenseNetwork, sample_descriptors
from whence.models.local.networks import open_extractor
from whence.runtime import atomic_write, progress, random_stream
from whence.training.branches.homographies import (
    View,
    cut_view,
    draw_beside,
    draw_matrix,
    find_same_point,
    is_inside,
    map_points,
)
from whence.training.branches.places import Batch, shard
from whence.training.options.local import TaughtPointsOptions
from whence.training.pixels import cached_pixels, key_of
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share

_ORDER, _VIEW = 151, 152
_RIM_PX = 2.0


class Taught(NamedTuple):
    """What the teacher found on all photos, as they are kept."""

    points: np.ndarray
    """(N, K, 2) float32; NaN where it found fewer."""
    descriptors: np.ndarray
    """(N, K, D) float16."""


class TaughtViews(NamedTuple):
    """Views of this process's photos of a batch: all first ones, then all second ones."""

    grey: Tensor
    """(2 b, h, w) uint8."""
    targets: Tensor
    """(2 b, h, w) float32 in [0, 1]: 1 where the teacher sees a keypoint; -1 where nobody knows."""
    points: Tensor
    """(2 b, n, 2) float32 where chosen keypoints lie in each view."""
    is_chosen: Tensor
    """(b, n) bool: what is there to fill up, False."""
    taught: Tensor
    """(b, n, D) float32 what the teacher says of them."""


class TaughtPointsBranch(Branch):
    """All photos once an epoch, in a random order."""

    def __init__(self, options: TaughtPointsOptions, setup: Setup) -> None:
        """Raises `BadOption`, `NoPhotos`, and as `open_extractor`."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.photos = setup.data.photos
        seen = options.views
        self.size_px = (seen.stored_width, seen.stored_height)
        self.same = find_same_point(
            self.photos, setup.data.folder("photos with their cameras"), self.size_px
        )
        if not 1 <= options.num_photos <= len(self.same.rows):
            raise BadOption(
                f"batches of {options.num_photos} photos of {len(self.same.rows)} are not "
                "possible; change num_photos"
            )
        network = setup.learner.module
        if not isinstance(network, DenseNetwork) or not network.dim:
            raise BadOption(
                f"{self.name} needs a learner that describes points: --set learner.network=strided"
            )

    def describe_data(self) -> dict[str, Any]:
        return {
            "num_photos": len(self.photos),
            "num_from_one_point": self.same.num_others,
            "teacher": self.options.teacher,
        }

    def open(self) -> None:
        (width, height), setup = self.size_px, self.setup
        self.pixels = cached_pixels(
            self.photos,
            width=width,
            height=height,
            folder=setup.pixels_folder,
            show_progress=setup.show_progress,
        )
        self.taught = self._taught()
        dim, own = self.taught.descriptors.shape[2], setup.learner.module.dim
        if dim != own:
            raise BadOption(
                f"{self.options.teacher} gives {dim} numbers a point, the learner {own}"
            )

    def _taught(self) -> Taught:
        """What the teacher says, kept on disk."""
        options, num = self.options, self.options.num_points
        teacher = open_extractor(
            options.teacher, max_keypoints=num, weights=options.teacher_weights
        )
        self.setup.learner.learn_from(options.teacher, teacher.digest)
        said = repr((key_of(self.photos), self.size_px, teacher.key))
        file = (
            Path(self.setup.pixels_folder)
            / f"points-{hashlib.blake2b(said.encode(), digest_size=12).hexdigest()}.npz"
        )
        if not file.is_file():
            points = np.full((len(self.photos), num, 2), np.nan, np.float32)
            descriptors = np.zeros(
                (len(self.photos), num, self.setup.learner.module.dim), np.float16
            )
            rows = self.same.rows.tolist()
            with progress("teaching", total=len(rows), show=self.setup.show_progress) as advance:
                for row in rows:
                    found = teacher.extract(np.array(self.pixels[row]))
                    if found.descriptors.shape[1] != descriptors.shape[2]:
                        raise BadOption(
                            f"{options.teacher} gives {found.descriptors.shape[1]} numbers a "
                            "point, the learner others"
                        )
                    points[row, : len(found.keypoints)] = found.keypoints[:num]
                    descriptors[row, : len(found.keypoints)] = found.descriptors[:num]
                    advance(1)
            with atomic_write(file) as out:
                np.savez(out, points=points, descriptors=descriptors)
        with np.load(file) as kept:
            return Taught(kept["points"], kept["descriptors"])

    def num_batches(self, epoch: int) -> int:
        return len(self.same.rows) // self.options.num_photos

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.options.num_photos
        order = random_stream(self.setup.seed, _ORDER, place.epoch).permutation(self.same.rows)
        whole = order[place.number * size : (place.number + 1) * size]
        rows = shard(Batch(whole, whole), rank=share.rank, num_ranks=share.num_ranks).rows
        firsts, seconds = zip(
            *(self._pair(int(row), place, slot) for slot, row in enumerate(rows)), strict=True
        )
        views = [*firsts, *seconds]
        points, is_chosen, taught = self._chosen(rows, firsts, seconds, place)
        content = TaughtViews(
            torch.from_numpy(np.stack([view.grey for view in views])),
            torch.from_numpy(
                np.stack(
                    [
                        self._target(view, int(row))
                        for view, row in zip(views, [*rows, *rows], strict=True)
                    ]
                )
            ),
            torch.from_numpy(points),
            torch.from_numpy(is_chosen),
            torch.from_numpy(taught),
        )
        return Read(content, len(views))

    def _pair(self, row: int, place: BatchPlace, slot: int) -> tuple[View, View]:
        """Two views of a photo, or of others from its point; their matrices begin at the photo
        itself."""
        random = random_stream(self.setup.seed, _VIEW, *place, row)
        seen = self.options.views
        first = draw_matrix(random, seen, self.size_px)
        return (
            self._cut(row, first, random),
            self._cut(row, draw_beside(random, seen, self.size_px, first), random),
        )

    def _cut(self, row: int, matrix: np.ndarray, random: np.random.Generator) -> View:
        others = self.same.others.get(row, ())
        if not others or random.random() >= self.options.views.other_share:
            return cut_view(self.pixels[row], matrix, self.options.views, random, row)
        other, between = others[int(random.integers(len(others)))]
        view = cut_view(
            self.pixels[other], matrix @ np.linalg.inv(between), self.options.views, random, other
        )
        return view._replace(matrix=matrix)

    def _target(self, view: View, row: int) -> np.ndarray:
        """The map of the teacher's keypoints in a view."""
        height, width = view.grey.shape
        known = _warped_whole(view.matrix, self.size_px, (width, height))
        if view.row != row:
            between = dict(self.same.others[row])[view.row]
            known *= _warped_whole(
                view.matrix @ np.linalg.inv(between), self.size_px, (width, height)
            )
        found = self.taught.points[row]
        points = map_points(found[np.isfinite(found[:, 0])].astype(np.float64), view.matrix)
        target = draw_points(points, width, height, spread_px=self.options.spread_px)
        target[known == 0] = -1
        return target

    def _chosen(
        self,
        rows: np.ndarray,
        firsts: tuple[View, ...],
        seconds: tuple[View, ...],
        place: BatchPlace,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keypoints that both views show, at most so many, drawn: where they lie, which are there,
        what the teacher says."""
        num, half = self.options.num_described, len(rows)
        points = np.zeros((2 * half, num, 2), np.float32)
        is_chosen = np.zeros((half, num), bool)
        taught = np.zeros((half, num, self.taught.descriptors.shape[2]), np.float32)
        for slot, (row, first, second) in enumerate(zip(rows, firsts, seconds, strict=True)):
            found = self.taught.points[row].astype(np.float64)
            at = [map_points(found, view.matrix) for view in (first, second)]
            height, width = first.grey.shape
            both = np.flatnonzero(
                np.isfinite(found[:, 0])
                & np.logical_and(*(is_inside(one, width, height, margin=_RIM_PX) for one in at))
            )
            kept = random_stream(self.setup.seed, _VIEW, *place, int(row), 1).permutation(both)[
                :num
            ]
            is_chosen[slot, : len(kept)] = True
            points[slot, : len(kept)], points[half + slot, : len(kept)] = at[0][kept], at[1][kept]
            taught[slot, : len(kept)] = self.taught.descriptors[row, kept]
        return points, is_chosen, taught

    def change(self, content: TaughtViews, draw: Draw) -> TaughtViews:
        """The batch on the device that learns."""
        return TaughtViews(*(part.to(draw.device) for part in content))

    def learn(self, learner: nn.Module, content: TaughtViews, draw: Draw) -> Losses:
        draw.seed_torch(1 + draw.share.rank)
        with draw.autocast():
            maps = learner(draw.arranged(content.grey[:, None].float() / 255))
        options = self.options
        known = content.targets >= 0
        detection = nn.functional.binary_cross_entropy_with_logits(
            maps.logits.float()[known], content.targets[known]
        )
        found = sample_descriptors(maps, content.points)
        half = len(content.is_chosen)
        first, second, taught = (
            found[:half][content.is_chosen],
            found[half:][content.is_chosen],
            content.taught[content.is_chosen],
        )
        cosine, contrast = found.new_zeros(()), found.new_zeros(())
        for one in (first, second):
            cosine = cosine + (1 - (one * taught).sum(dim=1)).mean() / 2
            contrast = contrast + both_ways(one, taught, options.temperature) / 2
        between = both_ways(first, second, options.temperature)
        parts = {"detection": detection, "cosine": cosine, "contrast": contrast, "between": between}
        total = (
            options.detection * detection
            + options.cosine * cosine
            + options.contrast * contrast
            + options.between_views * between
        )
        return Losses(total, {name: value.detach() for name, value in parts.items()})


def both_ways(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The mean cross-entropy of the softmax of similarities of unit vectors (n, D), whose rows i
    belong together."""
    similarities = first @ second.T / temperature
    right = torch.arange(len(first), device=first.device)
    return (
        nn.functional.cross_entropy(similarities, right)
        + nn.functional.cross_entropy(similarities.T, right)
    ) / 2


def draw_points(points: np.ndarray, width: int, height: int, *, spread_px: float) -> np.ndarray:
    """(height, width) float32: bells of this standard deviation and height 1 at points (N, 2); of
    two the higher counts."""
    drawn = np.zeros((height, width), np.float32)
    reach = int(np.ceil(3 * spread_px))
    inside = points[is_inside(points, width, height)]
    middles = np.rint(inside).astype(np.int64)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            columns, rows = middles[:, 0] + dx, middles[:, 1] + dy
            on = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
            squared = (columns[on] - inside[on, 0]) ** 2 + (rows[on] - inside[on, 1]) ** 2
            np.maximum.at(
                drawn,
                (rows[on], columns[on]),
                np.exp(-squared / (2 * spread_px**2)).astype(np.float32),
            )
    return drawn


def _warped_whole(
    matrix: np.ndarray, photo_px: tuple[int, int], view_px: tuple[int, int]
) -> np.ndarray:
    """(h, w) uint8: 1 where a view shows the photo."""
    whole = np.ones((photo_px[1], photo_px[0]), np.uint8)
    return np.asarray(cv2.warpPerspective(whole, matrix, view_px, flags=cv2.INTER_NEAREST))
