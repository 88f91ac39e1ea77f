"""What a network costs: parameters, operations of one forward, size of its map and of its
descriptors."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from whence.cards import ModelCard
from whence.models.aggregators.pools import GeM
from whence.models.backbones import make_backbone
from whence.models.backbones.base import Backbone
from whence.models.networks import Network
from whence.models.preprocessing import target_size
from whence.models.zoo import network_for

BENCHMARK_SIZE_PX = (480, 640)
"""Height and width at which the Deep Visual Geo-localization Benchmark counts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image costs."""

    size_px: tuple[int, int]
    """Height and width of the image it was counted for."""
    num_parameters: int
    num_trainable: int
    """Parameters that learn as the network stands."""
    flops: int
    """Additions and multiplications of one forward, two for each multiply-accumulate; convolutions
    and matrix products only."""
    map_size: tuple[int, ...]
    """Channels, height and width of the backbone's map."""
    descriptor_bytes: int
    """Of one descriptor in float32."""


def measure_cost(network: Network, *, size_px: tuple[int, int] = BENCHMARK_SIZE_PX) -> Cost:
    """The cost of one image of this height and width. Nothing is computed: shapes alone run through
    a copy without weights."""
    shapes = copy.deepcopy(network).to("meta").eval()
    image = torch.empty(1, 3, *size_px, device="meta")
    with torch.no_grad():
        map_size = tuple(shapes.features(image).map.shape[1:])
        with FlopCounterMode(display=False) as counter:
            shapes(image)
    parameters = list(network.parameters())
    return Cost(
        size_px=size_px,
        num_parameters=sum(p.numel() for p in parameters),
        num_trainable=sum(p.numel() for p in parameters if p.requires_grad),
        flops=int(counter.get_total_flops()),
        map_size=map_size,
        descriptor_bytes=4 * network.dim,
    )


def cost_of(card: ModelCard) -> Cost | None:
    """The cost of a 480 x 640 photo after the preprocessing of a card, without its weights; None
    for models without a network."""
    if not card.backbone:
        return None
    with torch.device("meta"):
        network = network_for(card)
    return measure_cost(network, size_px=target_size(BENCHMARK_SIZE_PX, card.preprocessing))


def sketch_backbone(name: str) -> tuple[Backbone, Cost]:
    """The backbone of this name without weights, and its cost with GeM after it, as the benchmark
    counts: of an image of 480 x 640 or the nearest size it takes, with those parts learning that
    the published trainings let learn. Raises `UnknownName`.
    """
    with torch.device("meta"):
        backbone = make_backbone(name)
        network = Network(backbone, GeM(backbone.channels))
    if backbone.published:
        backbone.freeze_as_published()
    return backbone, measure_cost(network, size_px=backbone.size_rule.nearest(*BENCHMARK_SIZE_PX))
