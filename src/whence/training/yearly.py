"""EarthLoc's augmentation: one change for all images of a year, so that how an image was changed
says nothing of its place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as change

from whence.cards import IMAGENET_MEAN, IMAGENET_STD
from whence.training.options.tiles import YearWiseOptions


class YearChange(NamedTuple):
    """One draw. Points are x, y."""

    angle_deg: float
    """Counter-clockwise."""
    top_px: int
    left_px: int
    corners: tuple[tuple[int, int], ...]
    """Where the crop's corners go: top left, top right, bottom right, bottom left."""
    colours: tuple[tuple[str, float], ...]
    """Brightness, contrast, saturation and hue in the order in which they change."""


def draw_change(options: YearWiseOptions, random: np.random.Generator) -> YearChange:
    """A change drawn as torchvision draws its parts."""
    side, most = options.crop_px, int(options.distortion * (options.crop_px // 2))
    room = options.stored_px - side + 1
    angle = float(random.uniform(-options.rotation_deg, options.rotation_deg))
    top_px, left_px = int(random.integers(room)), int(random.integers(room))
    inward = random.integers(0, most + 1, (4, 2)).tolist()
    last = side - 1
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = inward
    corners = ((ax, ay), (last - bx, by), (last - cx, last - cy), (dx, last - dy))
    strengths = {
        "brightness": options.brightness,
        "contrast": options.contrast,
        "saturation": options.saturation,
    }
    colours = [
        (name, float(random.uniform(max(0.0, 1 - value), 1 + value)))
        for name, value in strengths.items()
        if value
    ]
    if options.hue:
        colours.append(("hue", float(random.uniform(-options.hue, options.hue))))
    order = random.permutation(len(colours))
    return YearChange(angle, top_px, left_px, corners, tuple(colours[number] for number in order))


def changed(images: Tensor, how: YearChange, options: YearWiseOptions) -> Tensor:
    """Images (B, 3, S, S) from 0 to 1, all changed alike, normalised (B, 3, height, width)."""
    bilinear = InterpolationMode.BILINEAR
    side, last = options.crop_px, options.crop_px - 1
    turned = change.rotate(images, how.angle_deg, interpolation=bilinear, expand=False, fill=[0.0])
    cropped = change.crop(turned, how.top_px, how.left_px, side, side)
    start = [[0, 0], [last, 0], [last, last], [0, last]]
    bent = change.perspective(
        cropped, start, [list(point) for point in how.corners], interpolation=bilinear, fill=[0.0]
    )
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = how.corners
    left, top, right, bottom = max(ax, dx), max(ay, by), min(bx, cx), min(cy, dy)
    inner = change.crop(bent, top, left, bottom - top, right - left)
    square = change.center_crop(inner, [min(inner.shape[-2:])] * 2)
    sized = change.resize(
        square, [options.height, options.width], interpolation=bilinear, antialias=True
    )
    return change.normalize(coloured(sized, how), list(IMAGENET_MEAN), list(IMAGENET_STD))


def coloured(images: Tensor, how: YearChange) -> Tensor:
    """The images with their colours changed."""
    ways = {
        "brightness": change.adjust_brightness,
        "contrast": change.adjust_contrast,
        "saturation": change.adjust_saturation,
        "hue": change.adjust_hue,
    }
    for name, value in how.colours:
        images = ways[name](images, value)
    return images


def change_all(photos: Tensor, changes: list[YearChange], options: YearWiseOptions) -> Tensor:
    """Photos (B, S, S, 3) uint8, each changed as said, normalised; those that are changed alike are
    changed together."""
    found: dict[int, Tensor] = {}
    groups: dict[YearChange, list[int]] = {}
    for number, how in enumerate(changes):
        groups.setdefault(how, []).append(number)
    for how, numbers in groups.items():
        images = changed(photos[numbers].permute(0, 3, 1, 2).float() / 255, how, options)
        found.update(zip(numbers, images, strict=True))
    return torch.stack([found[number] for number in range(len(changes))])
