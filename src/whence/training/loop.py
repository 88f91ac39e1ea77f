"""The loop: batches, forward, loss, backward, update; validation, checkpoints and the log. One loop for a CPU, a GPU, or torchrun.

What a step does follows from the recipe, the seed and the step's number, so that a killed run that goes on from its last checkpoint gives
the numbers of a run that was not killed (bit by bit on a CPU with the same number of threads).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from whence.data.formats import EvaluationSet
from whence.errors import BadOption, UnknownName
from whence.models.aggregators import Aggregator, GeM
from whence.models.backbones import make_backbone
from whence.models.networks import Network
from whence.runtime import progress
from whence.training import checkpoints
from whence.training.augment import Augment
from whence.training.batches import PlaceBatches, shard
from whence.training.losses import make_loss
from whence.training.optimization import make_optimizer, rate_share
from whence.training.pixels import cached_pixels
from whence.training.places import Places
from whence.training.recipe import AggregatorOptions, Precision, Recipe
from whence.training.record import Log, claim_run
from whence.training.validation import Validation

_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
BEST, FINAL = "best.safetensors", "final.safetensors"


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """What a training came to."""

    path: Path
    num_steps: int
    """Updates made, those before a resume included."""
    best_recall: float | None
    """Of the validation; None without one."""
    best_step: int
    seconds: float
    """Of this process."""
    images_per_s: float
    waiting_share: float
    """Share of the training time in which the loop waited for photos, and in which they were augmented, below."""
    augmenting_share: float
    is_stopped_early: bool = False


class _Position(NamedTuple):
    """The next batch."""

    epoch: int
    number: int


def make_network(recipe: Recipe) -> Network:
    """The recipe's network, with the weights it starts from. Raises `UnknownName`, `BadOption` and `InputError`."""
    torch.manual_seed(recipe.loop.seed)
    backbone = make_backbone(recipe.backbone)
    network = Network(backbone, _make_aggregator(recipe.aggregator, backbone.channels))
    if recipe.start_from:
        found = checkpoints.read_checkpoint(recipe.start_from).tensors
        try:
            network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in found.items()})
        except RuntimeError as error:
            raise BadOption(f"{recipe.start_from!r} holds other weights than this network's: {error}") from None
    if recipe.freeze_before:
        backbone.freeze_before(recipe.freeze_before)
    return network


def _make_aggregator(options: AggregatorOptions, channels: int) -> Aggregator:
    if options.name != "gem":
        raise UnknownName("aggregator", options.name, ["gem"])
    return GeM(channels, **options.options)


def train(
    recipe: Recipe,
    places: Places,
    *,
    out: str | Path,
    validation: EvaluationSet | None = None,
    pixels_folder: str | Path,
    validation_folder: str | Path | None = None,
    is_resumed: bool = False,
    show_progress: bool | None = None,
) -> TrainSummary:
    """Train by the recipe into the folder `out`: recipe.json, log.jsonl, checkpoints/, best.safetensors, final.safetensors.

    Photos are kept decoded in `pixels_folder` (those of the validation in `validation_folder`, by default the same). `is_resumed`
    goes on from the last checkpoint, or begins where there is none. Raises `BadOption`, `UnknownName`, `InputError`, `NoPhotos`.
    """
    return _Run(recipe, places, Path(out), validation, (pixels_folder, validation_folder), is_resumed, show_progress).run()


