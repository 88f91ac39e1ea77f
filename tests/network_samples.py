"""A small network with random weights under a name of its own, for tests of everything that runs
networks."""

from __future__ import annotations

import numpy as np
import torch

from whence.cards import Entry, ModelCard, Preprocessing
from whence.models.aggregators.pools import GeM
from whence.models.backbones import make_backbone
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.networks import Network

NAME = "gem-resnet18conv4-256"
CARD = ModelCard(
    name=NAME,
    summary="random weights",
    dim=256,
    preprocessing=Preprocessing(size_px=(96, 128), interpolation="bilinear"),
    licence="MIT",
)


def make_network(backbone: str = "resnet18conv4") -> Network:
    """The network, the same at every call, its batch norms with statistics that are not those of a
    fresh one."""
    torch.manual_seed(0)
    made = make_backbone(backbone)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return Network(made, GeM(made.channels)).eval()


def open_sample() -> NetworkDescriptor:
    return NetworkDescriptor(make_network())


ENTRY = Entry("network_samples:open_sample", CARD)


def images(num: int, *, size: tuple[int, int] = (96, 128), seed: int = 0) -> list[np.ndarray]:
    """Pictures of noise with some structure."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (num, size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
    return list(coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : size[0], : size[1]])
