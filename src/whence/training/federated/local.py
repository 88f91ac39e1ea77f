"""What a client does in a round: the loop's own step over its own photos, from weights it was sent,
without a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whence.errors import BadOption
from whence.registry import get_entry
from whence.runtime import random_stream
from whence.training.datasets import Dataset, Source
from whence.training.federated.options import NormName
from whence.training.federated.plans import Work, num_learned_from
from whence.training.recipe import Recipe, size_px
from whence.training.step import Step, make_accelerator
from whence.training.task import BatchPlace, Branch, Task
from whence.training.train import make_task

_TINTS, _SPEEDS, _SEEDS = 72, 74, 1 << 20
RANGES = (0.7, 0.7, 0.7, 0.5)
"""Of a client's own brightness, contrast, saturation and hue, at strength 1: those that CosPlace
and JIST draw from."""


class Update(NamedTuple):
    """What a client answers."""

    tensors: dict[str, np.ndarray]
    """What travels, by name, as it came out."""
    num_queries: int
    num_steps: int
    losses: tuple[float, ...]


def travelling(network: nn.Module, *, norms: NormName) -> dict[str, Tensor]:
    """Tensors that clients and server send each other: all that learns and, where norms are
    averaged, their running statistics.

    What stays as it was is never averaged, so that it does not drift; counters are not numbers that
    have a mean.
    """
    found: dict[str, Tensor] = {
        name: value for name, value in network.named_parameters() if value.requires_grad
    }
    if norms == "averaged":
        found |= {
            name: value for name, value in network.named_buffers() if value.is_floating_point()
        }
    return found


def load_travelling(
    network: nn.Module, tensors: Mapping[str, np.ndarray], *, norms: NormName
) -> None:
    """Put received tensors in their places. Raises `BadOption` for others than these, or of another
    shape."""
    own = travelling(network, norms=norms)
    if set(own) != set(tensors):
        raise BadOption(
            f"the other side has another network: {sorted(set(own) ^ set(tensors))[:3]} are not "
            "known to both"
        )
    with torch.no_grad():
        for name, value in own.items():
            setup = torch.from_numpy(np.array(tensors[name]))
            if setup.shape != value.shape:
                raise BadOption(
                    f"the other side has another network: {name} has the shape "
                    f"{tuple(setup.shape)} there"
                )
            value.copy_(setup)


def keep_norms(network: nn.Module) -> None:
    """Let batch norms use their running statistics, whatever mode the network is in."""
    for part in network.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
            part.train = lambda mode=True, part=part: part  # type: ignore[method-assign, misc]


def make_start(recipe: Recipe) -> Any:
    """The learner that all clients begin from."""
    entry, device = (
        get_entry("learner", recipe.learner.kind),
        make_accelerator(recipe.loop.precision).device,
    )
    return entry.load()(
        recipe.learner,
        recipe=recipe.name,
        seed=recipe.loop.seed,
        size_px=size_px(recipe),
        device=device,
    )


class LocalStep(Step):
    """Updates of one round, from a place that follows from the round; optionally drawn back to what
    the round began with."""

    def place(self, *, step: int, epoch: int, proximal_mu: float) -> None:
        """Where the round begins; before `begin`."""
        self.step, self.mu = step, proximal_mu
        for source in self._sources:
            source.place = BatchPlace(epoch, 0)
        self.first = (
            [parameter.detach().clone() for parameter in self.learner.parameters()]
            if proximal_mu
            else []
        )

    def _update(self) -> None:
        for parameter, first in zip(self.learner.parameters(), self.first, strict=False):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - first, alpha=self.mu)
        super()._update()


class LocalWork:
    """One client: its photos, and the recipe it was sent. Optimizers begin anew in every round."""

    def __init__(
        self,
        recipe: Recipe,
        data: Source,
        *,
        number: int = 0,
        pixels_folder: str | Path,
        norms: NormName = "kept",
        tint: float = 0.0,
    ) -> None:
        """`number` makes its random numbers its own; `tint` gives all of its photos one colour cast
        of that strength."""
        self.recipe = replace(
            recipe, loop=replace(recipe.loop, seed=recipe.loop.seed + number * _SEEDS)
        )
        self.data, self.number, self.pixels_folder, self.norms, self.tint = (
            data,
            number,
            Path(pixels_folder),
            norms,
            tint,
        )

    @cached_property
    def task(self) -> Task:
        """The task: what learns from what. Raises as `whence.training.train.make_task`."""
        data = Dataset(self.data, show_progress=False)
        made = make_task(self.recipe, data, pixels_folder=self.pixels_folder, show_progress=False)
        if self.norms == "kept":
            keep_norms(made.learner)
        return made

    @property
    def num_queries(self) -> int:
        """The size by which the client counts."""
        return num_learned_from(self.recipe, self.data)

    def learn(self, tensors: Mapping[str, np.ndarray], work: Work) -> Update:
        """The work of a round. Raises `BadOption` for tensors of another network, and as the
        branches do."""
        task, passes = self.task, [branch.num_batches(0) for branch in self.task.branches]
        steps = work.num_steps or max(passes)
        if work.is_uneven:
            steps = 1 + int(random_stream(self.number, _SPEEDS).integers(steps))
        options = replace(self.recipe.loop, num_steps=work.num_rounds * steps)
        losses = []
        with LocalStep(task, options=options) as step:
            step.open(first=None, is_begun=True)
            self._tint(task.branches)
            load_travelling(task.learner, tensors, norms=self.norms)
            step.place(
                step=work.round * steps,
                epoch=work.round * math.ceil(steps / min(passes)),
                proximal_mu=work.proximal_mu,
            )
            step.begin()
            losses = [step.take()["loss"] for _ in range(steps)]
        sent = {
            name: value.detach().cpu().numpy().copy()
            for name, value in travelling(task.learner, norms=self.norms).items()
        }
        return Update(sent, self.num_queries, steps, tuple(losses))

    def _tint(self, branches: Sequence[Branch]) -> None:
        if not self.tint:
            return
        draw = tint_of(self.number, strength=self.tint)
        for branch in branches:
            pixels = getattr(branch, "pixels", None)
            if pixels is not None and not isinstance(pixels, Tinted):
                cast(Any, branch).pixels = Tinted(pixels, draw)


class Tint(NamedTuple):
    """A camera's own colours: factors, and a turn of the hue in shares of the circle."""

    brightness: float
    contrast: float
    saturation: float
    hue: float


