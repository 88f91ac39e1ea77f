"""The optimizer and its learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from whence.errors import BadOption, UnknownName
from whence.training.options.loop import OptimizerOptions, ScheduleOptions

OPTIMIZERS: Mapping[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
SCHEDULES = ("constant", "linear", "cosine", "poly", "steps", "plateau")
_FALL = 1e-4
"""A mean loss has fallen where it is less than the least by this share of it."""


def make_optimizer(
    module: nn.Module, losses: Sequence[tuple[nn.Module, float]] = (), *, options: OptimizerOptions
) -> torch.optim.Optimizer:
    """The optimizer over all parameters that learn, those of the losses at rates of their own; 0
    takes the module's.

    Each group remembers its full rate as "full_lr". Raises `UnknownName`, and `BadOption` where
    nothing is left to learn.
    """
    if options.name not in OPTIMIZERS:
        raise UnknownName("optimizer", options.name, OPTIMIZERS)
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not learning:
        raise BadOption("nothing is left to learn: freeze_before keeps every parameter as it is")
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in learning if p.ndim > 1],
            "lr": options.lr,
            "weight_decay": options.weight_decay,
        },
        {
            "params": [p for p in learning if p.ndim <= 1],
            "lr": options.lr,
            "weight_decay": options.weight_decay * options.decays_all,
        },
        *(
            {"params": list(loss.parameters()), "lr": lr or options.lr, "weight_decay": 0.0}
            for loss, lr in losses
        ),
    ]
    groups = [{**group, "full_lr": group["lr"]} for group in groups if group["params"]]
    more: dict[str, Any] = (
        {"momentum": options.momentum} if options.name == "sgd" else {"betas": (0.9, options.beta2)}
    )
    optimizer: torch.optim.Optimizer = OPTIMIZERS[options.name](groups, lr=options.lr, **more)
    return optimizer


def rate_share(step: int, *, options: ScheduleOptions, num_steps: int) -> float:
    """The share of the full learning rate at a step from 0. Raises `UnknownName`."""
    if options.name not in SCHEDULES:
        raise UnknownName("schedule", options.name, SCHEDULES)
    lower = (
        options.factor ** sum(step >= milestone for milestone in options.milestones)
        if options.name == "steps"
        else 1.0
    )
    if step < options.warmup_steps:
        return lower * (step + 1) / options.warmup_steps
    if options.name in ("constant", "steps", "plateau"):
        return lower
    if options.name == "poly":
        return max(0.0, 1 - step / (options.of_steps or num_steps)) ** options.power
    done = (step - options.warmup_steps) / max(1, num_steps - options.warmup_steps)
    shape = 1 - done if options.name == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return options.final_share + (1 - options.final_share) * shape


class Plateau:
    """The share of the learning rate that is left after the loss stopped falling, some times; 1 for
    every other schedule.

    torch's ReduceLROnPlateau, whose state is plain values here.
    """

    def __init__(self, options: ScheduleOptions) -> None:
        self.options = options
        self.share, self._least, self._num_worse, self._losses = 1.0, math.inf, 0, [0.0, 0.0]

    @property
    def is_watching(self) -> bool:
        """Whether losses matter to it."""
        return self.options.name == "plateau"

    def add(self, loss: float) -> None:
        """Take the loss of a step into account."""
        if not self.is_watching:
            return
        total, num = self._losses[0] + loss, self._losses[1] + 1
        self._losses = [total, num]
        if num < self.options.epoch_steps:
            return
        mean, self._losses = total / num, [0.0, 0.0]
        if mean < self._least * (1 - _FALL):
            self._least, self._num_worse = mean, 0
        else:
            self._num_worse += 1
        if self._num_worse > self.options.patience:
            self.share, self._num_worse = self.share * self.options.factor, 0

    def values(self) -> list[float]:
        """Numbers that a resumed training needs, as JSON takes them."""
        return [self.share, self._least, self._num_worse, *self._losses]

    def load(self, values: Sequence[float]) -> None:
        """Put back what `values` gave."""
        self.share, self._least, self._num_worse = values[0], values[1], int(values[2])
        self._losses = list(values[3:])
