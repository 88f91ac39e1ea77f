"""A task: what learns, from which branches, chosen by which probe. Records, and the bases that a
branch and a probe build on.

A branch is one source of a training: what is read, when it is looked for anew, and what is learned
from it. Several of them, each with its data and its loss, make one update together. The loop over
them is `whence.training.step`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import ModelCard
from whence.models.backbones.base import Features
from whence.training.datasets import Dataset
from whence.training.options.loop import OptimizerOptions, ScheduleOptions


class BatchPlace(NamedTuple):
    """Where a branch stands: its next batch."""

    epoch: int
    number: int


class Share(NamedTuple):
    """Which part of every batch is this process's."""

    rank: int = 0
    num_ranks: int = 1


class Read(NamedTuple):
    """A batch as it was read: what is learned from, and of how many photos."""

    content: Any
    num_photos: int


class Losses(NamedTuple):
    """What a batch says: the number that the learner makes smaller, what it is made of, and what an
    opponent makes smaller."""

    total: Tensor
    parts: Mapping[str, Tensor] = {}
    """What is logged beside the whole, by name."""
    opponent: Tensor | None = None
    """Of the branch's opponent alone, which no gradient of the learner's flows into."""


class Pairs(NamedTuple):
    """What a loss over pairs compares."""

    descriptors: Tensor
    """(B, D) float32 of the whole batch."""
    labels: Tensor
    """(B,) what belongs together, on the device of the descriptors."""


@dataclass(frozen=True)
class Draw:
    """One batch of one update: where it is computed, and what its random numbers follow from."""

    seed: int
    step: int
    batch: int
    """Number of the batch among those of one update."""
    branch: int
    """Number of the branch."""
    share: Share
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]]
    """The precision of the training, for what the network computes."""
    is_channels_last: bool = False

    def seed_torch(self, number: int) -> None:
        """Let torch's random numbers follow from the step, the branch and this number."""
        torch.manual_seed((self.seed << 40) ^ (self.branch << 34) ^ (self.step << 8) ^ number)

    def arranged(self, images: Tensor) -> Tensor:
        """The images (B, 3, H, W) laid out in memory as the training asks for."""
        return (
            images.contiguous(memory_format=torch.channels_last)
            if self.is_channels_last
            else images
        )

    def gather(self, descriptors: Tensor) -> Tensor:
        """The whole batch's descriptors, as `gather` makes them of every process's share."""
        return gather(descriptors, self.share.num_ranks)


class Describe(Protocol):
    """Descriptors of photos by the learner as it stands, for branches that look for their batches
    with it."""

    @property
    def share(self) -> Share: ...

    def __call__(
        self,
        rows: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray | Features],
        *,
        batch_size: int,
    ) -> Tensor:
        """Descriptors (n, D) float32 on the CPU of rows (n,), which `read` turns into uint8 photos
        (b, H, W, 3), or into what the learner's backbone made of them."""

    def broadcast(self, values: np.ndarray) -> np.ndarray:
        """The main process's values in every process; all give an array of one shape and type."""