class _Run:
    """A training in this process."""

    def __init__(
        self,
        recipe: Recipe,
        places: Places,
        out: Path,
        validation: EvaluationSet | None,
        folders: tuple[str | Path, str | Path | None],
        is_resumed: bool,
        show_progress: bool | None,
    ) -> None:
        loop, seen = recipe.loop, recipe.augment
        self.recipe, self.out, self.show_progress = recipe, out, show_progress
        self.accelerator = make_accelerator(loop.precision)
        self.device, self.dtype = self.accelerator.device, _DTYPES[loop.precision]
        if self.device.type == "cpu" and loop.precision == "fp16":
            raise BadOption("fp16 needs a GPU; on a CPU set loop.precision=bf16")
        self.is_main = self.accelerator.is_main_process
        self.ranks = self.accelerator.num_processes
        self.batches = PlaceBatches(places, options=recipe.batches, seed=loop.seed)
        self.network = make_network(recipe)
        self.loss = make_loss(recipe.loss, num_classes=len(places), dim=self.network.dim).to(self.device)
        self.network.to(self.device, memory_format=torch.channels_last if loop.is_channels_last else torch.contiguous_format)
        self.optimizer = make_optimizer(self.network, self.loss, options=recipe.optimizer, loss_options=recipe.loss)
        with self._one_after_the_other():
            data = {"num_photos": len(places.photos), "num_places": len(places)}
            if self.is_main:
                claim_run(out, recipe, data=data, is_resumed=is_resumed)
            self.pixels = cached_pixels(
                places.photos,
                width=seen.stored_width or seen.width,
                height=seen.stored_height or seen.height,
                folder=folders[0],
                show_progress=show_progress,
            )
            self.validation = None
            if validation is not None:
                asked = replace(
                    recipe.validate_on,
                    width=recipe.validate_on.width or seen.width,
                    height=recipe.validate_on.height or seen.height,
                )
                self.validation = Validation(
                    validation, options=asked, folder=folders[1] or folders[0], show_progress=show_progress
                )
        self.augment = Augment(seen, seed=loop.seed)
        self.averaged = None
        if loop.ema_decay > 0:
            self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(loop.ema_decay), use_buffers=True)
        self.position = _Position(0, 0)
        self.step, self.best, self.best_step, self.num_worse = 0, -1.0, 0, 0
        if is_resumed:
            self._load()
        forward = torch.compile(self.network) if loop.is_compiled else self.network
        # The optimizer is prepared too: it is what skips a step whose fp16 gradients overflow.
        self.forward, self.updater = self.accelerator.prepare(forward, self.optimizer)

    @contextlib.contextmanager
    def _one_after_the_other(self) -> Iterator[None]:
        """The main process first, so that files are written once and then found by the others."""
        with self.accelerator.main_process_first():
            yield

    def run(self) -> TrainSummary:
        """Train to the end, or until validation stops getting better."""
        loop = self.recipe.loop
        log = Log(self.out / "log.jsonl", start=self.step, tensorboard=self._tensorboard()) if self.is_main else None
        started, num_images = time.perf_counter(), 0
        clock = _Clock()
        first = self.step
        is_stopped = bool(loop.patience) and self.num_worse >= loop.patience
        with ThreadPoolExecutor(1) as reader, progress("training", total=loop.num_steps, show=self._shows()) as advance:
            advance(self.step)
            self.network.train()
            ahead = reader.submit(self._read, self.position)
            while self.step < loop.num_steps and not is_stopped:
                self._set_rate()
                value = 0.0
                for number in range(loop.accumulate):
                    with clock.measure("waiting"):
                        photos, labels, first_photo, following = ahead.result()
                        ahead = reader.submit(self._read, following)
                    with clock.measure("augmenting"):
                        images = self._augmented(photos, number, first_photo)
                    with clock.measure("learning"):
                        value += self._backward(images, labels)
                    self.position = following
                    num_images += len(photos) * self.ranks
                with clock.measure("learning"):
                    self._update()
                self.step += 1
                advance(1)
                if log is not None and (self.step % loop.log_every == 0 or self.step == loop.num_steps):
                    log.write(self.step, {"loss": value, "lr": self._rate(), **clock.shares(), "images_per_s": num_images / clock.total})
                if self.validation is not None and (self.step % loop.validate_every == 0 or self.step == loop.num_steps):
                    is_stopped = self._validate(log)
                if self.is_main and (self.step % loop.save_every == 0 or self.step == loop.num_steps or is_stopped):
                    self._save()
            ahead.cancel()
        if log is not None:
            self._write_weights(self.out / FINAL)
            log.close()
        self.accelerator.wait_for_everyone()
        shares = clock.shares()
        return TrainSummary(
            path=self.out,
            num_steps=self.step,
            best_recall=self.best if self.validation is not None and self.best >= 0 else None,
            best_step=self.best_step,
            seconds=time.perf_counter() - started,
            images_per_s=num_images / clock.total if self.step > first else 0.0,
            waiting_share=shares["waiting_share"],
            augmenting_share=shares["augmenting_share"],
            is_stopped_early=is_stopped,
        )

    def _shows(self) -> bool | None:
        return self.show_progress if self.is_main else False

    def _tensorboard(self) -> Path | None:
        return self.out / "tensorboard" if self.recipe.loop.has_tensorboard else None

    def _read(self, position: _Position) -> tuple[Tensor, Tensor, int, _Position]:
        """This process's photos (B, H, W, 3) of a batch, the whole batch's labels, the number of the first photo, the next position."""
        whole = self.batches.batch(position.epoch, position.number)
        mine = shard(whole, rank=self.accelerator.process_index, num_ranks=self.ranks)
        photos = torch.from_numpy(np.stack([self.pixels[row] for row in mine.rows]))
        is_last = position.number + 1 == self.batches.num_batches(position.epoch)
        following = _Position(position.epoch + 1, 0) if is_last else _Position(position.epoch, position.number + 1)
        return photos, torch.from_numpy(whole.labels), self.accelerator.process_index * len(mine.rows), following

    def _augmented(self, photos: Tensor, batch: int, first_photo: int) -> Tensor:
        images = self.augment(photos.to(self.device), step=self.step, batch=batch, first=first_photo)
        return images.contiguous(memory_format=torch.channels_last) if self.recipe.loop.is_channels_last else images

    def _backward(self, images: Tensor, labels: Tensor) -> float:
        """Add the gradients of one batch; gives the loss."""
        # Whatever draws random numbers inside the network follows from the step as well.
        torch.manual_seed((self.recipe.loop.seed << 40) ^ (self.step << 8) ^ self.accelerator.process_index)
        with self.accelerator.autocast():
            descriptors = self.forward(images)
        value = self.loss(gather(descriptors.float(), self.ranks), labels.to(self.device)) / self.recipe.loop.accumulate
        self.accelerator.backward(value)
        return float(value.detach())

    def _update(self) -> None:
        if self.recipe.optimizer.clip_norm > 0:
            self.accelerator.clip_grad_norm_([*self.network.parameters(), *self.loss.parameters()], self.recipe.optimizer.clip_norm)
        self.updater.step()
        self.updater.zero_grad()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def _set_rate(self) -> None:
        share = rate_share(self.step, options=self.recipe.schedule, num_steps=self.recipe.loop.num_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * share

    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _validate(self, log: Log | None) -> bool:
        """Measure recall, keep the best weights, and say whether to stop. Every process measures; all find the same."""
        assert self.validation is not None
        network = self.network if self.averaged is None else self.averaged.module
        found = self.validation.recall(network, device=self.device, precision=self.dtype)
        is_better = found > self.best
        self.num_worse = 0 if is_better else self.num_worse + 1
        if is_better:
            self.best, self.best_step = found, self.step
            if self.is_main:
                self._write_weights(self.out / BEST)
        if log is not None:
            log.write(self.step, {"recall": found})
        return bool(self.recipe.loop.patience) and self.num_worse >= self.recipe.loop.patience

    def _write_weights(self, file: Path) -> None:
        network = self.network if self.averaged is None else self.averaged.module
        values = {"step": self.step, "recall": self.best if self.best_step == self.step else None, "recipe": self.recipe.name}
        checkpoints.write_checkpoint(file, network.state_dict(), values)

    def _save(self) -> None:
        folder = self.out / "checkpoints"
        folder.mkdir(exist_ok=True)
        tensors = checkpoints.module_tensors(self.network, "network") | checkpoints.module_tensors(self.loss, "loss")
        tensors |= checkpoints.optimizer_tensors(self.optimizer, "optimizer")
        if self.averaged is not None:
            tensors |= checkpoints.module_tensors(self.averaged, "averaged")
        scaler = self.accelerator.scaler
        values = {
            "step": self.step,
            "position": list(self.position),
            "best": self.best,
            "best_step": self.best_step,
            "num_worse": self.num_worse,
            "scaler": {} if scaler is None else scaler.state_dict(),
        }
        checkpoints.write_checkpoint(checkpoints.checkpoint_file(folder, self.step), tensors, values)
        checkpoints.remove_older(folder, step=self.step)

    def _load(self) -> None:
        file = checkpoints.newest_checkpoint(self.out / "checkpoints")
        if file is None:
            return
        tensors, values = checkpoints.read_checkpoint(file)
        self.network.load_state_dict(checkpoints.tensors_below(tensors, "network"))
        self.loss.load_state_dict(checkpoints.tensors_below(tensors, "loss"))
        checkpoints.load_optimizer(self.optimizer, tensors, "optimizer")
        if self.averaged is not None:
            self.averaged.load_state_dict(checkpoints.tensors_below(tensors, "averaged"))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])
        self.step, self.best, self.best_step = values["step"], values["best"], values["best_step"]
        self.num_worse, self.position = values["num_worse"], _Position(*values["position"])


class _Clock:
    """Seconds by what was done in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"waiting": 0.0, "augmenting": 0.0, "learning": 0.0}

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - started

    @property
    def total(self) -> float:
        return max(sum(self.seconds.values()), 1e-9)

    def shares(self) -> dict[str, float]:
        return {f"{what}_share": self.seconds[what] / self.total for what in ("waiting", "augmenting")}


def make_accelerator(precision: Precision) -> Accelerator:
    """Where to compute, and in what precision. accelerate keeps that for the whole process: a second training may ask for another."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def gather(descriptors: Tensor, num_ranks: int) -> Tensor:
    """The whole batch's descriptors on every process, through which gradients flow back to where each was made.

    Every process then computes the same loss; its gradient reaches a descriptor once from each of them, and averaging over
    processes, as is done with parameters, gives the gradient of that one loss.
    """
    if num_ranks == 1:
        return descriptors
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(descriptors))


def count_parameters(network: nn.Module) -> dict[str, Any]:
    """Parameters of a network, and how many of them learn."""
    parameters = list(network.parameters())
    return {"parameters": sum(p.numel() for p in parameters), "learning": sum(p.numel() for p in parameters if p.requires_grad)}