def tint_of(number: int, *, strength: float) -> Tint:
    """The colours of a client's camera."""
    drawn = random_stream(number, _TINTS).uniform(-1, 1, 4) * np.array(RANGES) * strength
    return Tint(1 + drawn[0], 1 + drawn[1], 1 + drawn[2], drawn[3])


class Tinted:
    """Photos (N, H, W, 3) uint8 as a camera with colours of its own gives them."""

    def __init__(self, pixels: Any, tint: Tint) -> None:
        self.pixels, self.tint = pixels, tint

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, rows: Any) -> np.ndarray:
        photos = np.asarray(self.pixels[rows], np.float32) / 255 * self.tint.brightness
        grey = photos @ np.array([0.299, 0.587, 0.114], np.float32)
        middle = grey.mean(axis=(-2, -1), keepdims=True)[..., None]
        photos = middle + (photos - middle) * self.tint.contrast
        photos = grey[..., None] + (photos - grey[..., None]) * self.tint.saturation
        return np.asarray(np.clip(photos @ _hue_matrix(self.tint.hue), 0, 1) * 255, np.uint8)


def _hue_matrix(share: float) -> np.ndarray:
    """The turn about the grey axis of RGB by a share of the circle, for rows."""
    angle, third = 2 * math.pi * share, 1 / 3
    cosine, sine = math.cos(angle), math.sin(angle) * math.sqrt(third)
    circulant = [
        cosine + (1 - cosine) * third,
        (1 - cosine) * third - sine,
        (1 - cosine) * third + sine,
    ]
    return np.array([np.roll(circulant, shift) for shift in range(3)], np.float32).T