class Branch(ABC):
    """One source of a training. Made from its options and `Setup`; `loss` may have weights that
    learn too.

    Only `num_batches`, `read` and `learn` must be said; what else there is does nothing unless it
    is written.
    """

    has_pairs = False
    """Whether what is learned is a loss over pairs, so that `pairs` may stand for `learn`."""
    is_mined = False
    """Whether the batches of an epoch are known only once it begins: nothing of it is read
    before."""
    is_state_shared = False
    """Whether every process holds a part of `state`, so that all of them are asked for it at
    once."""
    weight = 1.0
    loss_lr = 0.0
    """Learning rate of the loss's own weights; 0 takes the learner's."""
    opponent: nn.Module | None = None
    """What learns against the learner, with an optimizer of its own."""
    opponent_optimizer = OptimizerOptions()

    def __init__(self, name: str) -> None:
        self.name = name
        self.loss: nn.Module = nn.Module()

    def describe_data(self) -> dict[str, Any]:
        """The record of the data that is written beside the recipe."""
        return {}

    def open(self) -> None:  # noqa: B027
        """Get photos ready. The main process comes first and writes what the others then find."""

    def start(self, learner: nn.Module, device: torch.device) -> None:  # noqa: B027
        """Called once, before the first step of a training that begins."""

    def begin(self, epoch: int, device: torch.device) -> None:  # noqa: B027
        """Get ready to learn from an epoch: before its first batch, and anew where a stopped
        training goes on within it."""

    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Optimizers of the branch's own, of what it learns with now; each takes a step with the
        learner's."""
        return ()

    @abstractmethod
    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch."""

    def refresh(self, epoch: int, describe: Describe) -> None:  # noqa: B027
        """Get ready for an epoch with the learner as it stands: mine, cluster, choose. Called where
        `is_mined`."""

    @abstractmethod
    def read(self, place: BatchPlace, share: Share) -> Read:
        """This process's share of a batch, on the CPU, ahead of time."""

    def change(self, content: Any, draw: Draw) -> Any:
        """The batch augmented, ready to learn from."""
        return content

    @abstractmethod
    def learn(self, learner: nn.Module, content: Any, draw: Draw) -> Losses:
        """The losses of a batch, float32; the loop takes their gradients."""

    def pairs(self, learner: nn.Module, content: Any, draw: Draw) -> Pairs:
        """Pairs that the loss of a batch compares, for one loss over several branches. Of those
        that have pairs alone."""
        raise NotImplementedError

    def keep(self) -> None:  # noqa: B027
        """Write what was made of photos and is worth keeping for other trainings: when the steps
        end, in every process."""

    def finish(self, weights: Path) -> None:  # noqa: B027
        """Write what the branch leaves of a training that is over beside the file of its last
        weights; the main process does."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed training needs besides."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Put back what `state` gave."""


class Probe(ABC):
    """What the best weights are chosen by."""

    def open(self) -> None:  # noqa: B027
        """Get photos ready. The main process comes first."""

    @abstractmethod
    def measure(self, learner: nn.Module) -> dict[str, float]:
        """Figures that are logged of a validation; the best weights are those of the highest
        "recall"."""


class Learner(Protocol):
    """What learns, and what branches may need to know of it."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def card(self) -> Callable[[nn.Module], ModelCard] | None: ...

    def describe_data(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Setup:
    """What a branch, or a probe, is made with beside its options."""

    learner: Any
    """The `Learner`."""
    data: Dataset
    seed: int
    pixels_folder: Path
    """Where photos are kept decoded."""
    folder: Path | None
    """Of the training; None for one without."""
    share: Share
    device: torch.device
    dtype: torch.dtype | None
    """Of the network's computing; None for float32."""
    show_progress: bool | None = None
    size_px: tuple[int, int] = (0, 0)
    """Width and height of photos as the learner will be used on them; 0 where the recipe does not
    say."""


@dataclass(frozen=True)
class Optimized:
    """What one optimizer moves, and how."""

    module: nn.Module
    losses: tuple[tuple[nn.Module, float], ...] = ()
    """Losses with weights of their own, and their learning rates; 0 takes the module's."""
    options: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)

    def parameters(self) -> list[nn.Parameter]:
        """All that this optimizer moves."""
        return [
            parameter
            for part in (self.module, *(loss for loss, _ in self.losses))
            for parameter in part.parameters()
        ]


@dataclass(frozen=True)
class Task:
    """One training, ready to begin: what learns, from which branches, chosen by which probe."""

    learner: nn.Module
    branches: tuple[Branch, ...]
    probe: Probe | None
    optimizers: tuple[Optimized, ...]
    """The learner's first; one more for each opponent."""
    card: Callable[[nn.Module], ModelCard] | None = None
    """The card that goes into the files of weights; None where these are no model by themselves."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What is written beside the recipe about the data."""


def gather(descriptors: Tensor, num_ranks: int) -> Tensor:
    """The whole batch's descriptors on every process, through which gradients flow back to where
    each was made.

    Every process then computes the same loss; its gradient reaches a descriptor once from each of
    them, and averaging over processes, as is done with parameters, gives the gradient of that one
    loss.
    """
    if num_ranks == 1:
        return descriptors
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(descriptors))


def as_one(pairs: Sequence[Pairs]) -> Pairs:
    """The batches of several branches as one, in which nothing of one branch belongs together with
    anything of another."""
    labels, first = [], 0
    for one in pairs:
        unique, inverse = one.labels.unique(return_inverse=True)
        labels.append(inverse + first)
        first += len(unique)
    return Pairs(torch.cat([one.descriptors for one in pairs]), torch.cat(labels))
