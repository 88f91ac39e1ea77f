"""GeoWarp (Berton, Masone, Paolicelli, Caputo: Viewpoint Invariant Dense Matching for Visual
Geolocalization, ICCV 2021).

Two photos of one place from different viewpoints: a small network finds, on each, the quadrilateral
that shows what both show. Cut out and stretched to the whole frame, the two look alike, cell by
cell, if the place is the same. The backbone is that of a retrieval network and stays as it is; only
the small network learns. `whence.models.warp.scorer` compares candidates with it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.backbones.base import Backbone
from whence.models.warp.cells import GRID
from whence.models.warp.geometry import frame, warp
from whence.models.warp.quads import Quads, Sampling
from whence.models.warp.regressor import NUM_OUTPUTS, WIDTHS, layer_shapes

_EPS = 1e-6


def to_unit(vectors: Tensor) -> Tensor:
    """Vectors (B, C, ...) of unit length along the channels; short ones stay short, zero stays
    zero, gradients stay finite."""
    return vectors * torch.rsqrt(vectors.square().sum(dim=1, keepdim=True) + _EPS)


def pool_cells(maps: Tensor, *, grid: tuple[int, int] = GRID) -> Tensor:
    """Local descriptors (B, C, h, w) of unit length on a grid of cells, from a backbone's maps (B,
    C, H, W) of any size."""
    return to_unit(nn.functional.adaptive_avg_pool2d(maps, grid))


def match_cells(first: Tensor, second: Tensor) -> Tensor:
    """Similarities (B, h w, h, w) of all cells of two images (B, C, h, w): channels are the first's
    cells, positions the second's.

    Channels go down the columns of the first image, as in the published weights; at each position
    they are non-negative and of unit length.
    """
    return _laid_out(_products(first, second), first, second)


def match_both_orders(first: Tensor, second: Tensor) -> Tensor:
    """`match_cells` of (first, second) and then of (second, first) in one batch (2 B, h w, h, w),
    from one product."""
    products = _products(first, second)
    return torch.cat(
        [_laid_out(products, first, second), _laid_out(products.transpose(1, 2), second, first)]
    )


def _products(first: Tensor, second: Tensor) -> Tensor:
    return first.flatten(2).transpose(1, 2) @ second.flatten(2)


def _laid_out(products: Tensor, first: Tensor, second: Tensor) -> Tensor:
    by_columns = products.unflatten(1, first.shape[2:]).transpose(1, 2).flatten(1, 2)
    return to_unit(by_columns.unflatten(2, second.shape[2:]).relu())


class Regressor(nn.Module):
    """From the similarities of all cells (B, h w, h, w) to two quadrilaterals (B, 8, 2), the first
    image's and the second's.

    Six convolutions with batch norm and one linear layer that begins as "both images whole". Names
    of parameters are those of the published weights.
    """

    def __init__(self, grid: tuple[int, int] = GRID) -> None:
        super().__init__()
        if min(grid) < 1:
            raise BadOption(f"a grid has at least one row and one column, not {grid}")
        layers: list[nn.Module] = []
        for width, channels, rows, columns in layer_shapes(grid):
            layers += [
                nn.Conv2d(channels, width, (rows, columns), padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.conv = nn.Sequential(*layers)
        self.linear = nn.Linear(WIDTHS[-1], NUM_OUTPUTS)
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(frame(like=self.linear.bias).repeat(2, 1).flatten())

    def forward(self, similarities: Tensor) -> Tensor:
        return self.linear(self.conv(similarities).flatten(1)).unflatten(1, (8, 2))


class GeoWarp(nn.Module):
    """A backbone, and the regressor that finds the quadrilaterals: the model that is trained and
    re-ranks.

    `sampling` is how quadrilaterals are cut out: "legacy" for published weights, "exact" for one's
    own.
    """

    def __init__(
        self, backbone: Backbone, *, grid: tuple[int, int] = GRID, sampling: Sampling = "exact"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.regressor = Regressor(grid)
        self.grid = grid
        self.sampling: Sampling = sampling

    def local(self, images: Tensor) -> Tensor:
        """Local descriptors (B, C, h, w) of normalised images (B, 3, H, W) on the grid of cells."""
        return pool_cells(self.backbone(images).map, grid=self.grid)

    def quads(self, first: Tensor, second: Tensor) -> Tensor:
        """The regressor's quadrilaterals (B, 8, 2) from local descriptors (B, C, h, w) of two
        images, in this order only."""
        found: Tensor = self.regressor(match_cells(first, second))
        return found

    def predict(self, first: Tensor, second: Tensor) -> Quads[Tensor]:
        """The quadrilaterals from local descriptors, the mean of both orders: swapping the images
        swaps the quadrilaterals.

        Either side may be one image (1, C, h, w) for all images of the other.
        """
        forth, back = self.regressor(match_both_orders(first, second)).chunk(2)
        return Quads((forth[:, :4] + back[:, 4:]) / 2, (forth[:, 4:] + back[:, :4]) / 2)

    def cut(self, images: Tensor, quads: Tensor) -> Tensor:
        """Quadrilaterals (B, 4, 2) cut out of images (B, 3, H, W) and stretched to the whole
        frame."""
        return warp(images, quads, sampling=self.sampling)


def cell_similarities(first: Tensor, second: Tensor) -> Tensor:
    """(B, h, w) inner products of local descriptors (B, C, h, w) cell by cell; a pair's similarity
    is their sum, at most h w."""
    return (first * second).sum(dim=1)
