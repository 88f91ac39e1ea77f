"""Pixels for networks: resized as Pillow does at a fraction of the cost, and normalised where the
network is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from whence.errors import BadOption

FILTERS = ("bilinear", "bicubic")


def target_size(size: tuple[int, int], steps: Preprocessing) -> tuple[int, int]:
    """Height and width that an image of height and width `size` is brought to.

    The longer side is cut down to the next integer where the shorter one is asked for, as
    torchvision does. Raises `BadOption` for more than one size.
    """
    if (
        sum(given is not None for given in (steps.size_px, steps.short_side_px, steps.long_side_px))
        > 1
    ):
        raise BadOption("a card gives one of size_px, short_side_px and long_side_px")
    height, width = steps.size_px if steps.size_px is not None else _by_side(size, steps)
    if steps.is_cropped and min(height, width) >= steps.multiple_of:
        return (
            height // steps.multiple_of * steps.multiple_of,
            width // steps.multiple_of * steps.multiple_of,
        )
    if steps.multiple_of > 1:
        height, width = (
            steps.multiple_of * max(1, round(side / steps.multiple_of)) for side in (height, width)
        )
    return height, width


def _sizes(size: tuple[int, int], steps: Preprocessing) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width to resize to, and those of the middle that is then cut out; the same two
    where nothing is."""
    target = target_size(size, steps)
    uncut = target_size(size, replace(steps, multiple_of=1)) if steps.is_cropped else target
    return (uncut if min(uncut) >= steps.multiple_of else target), target


def _middle(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of images (B, C, H, W), where torchvision's centre crop has it."""
    top, left = (
        round((have - want) / 2) for have, want in zip(images.shape[2:], size, strict=True)
    )
    return images[:, :, top : top + size[0], left : left + size[1]]


def _by_side(size: tuple[int, int], steps: Preprocessing) -> tuple[int, int]:
    wanted = steps.long_side_px if steps.short_side_px is None else steps.short_side_px
    side = max(size) if steps.short_side_px is None else min(size)
    if wanted is None or wanted == side or (wanted > side and not steps.enlarge):
        return size
    if steps.short_side_px is None:
        return max(1, round(size[0] * wanted / side)), max(1, round(size[1] * wanted / side))
    return size[0] * wanted // side, size[1] * wanted // side


def resize_image(image: np.ndarray, steps: Preprocessing) -> np.ndarray:
    """A uint8 image (H, W, 3) in the size that `steps` ask for; the same array where it has it
    already.

    With antialiasing both filters come within one level of Pillow's result, and mostly give it to
    the last bit.
    """
    size, target = _sizes(image.shape[:2], steps)
    if size == target == image.shape[:2]:
        return image
    pixels = torch.from_numpy(image if image.flags.writeable else image.copy()).permute(2, 0, 1)[
        None
    ]
    resized = pixels if size == image.shape[:2] else _interpolate(pixels, size, steps)
    return np.ascontiguousarray(_middle(resized, target)[0].permute(1, 2, 0).numpy())


def resize_normalised(images: Tensor, steps: Preprocessing) -> Tensor:
    """Normalised images (B, 3, H, W) float in the size that `steps` ask for: the field's own order,
    twice to eight times slower."""
    size, target = _sizes((images.shape[2], images.shape[3]), steps)
    return _middle(
        images if size == tuple(images.shape[2:]) else _interpolate(images, size, steps), target
    )


def _interpolate(images: Tensor, size: tuple[int, int], steps: Preprocessing) -> Tensor:
    if steps.interpolation not in FILTERS:
        raise BadOption(
            f"interpolation is {' or '.join(FILTERS)} for networks, not {steps.interpolation!r}"
        )
    return nn.functional.interpolate(
        images, size=size, mode=steps.interpolation, antialias=steps.antialias
    )


def normalise(
    images: Tensor, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> Tensor:
    """uint8 images (B, H, W, 3) as float32 (B, 3, H, W), each channel minus mean over standard
    deviation, on the images' device.

    The result lies in memory as the images did (channels last), which convolutions like.
    """
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return (images * scale + shift).permute(0, 3, 1, 2)
