"""What every backbone is: a module from images to a map, with a rule of sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from whence.cards import IMAGENET_MEAN, IMAGENET_STD
from whence.errors import BadOption, UnknownName
from whence.settings import load_settings

Facet = Literal["query", "key", "value"]


class Features(NamedTuple):
    """What a backbone makes of B images."""

    map: Tensor
    """(B, C, h, w): one local descriptor per position."""
    cls: Tensor | None = None
    """(B, C) class token; None for backbones without one."""
    finer: Tensor | None = None
    """(B, C', h', w') of the stage before, of backbones of two scales."""


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Which image sizes a backbone accepts, in pixels."""

    multiple_of: int = 1
    at_least: int = 1
    """The shorter side's least."""
    exact: tuple[int, int] | None = None
    """Height and width, where no other size is accepted."""

    def check(self, height: int, width: int) -> None:
        """Raises `BadOption` where the size is not accepted, naming one that is."""
        # A traced graph keeps no errors, and its free sizes must not be compared.
        if torch.compiler.is_compiling():
            return
        if self.exact is not None and (height, width) != self.exact:
            raise BadOption(
                f"images must be {self.exact[0]} x {self.exact[1]} pixels (height x width), not "
                f"{height} x {width}"
            )
        if (
            height % self.multiple_of
            or width % self.multiple_of
            or min(height, width) < self.at_least
        ):
            wanted = f"multiples of {self.multiple_of}, " if self.multiple_of > 1 else ""
            nearest = "{} x {}".format(*self.nearest(height, width))
            raise BadOption(
                f"image sides must be {wanted}at least {max(self.at_least, self.multiple_of)} "
                f"pixels, not {height} x {width} (height x width); {nearest} would be accepted"
            )

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        """The accepted height and width nearest to these; a side halfway between goes to the even
        multiple, as in MegaLoc."""
        if self.exact is not None:
            return self.exact
        m = self.multiple_of
        least = -(-max(self.at_least, 1) // m)
        # Python's rounding in whole numbers, which a traced graph with free sizes can follow.
        rows, columns = ((2 * side + m - 1 + side // m % 2) // (2 * m) for side in (height, width))
        return m * cast(int, torch.sym_max(rows, least)), m * cast(
            int, torch.sym_max(columns, least)
        )


class Backbone(nn.Module):
    """Base of all backbones: `forward` makes `Features` of (B, 3, H, W) normalised images; raises
    `BadOption` for a wrong size."""

    name: str
    channels: int
    """C of the map."""
    stride: int
    """Pixels of the image per position of the map; a side of n pixels gives n / stride positions,
    one more or fewer at most."""
    size_rule: SizeRule = SizeRule()
    mean: tuple[float, ...] = IMAGENET_MEAN
    """What its released weights take pixels less of, from 0 to 1 ..."""
    std: tuple[float, ...] = IMAGENET_STD
    """... and over."""
    stages: tuple[str, ...] = ()
    """Names of the parts from the input on, for `freeze_before` and `learn_only`."""
    published: tuple[str, ...] = ()
    """The stages that the published trainings let learn; empty where there is none."""
    sees_sequences = False
    """Whether it sees the frames of a sequence together, by `of_sequences`."""

    def forward(self, images: Tensor) -> Features:
        raise NotImplementedError

    def of_sequences(self, frames: Tensor) -> Features:
        """`Features` of sequences (B, S, 3, H, W), the maps of their frames below one another."""
        raise BadOption(f"{self.name} sees one image at a time")

    def stage_parameters(self, stage: str) -> Iterator[nn.Parameter]:
        """The parameters of one stage."""
        return self.get_submodule(stage).parameters()

    def freeze_before(self, stage: str) -> None:
        """Keep all parts before `stage` from learning: their parameters get no gradient. Raises
        `UnknownName`.

        Batch norms there still update their running statistics while the network trains, as in the
        published trainings.
        """
        self._known(stage)
        for name in self.stages[: self.stages.index(stage)]:
            self._set_learning(name, is_learning=False)

    def learn_only(self, *stages: str) -> None:
        """Let only these stages learn. Raises `UnknownName`. Batch norms behave as in
        `freeze_before`."""
        for stage in stages:
            self._known(stage)
        for name in self.stages:
            self._set_learning(name, is_learning=name in stages)

    def freeze_as_published(self) -> None:
        """Let only those stages learn that the published trainings let learn. Raises `BadOption`
        where there are none."""
        if not self.published:
            raise BadOption(
                f"no publication trains {self.name}: choose with freeze_before or learn_only "
                f"among {', '.join(self.stages)}"
            )
        self.learn_only(*self.published)

    def _known(self, stage: str) -> None:
        if stage not in self.stages:
            raise UnknownName("stage", stage, self.stages)

    def _set_learning(self, stage: str, *, is_learning: bool) -> None:
        for parameter in self.stage_parameters(stage):
            parameter.requires_grad_(is_learning)


class Derived:
    """What follows from parameters alone, kept until they change, so that describing does not
    compute it for every batch.

    Nothing is kept where gradients flow or a graph is being traced.
    """

    def __init__(self) -> None:
        self._tensors: dict[object, tuple[tuple[object, ...], Tensor]] = {}

    def get(
        self, key: object, parameters: list[nn.Parameter], compute: Callable[[], Tensor]
    ) -> Tensor:
        """The tensor of `compute`, which is called only if one of the parameters changed or the key
        is new."""
        if torch.compiler.is_compiling() or (
            torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        ):
            return compute()
        state = tuple(
            (p.data_ptr(), p.dtype, p.device, -1 if p.is_inference() else p._version)
            for p in parameters
        )
        kept = self._tensors.get(key)
        if kept is None or kept[0] != state or kept[1].device.type == "meta":
            # Not as an inference tensor: training may use it later.
            with torch.inference_mode(False), torch.no_grad():
                kept = (state, compute())
            self._tensors[key] = kept
        return kept[1]


def is_offline() -> bool:
    """Whether the settings or `WHENCE_OFFLINE` forbid the network."""
    return load_settings().offline


def num_blocks_kept(num_blocks: int | None, whole: int) -> int:
    """How many blocks a transformer keeps of its whole depth: those asked for, else all. Raises
    `BadOption`."""
    if num_blocks is None:
        return whole
    if not 1 <= num_blocks <= whole:
        raise BadOption(f"num_blocks must lie between 1 and {whole}, not {num_blocks}")
    return num_blocks
