"""Torch modules of one's own as parts: a module that makes maps is a backbone, one that makes
vectors a descriptor."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from whence.errors import BadOption
from whence.models.aggregators.pools import Aggregator
from whence.models.backbones.base import Backbone, Features, SizeRule
from whence.models.network_descriptor import NetworkDescriptor
from whence.models.networks import Network


class ModuleBackbone(Backbone):
    """A module from normalised images (B, 3, H, W) to maps (B, C, h, w) as a backbone.

    `stages` names parts of the module from the input on, where training is to freeze some of them.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        channels: int,
        stride: int,
        name: str = "",
        size_rule: SizeRule = SizeRule(),  # noqa: B008 (an immutable record)
        stages: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.module = module
        self.name, self.channels, self.stride = name or type(module).__name__, channels, stride
        self.size_rule, self.stages = size_rule, stages

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(images.shape[2], images.shape[3])
        found = self.module(images)
        if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[1] != self.channels:
            raise BadOption(
                f"{self.name} should give maps (B, {self.channels}, h, w), not {_form(found)}"
            )
        return Features(found)

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage, a part of the module."""
        return self.module.get_submodule(stage).parameters()


class ModuleDescriptor(NetworkDescriptor):
    """A module from normalised images (B, 3, H, W) to vectors (B, D) as a descriptor, its vectors
    brought to unit length.

    `size_px` is the height and width of images where the module takes no other. It runs on every
    engine a network runs on, and `whence export` writes it. How photos are brought to it says the
    card it is registered with.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        dim: int,
        size_px: tuple[int, int] | None = None,
        batch_size: int = 8,
    ) -> None:
        super().__init__(
            Network(_Vectors(module, dim, SizeRule(exact=size_px)), _Only(dim)),
            batch_size=batch_size,
        )


class _Vectors(Backbone):
    """Vectors as maps of one position, so that they take the way of any network."""

    stride = 1

    def __init__(self, module: nn.Module, dim: int, size_rule: SizeRule) -> None:
        super().__init__()
        self.module, self.name, self.channels, self.size_rule = (
            module,
            type(module).__name__,
            dim,
            size_rule,
        )

    def forward(self, images: Tensor) -> Features:
        self.size_rule.check(images.shape[2], images.shape[3])
        found = self.module(images)
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] != self.channels:
            raise BadOption(
                f"{self.name} should give vectors (B, {self.channels}), not {_form(found)}"
            )
        return Features(found[:, :, None, None])


class _Only(Aggregator):
    """The one position of a map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, features: Features) -> Tensor:
        return features.map[:, :, 0, 0]


def _form(output: object) -> str:
    return (
        f"({', '.join(map(str, output.shape))})"
        if isinstance(output, Tensor)
        else type(output).__name__
    )
