"""One update after the other of a task, without any folder: for the loop, and for those who own the
loop themselves.

What an update does follows from the task, the seed and the step's number, on a CPU bit by bit.
Photos of the next batches are read while the current ones are learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from whence.errors import BadOption
from whence.models.backbones.base import Features
from whence.models.networks import describe_pixels, describing
from whence.training.ahead import AheadReader
from whence.training.checkpoints import (
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    tensors_below,
)
from whence.training.clock import Clock
from whence.training.optimization import Plateau, make_optimizer, rate_share
from whence.training.options.loop import LoopOptions, Precision
from whence.training.task import BatchPlace, Draw, Share, Task, as_one

DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Step:
    """Updates of a task. A context: leaving it ends the reading ahead.

    >>> with Step(task, options=recipe.loop) as step:   # doctest: +SKIP
    ...     step.open()
    ...     for _ in range(10):
    ...         losses = step.take()
    """

    def __init__(
        self, task: Task, *, options: LoopOptions, accelerator: Accelerator | None = None
    ) -> None:
        """`options.num_steps` says over how many steps learning rates go. Raises `BadOption`,
        `UnknownName`."""
        self.task, self.options = task, options
        self.accelerator = accelerator or make_accelerator(options.precision)
        self.device, self.dtype = self.accelerator.device, DTYPES[options.precision]
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        self.learner = task.learner
        for branch in task.branches:
            branch.loss.to(self.device)
            if branch.opponent is not None:
                branch.opponent.to(self.device)
        self.learner.to(self.device)
        if options.is_channels_last:
            self.learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizers = [
            make_optimizer(one.module, one.losses, options=one.options) for one in task.optimizers
        ]
        self.averaged: AveragedModel | None = None
        self._plateau = Plateau(task.optimizers[0].schedule)
        self.step, self.num_photos = 0, 0
        self.clock = Clock()
        self._reader = ThreadPoolExecutor(1)
        self._sources = [AheadReader(branch, self._reader, self.share) for branch in task.branches]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for source in self._sources:
            source.cancel()
        self._reader.shutdown()
        for branch in self.task.branches:
            branch.keep()

    def open(self, *, first: Callable[[], None] | None = None, is_begun: bool = False) -> None:
        """Get photos ready, the main process first, so that files are written once and then found
        by the others.

        `first` is what the main process does before it; of a training that `is_begun`, no branch
        starts anew.
        """
        with self.accelerator.main_process_first():
            if first is not None and self.share.rank == 0:
                first()
            for branch in self.task.branches:
                branch.open()
            if self.task.probe is not None:
                self.task.probe.open()
            if not is_begun:
                for branch in self.task.branches:
                    branch.start(self.learner, self.device)
        if self.options.ema_decay > 0:
            self.averaged = AveragedModel(
                self.learner,
                multi_avg_fn=get_ema_multi_avg_fn(self.options.ema_decay),
                use_buffers=True,
            )

    def begin(self) -> None:
        """Get ready for the first update: of a new training, or after `load_tensors`."""
        forward = torch.compile(self.learner) if self.options.is_compiled else self.learner
        # Optimizers are prepared too: it is they that skip a step whose fp16 gradients overflow.
        self._forward, *self._updaters = self.accelerator.prepare(forward, *self.optimizers)
        self.learner.train()
        for source in self._sources:
            source.look_ahead()

    def take(self) -> dict[str, float]:
        """One update. Gives the losses: the whole as "loss", and what it is made of; those of
        several batches are averaged."""
        if not hasattr(self, "_forward"):
            self.begin()
        for optimizer, one in zip(self.optimizers, self.task.optimizers, strict=True):
            share = self._plateau.share * rate_share(
                self.step, options=one.schedule, num_steps=self.options.num_steps
            )
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * share
        values: dict[str, float] = {}
        for number in range(self.options.accumulate):
            for name, value in self._learn(number).items():
                values[name] = values.get(name, 0.0) + value
        with self.clock.measure("learning"):
            self._update()
        self.step += 1
        self._plateau.add(self._loss_of_all(values["loss"]))
        return values

    def _loss_of_all(self, loss: float) -> float:
        """The mean loss of all processes: the rate falls, and the training ends, in all of them at
        once."""
        if self.share.num_ranks == 1 or not self._plateau.is_watching:
            return loss
        return float(self.accelerator.reduce(torch.tensor(loss, device=self.device), "mean"))

    def _learn(self, number: int) -> dict[str, float]:
        """Add the gradients of a batch of every branch."""
        contents, draws = [], []
        for index, source in enumerate(self._sources):
            if source.is_due:
                with self.clock.measure("mining"):
                    self._refresh(source)
            source.begin(self.device)
            with self.clock.measure("waiting"):
                batch = source.take()
            self.num_photos += batch.num_photos * self.share.num_ranks
            draw = self._draw(number, index)
            with self.clock.measure("augmenting"):
                contents.append(source.branch.change(batch.content, draw))
            draws.append(draw)
        with self.clock.measure("learning"):
            return self._add_gradients(contents, draws)

    def _add_gradients(self, contents: list[Any], draws: list[Draw]) -> dict[str, float]:
        branches = self.task.branches
        if self.options.losses == "one":
            pairs = as_one(
                [
                    branch.pairs(self._forward, *both)
                    for branch, *both in zip(branches, contents, draws, strict=True)
                ]
            )
            draws[0].seed_torch(0)
            value = branches[0].loss(pairs.descriptors, pairs.labels) / self.options.accumulate
            self.accelerator.backward(value)
            return {"loss": float(value.detach())}
        values: dict[str, float] = {"loss": 0.0}
        whole: list[Tensor] = []
        for branch, content, draw in zip(branches, contents, draws, strict=True):
            losses = branch.learn(self._forward, content, draw)
            value = branch.weight * losses.total / self.options.accumulate
            if self.options.gradients == "joint":
                whole.append(value)
            else:
                self.accelerator.backward(value)
            if losses.opponent is not None:
                self.accelerator.backward(losses.opponent / self.options.accumulate)
                values[f"{branch.name}.opponent"] = (
                    float(losses.opponent.detach()) / self.options.accumulate
                )
            values["loss"] += float(value.detach())
            named = losses.parts or ({branch.name: losses.total} if len(branches) > 1 else {})
            for name, part in named.items():
                key = f"{branch.name}.{name}" if name in values else name
                values[key] = float(part.detach()) / self.options.accumulate
        if whole:
            self.accelerator.backward(torch.stack(whole).sum())
        return values

    def _refresh(self, source: AheadReader) -> None:
        self.learner.eval()
        source.branch.refresh(source.place.epoch, _Describe(self))
        self.learner.train()

    def _draw(self, number: int, branch: int) -> Draw:
        return Draw(
            seed=self.options.seed,
            step=self.step,
            batch=number,
            branch=branch,
            share=self.share,
            device=self.device,
            autocast=self.accelerator.autocast,
            is_channels_last=self.options.is_channels_last,
        )

    def _update(self) -> None:
        if self.share.num_ranks > 1:
            # The learner's gradients are averaged as they are taken; an opponent sees its process's
            # share alone.
            for parameter in (
                parameter for one in self.task.optimizers[1:] for parameter in one.parameters()
            ):
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, "mean")
        for optimizer in (
            optimizer for branch in self.task.branches for optimizer in branch.optimizers()
        ):
            # Before the learner's own, after which fp16's scale changes.
            scaler = self.accelerator.scaler
            optimizer.step() if scaler is None else scaler.step(optimizer)
            optimizer.zero_grad()
        for updater, one in zip(self._updaters, self.task.optimizers, strict=True):
            if one.options.clip_norm > 0:
                self.accelerator.clip_grad_norm_(one.parameters(), one.options.clip_norm)
            updater.step()
            updater.zero_grad()
        if self.averaged is not None:
            self.averaged.update_parameters(self.learner)

    @property
    def rate(self) -> float:
        """The learner's learning rate."""
        return float(self.optimizers[0].param_groups[0]["lr"])

    @property
    def is_spent(self) -> bool:
        """Whether the learning rate fell below the schedule's least."""
        one = self.task.optimizers[0]
        return self._plateau.share * one.options.lr < one.schedule.least_lr

    @property
    def kept(self) -> nn.Module:
        """The module that is measured and kept: the learner, or its moving average."""
        return self.learner if self.averaged is None else self.averaged.module

    def averaged_values(self, values: dict[str, float]) -> dict[str, float]:
        """Losses as those of the whole batch: the mean over all processes, each of which may have
        seen a share."""
        if self.share.num_ranks == 1:
            return values
        mean = self.accelerator.reduce(
            torch.tensor(list(values.values()), device=self.device), "mean"
        )
        return dict(zip(values, mean.tolist(), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """All that a training goes on from, by name, beside `values`."""
        found = module_tensors(self.learner, "network")
        for number, optimizer in enumerate(self.optimizers):
            found |= optimizer_tensors(optimizer, f"optimizers.{number}")
        if self.averaged is not None:
            found |= module_tensors(self.averaged, "averaged")
        for number, branch in enumerate(self.task.branches):
            found |= module_tensors(branch.loss, f"branches.{number}.loss")
            if branch.opponent is not None:
                found |= module_tensors(branch.opponent, f"branches.{number}.opponent")
            found |= {
                f"branches.{number}.state.{name}": tensor for name, tensor in branch.state().items()
            }
        return found

    @property
    def is_state_shared(self) -> bool:
        """Whether `tensors` must be asked for in all processes at once."""
        return any(branch.is_state_shared for branch in self.task.branches)

    def values(self) -> dict[str, Any]:
        """The step, where the branches stand, and the state of fp16's scaler, as JSON takes
        them."""
        scaler = self.accelerator.scaler
        places = [list(source.place) for source in self._sources]
        return {
            "step": self.step,
            "places": places,
            "plateau": self._plateau.values(),
            "scaler": {} if scaler is None else scaler.state_dict(),
        }

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go on from what `tensors` and `values` gave; before `begin`."""
        self.learner.load_state_dict(tensors_below(tensors, "network"))
        for number, optimizer in enumerate(self.optimizers):
            load_optimizer(optimizer, tensors, f"optimizers.{number}")
        if self.averaged is not None:
            self.averaged.load_state_dict(tensors_below(tensors, "averaged"))
        for number, branch in enumerate(self.task.branches):
            branch.loss.load_state_dict(tensors_below(tensors, f"branches.{number}.loss"))
            if branch.opponent is not None:
                branch.opponent.load_state_dict(
                    tensors_below(tensors, f"branches.{number}.opponent")
                )
            branch.load_state(tensors_below(tensors, f"branches.{number}.state"))
        for source, place in zip(self._sources, values["places"], strict=True):
            source.place = BatchPlace(*place)
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])
        if "plateau" in values:  # Trainings of before this schedule lack it.
            self._plateau.load(values["plateau"])
        self.step = values["step"]


@dataclass(frozen=True)
class _Describe:
    """The learner as it stands, for branches that look for their batches with it."""

    step: Step

    @property
    def share(self) -> Share:
        return self.step.share

    def __call__(
        self,
        rows: np.ndarray,
        read: Callable[[np.ndarray], np.ndarray | Features],
        *,
        batch_size: int,
    ) -> Tensor:
        describe = describing(self.step.learner, device=self.step.device, dtype=self.step.dtype)
        return describe_pixels(describe, rows, batch_size=batch_size, read=read)

    def broadcast(self, values: np.ndarray) -> np.ndarray:
        if self.share.num_ranks == 1:
            return values
        shared: np.ndarray = broadcast(torch.from_numpy(values).to(self.step.device)).cpu().numpy()
        return shared


def make_accelerator(precision: Precision) -> Accelerator:
    """Where to compute, and in what precision. accelerate keeps that for the process: a second
    training may ask for another.

    Raises `BadOption` for fp16 on a CPU.
    """
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
    # Processes of torchrun find each other over CPUs only where accelerate is told that these are
    # meant.
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available())
    if accelerator.device.type == "cpu" and precision == "fp16":
        raise BadOption("fp16 needs a GPU; on a CPU set loop.precision=bf16")
    return accelerator
