"""Networks that look at every pixel: teacher and students after SiLK and AsymLoc, a strided one for
slow machines, and height maps.

Each takes grey images (B, 1, H, W) in [0, 1] and gives one logit a pixel: how gladly a keypoint
stands there. Teacher and students describe every pixel, the strided one every fourth, height maps
(MorseDet) none. Weights are random here; trainings fill them.

After Gleize, Wang, Feiszli: SiLK, simple learned keypoints, ICCV 2023; Omama, Berton, Foxlin, Kim:
AsymLoc, CVPR 2026; Revaud et al.: R2D2, NeurIPS 2019 (layers of the height map); Barbarani et al.:
Scale-free image keypoints, ICML 2024. Layer lists of AsymLoc's students are not published: those
here have about their number of weights and multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.errors import UnknownName
from whence.models.cards.text import read_card
from whence.models.checkpoints.files import fill_module


class DenseMaps(NamedTuple):
    """What a network says of a batch."""

    logits: Tensor
    """(B, H, W): larger where a keypoint is likelier."""
    descriptors: Tensor | None
    """(B, D, h, w), not of unit length; None of networks that describe nothing."""
    stride: int = 1
    """Pixels between neighbouring descriptors; the first stands `(stride - 1) / 2` pixels into the
    image."""


class DenseNetwork(nn.Module):
    """The base of networks that look at every pixel."""

    name: str
    dim: int
    """Numbers of a descriptor; 0 where nothing is described."""
    multiple: int = 1
    """What height and width must be a multiple of."""

    def forward(self, grey: Tensor) -> DenseMaps:
        """The maps of grey images (B, 1, H, W) in [0, 1]."""
        raise NotImplementedError


def _layer(channels: int, out: int, *, side: int = 3) -> nn.Sequential:
    """Convolution, ReLU, batch norm: SiLK's order."""
    return nn.Sequential(
        nn.Conv2d(channels, out, side, padding=side // 2), nn.ReLU(), nn.BatchNorm2d(out)
    )


class SilkNetwork(DenseNetwork):
    """Blocks of two convolutions at full resolution, a detector and a descriptor beside each other.

    `has_wide_head`: the descriptor has a 3x3 layer of its own, as the teacher's, and norms after
    both last layers.
    """

    def __init__(
        self,
        name: str,
        *,
        widths: Sequence[int],
        lateral: int,
        dim: int = 128,
        has_wide_head: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.dim = name, dim
        blocks, channels = [], 1
        for width in widths:
            blocks += [_layer(channels, width), _layer(width, width)]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.detector = nn.Sequential(
            _layer(channels, lateral), nn.Conv2d(lateral, 1, 1), nn.BatchNorm2d(1)
        )
        self.descriptor = (
            nn.Sequential(
                _layer(channels, lateral), nn.Conv2d(lateral, dim, 1), nn.BatchNorm2d(dim)
            )
            if has_wide_head
            else nn.Sequential(nn.Conv2d(channels, dim, 1))
        )

    def forward(self, grey: Tensor) -> DenseMaps:
        found = self.blocks(grey)
        return DenseMaps(self.detector(found)[:, 0], self.descriptor(found))


def _strided(channels: int, out: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )


class StridedNetwork(DenseNetwork):
    """Halved four times on the way down; descriptors at a quarter of the sides, logits at half of
    them, then spread to pixels."""

    multiple = 16

    def __init__(
        self, name: str, *, dim: int = 128, widths: Sequence[int] = (16, 24, 48, 64, 96)
    ) -> None:
        super().__init__()
        self.name, self.dim = name, dim
        full, half, quarter, eighth, last = widths
        self.stem = _strided(1, full)
        self.to_half = nn.Sequential(_strided(full, half, stride=2), _strided(half, half))
        self.to_quarter = nn.Sequential(
            _strided(half, quarter, stride=2), _strided(quarter, quarter)
        )
        self.to_eighth = nn.Sequential(
            _strided(quarter, eighth, stride=2), _strided(eighth, eighth)
        )
        self.to_sixteenth = nn.Sequential(
            _strided(eighth, last, stride=2), _strided(last, last), nn.Conv2d(last, eighth, 1)
        )
        self.from_quarter = nn.Conv2d(quarter, eighth, 1)
        self.descriptor = nn.Sequential(_strided(eighth, eighth), nn.Conv2d(eighth, dim, 1))
        self.context = nn.Conv2d(eighth, half, 1)
        self.detector = nn.Sequential(_strided(2 * half, half), nn.Conv2d(half, 4, 1))

    def forward(self, grey: Tensor) -> DenseMaps:
        half = self.to_half(self.stem(grey))
        quarter = self.to_quarter(half)
        eighth = self.to_eighth(quarter)
        coarse = eighth + _doubled(self.to_sixteenth(eighth))
        fine = self.from_quarter(quarter) + _doubled(coarse)
        logits = self.detector(torch.cat([half, _doubled(self.context(fine))], dim=1))
        return DenseMaps(nn.functional.pixel_shuffle(logits, 2)[:, 0], self.descriptor(fine), 4)


def _doubled(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, scale_factor=2.0, mode="nearest")


class HeightNetwork(DenseNetwork):
    """A height map in (0, 1) whose hills are keypoints: nothing is described. Dilated instead of
    strided, as in R2D2."""

    def __init__(self, name: str, *, layers: Sequence[tuple[int, int, int]]) -> None:
        """`layers` are kernel side, channels and dilation; the last gives the map and has neither
        norm nor ReLU."""
        super().__init__()
        self.name, self.dim = name, 0
        parts: list[nn.Module] = []
        channels = 1
        for number, (side, out, dilation) in enumerate(layers):
            parts.append(
                nn.Conv2d(
                    channels, out, side, padding=(side - 1) * dilation // 2, dilation=dilation
                )
            )
            if number < len(layers) - 1:
                parts.append(nn.BatchNorm2d(out, affine=False))
                # Of R2D2's nine layers the two before the last are not clipped.
                if side > 2:
                    parts.append(nn.ReLU())
            channels = out
        self.layers = nn.Sequential(*parts)

    def forward(self, grey: Tensor) -> DenseMaps:
        return DenseMaps(self.layers(2 * grey - 1)[:, 0], None)


_MORSE = (
    (3, 32, 1),
    (3, 32, 1),
    (3, 64, 1),
    (3, 64, 2),
    (3, 128, 2),
    (3, 128, 4),
    (2, 128, 4),
    (2, 128, 8),
    (2, 1, 16),
)
_MORSE_SMALL = ((3, 12, 1), (3, 12, 1), (3, 24, 2), (3, 24, 2), (3, 32, 2), (3, 32, 2), (1, 1, 1))
NETWORKS: dict[str, Callable[[str], DenseNetwork]] = {
    "silk": lambda name: SilkNetwork(
        name, widths=(64, 64, 128, 128), lateral=128, has_wide_head=True
    ),
    "silk-small": lambda name: SilkNetwork(
        name, widths=(32, 32, 64, 64), lateral=64, dim=64, has_wide_head=True
    ),
    "student-xs": lambda name: SilkNetwork(name, widths=(16, 32, 32), lateral=16),
    "student-s": lambda name: SilkNetwork(name, widths=(24, 32, 48), lateral=24),
    "student-m": lambda name: SilkNetwork(name, widths=(32, 32, 64), lateral=16),
    "student-l": lambda name: SilkNetwork(name, widths=(32, 48, 64), lateral=16),
    "student-small": lambda name: SilkNetwork(name, widths=(8, 16, 16), lateral=8, dim=64),
    "strided": lambda name: StridedNetwork(name),
    "morse": lambda name: HeightNetwork(name, layers=_MORSE),
    "morse-small": lambda name: HeightNetwork(name, layers=_MORSE_SMALL),
}
"""By name: SiLK's teacher and a small one, AsymLoc's four sizes of students and one for the small
teacher, the strided network of `whence-local`, and MorseDet's height map, as published and
small."""


def make_dense_network(name: str) -> DenseNetwork:
    """The network of this name, its weights random. Raises `UnknownName` with the nearest names."""
    if name not in NETWORKS:
        raise UnknownName("network of local features", name, NETWORKS)
    return NETWORKS[name](name)


def open_heights(file: str | Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function that makes the height map (H, W) float32, in (0, 1), of a grey image (H, W) uint8,
    from a file that a training wrote.

    Raises as `fill_module`, and `UnreadableWeights` for a file without a card.
    """
    network = make_dense_network(read_card(file).backbone)
    fill_module(network, file, what=network.name)
    network.eval()

    @torch.inference_mode()
    def heights(grey: np.ndarray) -> np.ndarray:
        found = network(torch.from_numpy(np.ascontiguousarray(grey))[None, None].float() / 255)
        return np.asarray(found.logits[0].sigmoid().numpy())

    return heights


def sample_descriptors(maps: DenseMaps, points: Tensor) -> Tensor:
    """Unit descriptors (B, N, D) float32 at points (B, N, 2) in pixels, between neighbours
    bilinearly; beyond the rim the last."""
    assert maps.descriptors is not None, "asked of networks that describe"
    height, width = maps.descriptors.shape[-2:]
    # Pixel centres are whole numbers; the centre of a cell of the map lies half its width into it.
    cells = (points + 0.5) / maps.stride - 0.5
    grid = (2 * cells + 1) / torch.tensor(
        [width, height], device=points.device, dtype=points.dtype
    ) - 1
    found = nn.functional.grid_sample(
        maps.descriptors.float(),
        grid[:, :, None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return nn.functional.normalize(found[..., 0].transpose(1, 2), dim=2)


def sample_logits(logits: Tensor, points: Tensor) -> Tensor:
    """Logits (B, N) float32 at the pixels nearest to points (B, N, 2)."""
    height, width = logits.shape[-2:]
    columns = points[..., 0].round().long().clamp(0, width - 1)
    rows = points[..., 1].round().long().clamp(0, height - 1)
    return logits.float().flatten(1).gather(1, rows * width + columns)


def count_weights(network: nn.Module) -> int:
    """The number of weights that learn."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiplications(network: DenseNetwork, *, height: int = 224, width: int = 224) -> int:
    """Multiplications of all convolutions for one image."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight[0].numel() * output[0].numel()

    hooks = [
        part.register_forward_hook(count)
        for part in network.modules()
        if isinstance(part, nn.Conv2d)
    ]
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 1, height, width))
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
