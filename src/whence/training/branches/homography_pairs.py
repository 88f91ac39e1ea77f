"""The branch of homography pairs: two views of one photo, every point of which is known in the
other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.cards.text import read_card
from whence.models.checkpoints.files import fill_module, weights_digest
from whence.models.local.dense import (
    DenseMaps,
    DenseNetwork,
    make_dense_network,
    sample_descriptors,
    sample_logits,
)
from whence.runtime import random_stream
from whence.training.branches.homographies import (
    cut_view,
    draw_beside,
    draw_matrix,
    find_same_point,
)
from whence.training.branches.places import Batch, shard
from whence.training.losses.features import (
    Described,
    joint_distillation_loss,
    matching_loss,
    naive_loss,
    silk_loss,
)
from whence.training.losses.heights import both_views, patch_loss
from whence.training.options.local import HomographyPairsOptions
from whence.training.pixels import cached_pixels
from whence.training.task import BatchPlace, Branch, Draw, Losses, Read, Setup, Share

_ORDER, _VIEW = 154, 155
_WITH_TEACHER = ("joint", "matching", "distillation", "naive")
_OF_HEIGHTS = ("persistence", "patches")


class ViewPairs(NamedTuple):
    """First and second views of this process's pairs of a batch."""

    first: Tensor
    """(b, h, w) uint8."""
    second: Tensor
    matrices: Tensor
    """(b, 3, 3) float64 homographies from the first to the second."""


