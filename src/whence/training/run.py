"""The loop itself: batches, learning, updates; validation, checkpoints and the log. One loop for a CPU, a GPU, or torchrun.

What a step does follows from the recipe, the seed and the step's number, so that a killed run that goes on from its last checkpoint
gives the numbers of a run that was not killed (bit by bit on a CPU with the same number of threads). What is read, learned from and
measured is said by the classes derived from `Run`.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from whence.cards import ModelCard
from whence.errors import BadOption
from whence.runtime import progress
from whence.training import checkpoints
from whence.training.optimization import make_optimizer, rate_share
from whence.training.recipe import LossOptions, Precision, TrainingRecipe
from whence.training.record import Log, claim_run

_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
R = TypeVar("R", bound=TrainingRecipe)
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
    mining_share: float = 0.0
    """Share of the training time in which batches were looked for with the network as it stood."""
    is_stopped_early: bool = False


class BatchPlace(NamedTuple):
    """Where a training stands: the next batch."""

    epoch: int
    number: int


class Read(NamedTuple):
    """A batch as it was read: what is learned from, and of how many photos."""

    content: Any
    num_photos: int


class Run(ABC, Generic[R]):
    """A training in this process. Photos of the next batch are read while the current one is learned from."""

    is_mined = False
    """Whether the batches of an epoch are known only once it begins: nothing of it is read before."""

    def __init__(self, recipe: R, *, out: Path, is_resumed: bool, show_progress: bool | None) -> None:
        loop = recipe.loop
        self.recipe, self.out, self.show_progress = recipe, out, show_progress
        self.accelerator = make_accelerator(loop.precision)
        self.device, self.dtype = self.accelerator.device, _DTYPES[loop.precision]
        if self.device.type == "cpu" and loop.precision == "fp16":
            raise BadOption("fp16 needs a GPU; on a CPU set loop.precision=bf16")
        self.is_main = self.accelerator.is_main_process
        self.rank, self.num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        self.network, self.loss, loss_options = self.make_parts()
        self.loss.to(self.device)
        self.network.to(self.device)
        if loop.is_channels_last:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(self.network, self.loss, options=recipe.optimizer, loss_options=loss_options)
        with self._one_after_the_other():
            if self.is_main:
                claim_run(out, recipe, data=self.describe_data(), is_resumed=is_resumed)
            self.open_data()
        self.averaged = None
        if loop.ema_decay > 0:
            self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(loop.ema_decay), use_buffers=True)
        self.place = BatchPlace(0, 0)
        self.step, self.best, self.best_step, self.num_worse = 0, -1.0, 0, 0
        if is_resumed:
            self._load()
        forward = torch.compile(self.network) if loop.is_compiled else self.network
        # The optimizer is prepared too: it is what skips a step whose fp16 gradients overflow.
        self.forward, self.updater = self.accelerator.prepare(forward, self.optimizer)

    @abstractmethod
    def make_parts(self) -> tuple[nn.Module, nn.Module, LossOptions]:
        """What learns, the loss (whose own weights may learn too), and its options."""

    @abstractmethod
    def describe_data(self) -> Mapping[str, Any]:
        """What is written beside the recipe about the data."""

    @abstractmethod
    def open_data(self) -> None:
        """Get photos, and what is measured, ready; the main process comes first and writes what the others then find."""

    @abstractmethod
    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch."""

    def begin(self, epoch: int) -> None:
        """Get ready for an epoch with the network as it stands. Called where `is_mined`."""

    @abstractmethod
    def read(self, place: BatchPlace) -> Read:
        """This process's share of a batch."""

    @abstractmethod
    def change(self, content: Any, batch: int) -> Any:
        """The batch augmented, ready to learn from; `batch` is its number among those of one update."""

    @abstractmethod
    def learn(self, content: Any) -> dict[str, float]:
        """Add the gradients of a batch; gives what is logged, the whole loss as "loss"."""

    @abstractmethod
    def measure(self, network: nn.Module) -> dict[str, float]:
        """What is logged of a validation; the best weights are chosen by "recall"."""

    def card_of(self, network: nn.Module) -> ModelCard | None:
        """The card that goes into the files of weights; None where these are no model by themselves."""
        return None

    @property
    @abstractmethod
    def is_validated(self) -> bool:
        """Whether there is something to measure."""

    def state_tensors(self) -> dict[str, Tensor]:
        """What else a resumed training needs."""
        return {}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state_tensors` gave."""

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
            ahead = None if self._begins_anew() else reader.submit(self.read, self.place)
            while self.step < loop.num_steps and not is_stopped:
                self._set_rate()
                values: dict[str, float] = {}
                for number in range(loop.accumulate):
                    if ahead is None:
                        with clock.measure("mining"):
                            self.begin(self.place.epoch)
                    with clock.measure("waiting"):
                        batch = (ahead or reader.submit(self.read, self.place)).result()
                        self.place = self._after(self.place)
                        ahead = None if self._begins_anew() else reader.submit(self.read, self.place)
                    with clock.measure("augmenting"):
                        content = self.change(batch.content, number)
                    with clock.measure("learning"):
                        for name, value in self.learn(content).items():
                            values[name] = values.get(name, 0.0) + value
                    num_images += batch.num_photos * self.num_ranks
                with clock.measure("learning"):
                    self._update()
                self.step += 1
                advance(1)
                if self.step % loop.log_every == 0 or self.step == loop.num_steps:
                    values = self._averaged(values)
                    if log is not None:
                        times = {**clock.shares(), "images_per_s": num_images / clock.total}
                        log.write(self.step, {**values, "lr": self._rate(), **times})
                if self.is_validated and (self.step % loop.validate_every == 0 or self.step == loop.num_steps):
                    is_stopped = self._validate(log)
                if self.is_main and (self.step % loop.save_every == 0 or self.step == loop.num_steps or is_stopped):
                    self._save()
            if ahead is not None:
                ahead.cancel()
        if log is not None:
            self._write_weights(self.out / FINAL)
            log.close()
        self.accelerator.wait_for_everyone()
        shares = clock.shares()
        return TrainSummary(
            path=self.out,
            num_steps=self.step,
            best_recall=self.best if self.is_validated and self.best >= 0 else None,
            best_step=self.best_step,
            seconds=time.perf_counter() - started,
            images_per_s=num_images / clock.total if self.step > first else 0.0,
            waiting_share=shares["waiting_share"],
            augmenting_share=shares["augmenting_share"],
            mining_share=shares["mining_share"],
            is_stopped_early=is_stopped,
        )

    def _averaged(self, values: dict[str, float]) -> dict[str, float]:
        """Losses as those of the whole batch: the mean over all processes, each of which may have seen a share."""
        if self.num_ranks == 1:
            return values
        mean = self.accelerator.reduce(torch.tensor(list(values.values()), device=self.device), "mean")
        return dict(zip(values, mean.tolist(), strict=True))

    def _begins_anew(self) -> bool:
        return self.is_mined and self.place.number == 0

    def _after(self, place: BatchPlace) -> BatchPlace:
        is_last = place.number + 1 == self.num_batches(place.epoch)
        return BatchPlace(place.epoch + 1, 0) if is_last else BatchPlace(place.epoch, place.number + 1)

    def _shows(self) -> bool | None:
        return self.show_progress if self.is_main else False

    def _tensorboard(self) -> Path | None:
        return self.out / "tensorboard" if self.recipe.loop.has_tensorboard else None

    def _update(self) -> None:
        clip_norm = self.recipe.optimizer.clip_norm
        if clip_norm > 0:
            self.accelerator.clip_grad_norm_([*self.network.parameters(), *self.loss.parameters()], clip_norm)
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

    def _kept(self) -> nn.Module:
        """What is measured and kept: the network, or its moving average."""
        network: nn.Module = self.network if self.averaged is None else self.averaged.module
        return network

    def _validate(self, log: Log | None) -> bool:
        """Measure recall, keep the best weights, and say whether to stop. Every process measures; all find the same."""
        found = self.measure(self._kept())
        is_better = found["recall"] > self.best
        self.num_worse = 0 if is_better else self.num_worse + 1
        if is_better:
            self.best, self.best_step = found["recall"], self.step
            if self.is_main:
                self._write_weights(self.out / BEST)
        if log is not None:
            log.write(self.step, found)
        return bool(self.recipe.loop.patience) and self.num_worse >= self.recipe.loop.patience

    def _write_weights(self, file: Path) -> None:
        values = {"step": self.step, "recall": self.best if self.best_step == self.step else None, "recipe": self.recipe.name}
        kept = self._kept()
        checkpoints.write_checkpoint(file, kept.state_dict(), values, card=self.card_of(kept))

    def _save(self) -> None:
        folder = self.out / "checkpoints"
        folder.mkdir(exist_ok=True)
        tensors = checkpoints.module_tensors(self.network, "network") | checkpoints.module_tensors(self.loss, "loss")
        tensors |= checkpoints.optimizer_tensors(self.optimizer, "optimizer")
        if self.averaged is not None:
            tensors |= checkpoints.module_tensors(self.averaged, "averaged")
        tensors |= {f"state.{name}": tensor for name, tensor in self.state_tensors().items()}
        scaler = self.accelerator.scaler
        values = {
            "step": self.step,
            "position": list(self.place),
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
        self.load_state_tensors(checkpoints.tensors_below(tensors, "state"))
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(values["scaler"])
        self.step, self.best, self.best_step = values["step"], values["best"], values["best_step"]
        self.num_worse, self.place = values["num_worse"], BatchPlace(*values["position"])


class _Clock:
    """Seconds by what was done in them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"waiting": 0.0, "augmenting": 0.0, "mining": 0.0, "learning": 0.0}

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - started

    @property
    def total(self) -> float:
        return max(sum(self.seconds.values()), 1e-9)

    def shares(self) -> dict[str, float]:
        return {f"{what}_share": self.seconds[what] / self.total for what in ("waiting", "augmenting", "mining")}


def make_accelerator(precision: Precision) -> Accelerator:
    """Where to compute, and in what precision. accelerate keeps that for the process: a second training may ask for another."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()
    # Processes of torchrun find each other over CPUs only where accelerate is told that these are meant.
    return Accelerator(mixed_precision=precision, cpu=not torch.accelerator.is_available())


def gather(descriptors: Tensor, num_ranks: int) -> Tensor:
    """The whole batch's descriptors on every process, through which gradients flow back to where each was made.

    Every process then computes the same loss; its gradient reaches a descriptor once from each of them, and averaging over
    processes, as is done with parameters, gives the gradient of that one loss.
    """
    if num_ranks == 1:
        return descriptors
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(descriptors))
