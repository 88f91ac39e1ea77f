"""Augmentation of training photos, on the device they are on, from uint8.

Every photo has its own random numbers, which follow from the seed, the step and the photo's number
in the whole batch: it is changed alike however many processes share the batch, and after a resume.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from whence.models.preprocessing import normalise
from whence.training.options.augment import AugmentOptions

_AUGMENT = 71
_GREY = [124.0, 116.0, 104.0]
"""ImageNet's mean colour."""


class Augment:
    """uint8 photos (B, H, W, 3) to normalised images (B, 3, height, width).

    The order is that of the Deep Visual Geo-localization Benchmark (Berton et al., CVPR 2022):
    colours, perspective, crop, rotation, size. A step of strength 0 is left out; there, a crop of
    strength 0 still changed the shape of photos not 4:3.
    """

    def __init__(self, options: AugmentOptions, *, seed: int = 0) -> None:
        self.options, self.seed = options, seed
        self.transforms = v2.Compose(transforms_of(options))
        self.small = v2.Compose(
            transforms_of(replace(options, width=options.small_width, height=options.small_height))
        )

    def __call__(self, photos: Tensor, *, step: int, batch: int = 0, first: int = 0) -> Tensor:
        """The photos of a step's batch (several are accumulated); `first` is the number of the
        first photo in the whole batch."""
        transforms = self.small if step < self.options.small_steps else self.transforms
        seeds = [
            _number(self.seed, step, batch, number + 1)
            for number in range(first, first + len(photos))
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_number(self.seed, step, batch, 0))
            is_mirrored = float(torch.rand(())) < self.options.flip_share
        return _changed(photos, transforms, seeds, is_mirrored=is_mirrored)

    def fixed(self, photos: Tensor, seeds: Sequence[int], *, is_mirrored: bool) -> Tensor:
        """The photos, each changed as its seed says; none of their changes follows from the
        step."""
        return _changed(photos, self.transforms, seeds, is_mirrored=is_mirrored)


def _changed(
    photos: Tensor, transforms: v2.Transform, seeds: Sequence[int], *, is_mirrored: bool
) -> Tensor:
    with torch.random.fork_rng(devices=[]), _one_thread(photos.device):
        changed = []
        for photo, seed in zip(photos.permute(0, 3, 1, 2), seeds, strict=True):
            torch.manual_seed(seed)
            changed.append(transforms(photo))
    images = torch.stack(changed).permute(0, 2, 3, 1)
    return normalise(images.flip(2) if is_mirrored else images)


def transforms_of(options: AugmentOptions) -> list[v2.Transform]:
    """The steps that have a strength, and the size; from uint8 (3, H, W) to uint8 (3, height,
    width)."""
    size = [options.height, options.width]
    colours = (options.brightness, options.contrast, options.saturation, options.hue)
    steps: list[v2.Transform] = []
    if any(colours):
        steps.append(v2.ColorJitter(*colours))
    if options.grey_share:
        steps.append(v2.RandomGrayscale(options.grey_share))
    if options.perspective:
        steps.append(v2.RandomPerspective(options.perspective, p=0.5))
    if options.crop:
        steps.append(v2.RandomResizedCrop(size, scale=(1 - options.crop, 1), antialias=True))
    if options.rotation_deg:
        steps.append(
            v2.RandomRotation(options.rotation_deg, interpolation=v2.InterpolationMode.BILINEAR)
        )
    steps.append(v2.Resize(size, antialias=True))
    if options.num_ops:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(
            v2.RandAugment(options.num_ops, magnitude=options.magnitude, interpolation=bilinear)
        )
    if options.blur_share:
        steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.3, 1.5))], p=options.blur_share))
    if options.erase_share:
        steps.append(v2.RandomErasing(options.erase_share, scale=(0.02, 0.25), value=_GREY))
    return steps


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU: single photos are too small to be shared by threads, and waking those costs more
    than they do."""
    num_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _number(*keys: int) -> int:
    """A seed of 63 bits from the keys."""
    return int(
        np.random.SeedSequence([_AUGMENT, *keys]).generate_state(1, np.uint64)[0] >> np.uint64(1)
    )