class HomographyPairsBranch(Branch):
    """All photos once an epoch, in a random order, cut out anew every time."""

    def __init__(self, options: HomographyPairsOptions, setup: Setup) -> None:
        """Raises `BadOption`, `NoPhotos`, and as `load_teacher`."""
        super().__init__(options.name or options.kind)
        self.options, self.setup, self.weight = options, setup, options.weight
        self.photos = setup.data.photos
        seen, loss = options.views, options.loss.name
        self.size_px = (seen.stored_width, seen.stored_height)
        self.same = find_same_point(
            self.photos, setup.data.folder("photos with their cameras"), self.size_px
        )
        if not 1 <= options.num_pairs <= len(self.same.rows):
            raise BadOption(
                f"batches of {options.num_pairs} pairs of {len(self.same.rows)} photos are not "
                "possible; change num_pairs"
            )
        learner = setup.learner.module
        if not isinstance(learner, DenseNetwork) or bool(learner.dim) == (loss in _OF_HEIGHTS):
            needed = (
                "a height map, as learner.network=morse-small"
                if loss in _OF_HEIGHTS
                else "descriptors, as learner.network=student-m"
            )
            raise BadOption(f"the loss {loss} needs a learner with {needed}")
        self.teacher = load_teacher(options, setup) if loss in _WITH_TEACHER else None

    def describe_data(self) -> dict[str, Any]:
        return {"num_photos": len(self.photos), "num_from_one_point": self.same.num_others}

    def open(self) -> None:
        (width, height), setup = self.size_px, self.setup
        self.pixels = cached_pixels(
            self.photos,
            width=width,
            height=height,
            folder=setup.pixels_folder,
            show_progress=setup.show_progress,
        )
        if self.teacher is not None:
            self.teacher.to(setup.device)

    def num_batches(self, epoch: int) -> int:
        return len(self.same.rows) // self.options.num_pairs

    def read(self, place: BatchPlace, share: Share) -> Read:
        size = self.options.num_pairs
        order = random_stream(self.setup.seed, _ORDER, place.epoch).permutation(self.same.rows)
        whole = order[place.number * size : (place.number + 1) * size]
        rows = shard(Batch(whole, whole), rank=share.rank, num_ranks=share.num_ranks).rows
        pairs = [self._pair(int(row), place) for row in rows]
        first, second, matrices = (np.stack([pair[part] for pair in pairs]) for part in range(3))
        return Read(
            ViewPairs(
                torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(matrices)
            ),
            2 * len(pairs),
        )

    def _pair(self, row: int, place: BatchPlace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = random_stream(self.setup.seed, _VIEW, *place, row)
        seen = self.options.views
        first = draw_matrix(random, seen, self.size_px)
        second = draw_beside(random, seen, self.size_px, first)
        shown, between = row, np.eye(3)
        others = self.same.others.get(row, ())
        if others and random.random() < seen.other_share:
            shown, between = others[int(random.integers(len(others)))]
        cuts = (
            cut_view(self.pixels[row], first, seen, random, row),
            cut_view(self.pixels[shown], second @ np.linalg.inv(between), seen, random, shown),
        )
        return cuts[0].grey, cuts[1].grey, second @ np.linalg.inv(first)

    def change(self, content: ViewPairs, draw: Draw) -> ViewPairs:
        """The batch on the device that learns."""
        return ViewPairs(*(part.to(draw.device) for part in content))

    def learn(self, learner: nn.Module, content: ViewPairs, draw: Draw) -> Losses:
        draw.seed_torch(1 + draw.share.rank)
        first, second = (part[:, None].float() / 255 for part in (content.first, content.second))
        with draw.autocast():
            # Where a teacher looks at the first view, the learner sees the second alone.
            seen = learner(second if self.teacher is not None else torch.cat([first, second]))
        loss = self.options.loss
        if loss.name in _OF_HEIGHTS:
            heights = seen.logits.float().sigmoid()
            half, matrices = len(first), content.matrices.to(heights)
            if loss.name == "persistence":
                total = both_views(heights[:half], heights[half:], matrices, alpha=loss.alpha)
            else:
                total = patch_loss(heights[:half], heights[half:], matrices, patch_px=loss.patch_px)
            return Losses(total, {"spread": heights.detach().std()})
        taught = None
        if self.teacher is not None:
            with torch.no_grad(), draw.autocast():
                taught = self.teacher(torch.cat([first, second]))
        found = [self._compared(seen, taught, number, content) for number in range(len(first))]
        kept = [one for one in found if one]
        if not kept:
            return Losses(seen.logits.sum() * 0)
        named = {name: torch.stack([one[name] for one in kept]).mean() for name in kept[0]}
        return Losses(
            torch.stack(list(named.values())).sum(),
            {name: value.detach() for name, value in named.items()},
        )

    def _compared(
        self, maps: DenseMaps, taught: DenseMaps | None, number: int, content: ViewPairs
    ) -> dict[str, Tensor]:
        """The losses of one pair; none where its views show too little of the same."""
        num, options, half = len(content.first), self.options, self.options.num_points // 2
        height, width = content.first.shape[-2:]
        strong = None if taught is None else taught.logits[number].float()
        points = choose_points(
            content.matrices[number], (width, height), options.num_points, strong, half
        )
        if len(points[0]) < 8:
            return {}
        at = [part[None].float() for part in points]
        loss, rate = options.loss, options.loss.temperature
        if taught is None:
            ends = [
                read_points(maps, row, where)
                for row, where in ((number, at[0]), (num + number, at[1]))
            ]
            logits = [
                sample_logits(maps.logits[row : row + 1], where)[0]
                for row, where in ((number, at[0]), (num + number, at[1]))
            ]
            return silk_loss(
                ends[0].descriptors, ends[1].descriptors, (logits[0], logits[1]), temperature=rate
            )
        teacher_a, teacher_b = (
            read_points(taught, number, at[0]),
            read_points(taught, num + number, at[1]),
        )
        student = read_points(maps, number, at[1])
        if loss.name == "naive":
            return {"naive": naive_loss(student, teacher_b)}
        named = {}
        if loss.name in ("joint", "matching"):
            named["matching"] = matching_loss(
                teacher_a,
                student,
                teacher_b,
                temperature=rate,
                least_confidence=loss.least_confidence,
                least_share=loss.least_share,
            )
        if loss.name in ("joint", "distillation"):
            named["distillation"] = loss.distillation * joint_distillation_loss(
                teacher_a,
                student,
                teacher_b,
                temperature=rate,
                student_temperature=loss.student_temperature,
                teacher_temperature=loss.teacher_temperature,
            )
        return named


def load_teacher(options: HomographyPairsOptions, setup: Setup) -> DenseNetwork:
    """The network that is learned from, as it stays. Raises `BadOption`, `InputError`, and as
    `fill_module`."""
    if not options.teacher:
        raise BadOption(
            "say which network is learned from: --set teacher=FILE, what a training of local "
            "features wrote"
        )
    name = read_network_name(options.teacher)
    teacher = make_dense_network(name)
    fill_module(teacher, options.teacher, what=f"the teacher {name}")
    learner: DenseNetwork = setup.learner.module
    if teacher.dim != learner.dim:
        raise BadOption(
            f"the teacher {name} gives {teacher.dim} numbers a point, the learner {learner.dim}"
        )
    setup.learner.learn_from(read_card(options.teacher).name, weights_digest(teacher))
    return teacher.eval().requires_grad_(False)


def read_network_name(file: str) -> str:
    """The network that a file of weights is for, as its card says. Raises `UnreadableWeights` for a
    file without one."""
    return read_card(file).backbone


def choose_points(
    matrix: Tensor, size_px: tuple[int, int], num: int, strong: Tensor | None, num_strong: int
) -> tuple[Tensor, Tensor]:
    """At most `num` points (n, 2) of a view and where a homography takes them, on whole pixels of
    both and inside both.

    With the logits `strong` (h, w) of the first view, so many of them are its highest; the others
    are drawn.
    """
    width, height = size_px
    drawn = torch.randperm(width * height, device=matrix.device)
    if strong is not None:
        highest = strong.flatten().argsort(descending=True)[:num_strong]
        drawn = torch.cat([highest, drawn[~torch.isin(drawn, highest)]])
    first = torch.stack([drawn % width, drawn // width], dim=1)
    homogeneous = (
        torch.cat([first.to(matrix), torch.ones_like(first[:, :1]).to(matrix)], dim=1) @ matrix.T
    )
    second = (homogeneous[:, :2] / homogeneous[:, 2:]).round()
    limit = torch.tensor([width - 1, height - 1], device=matrix.device)
    inside = ((second >= 0) & (second <= limit)).all(dim=1)
    return first[inside][:num], second[inside][:num]


def read_points(maps: DenseMaps, row: int, points: Tensor) -> Described:
    """Descriptors and scores that the maps of one view, by its number in the batch, have at points
    (1, n, 2)."""
    assert maps.descriptors is not None, "asked of networks that describe"
    one = DenseMaps(maps.logits[row : row + 1], maps.descriptors[row : row + 1], maps.stride)
    confidences = sample_logits(one.logits, points)[0].sigmoid().clamp(1e-6, 1 - 1e-6)
    return Described(confidences, sample_descriptors(one, points)[0])
