"""The loop: updates until the end or until nothing gets better, with validation, checkpoints and
the log in a folder.

A killed run that goes on from its last checkpoint gives the numbers of a run that was not killed
(bit by bit on a CPU with the same number of threads). What is read, learned from and measured is
said by the task; one update is `whence.training.step`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from whence.runtime import progress
from whence.training import checkpoints
from whence.training.options.loop import LoopOptions
from whence.training.record import Log
from whence.training.step import Step

BEST, FINAL = "best.safetensors", "final.safetensors"


@dataclass(frozen=True, slots=True)
class TrainSummary:
    """A training that is over, in figures."""

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
    """Share of the training time in which the loop waited for photos, and in which they were
    augmented, below."""
    augmenting_share: float
    mining_share: float = 0.0
    """Share of the training time in which batches were looked for with the network as it stood."""
    is_stopped_early: bool = False


class Run:
    """A training in this process, in a folder."""

    def __init__(self, step: Step, *, recipe: str, out: Path, show_progress: bool | None) -> None:
        """`step` is open. `recipe` is the name that goes into the files of weights."""
        self.step, self.recipe, self.out, self.show_progress = step, recipe, out, show_progress
        self.options: LoopOptions = step.options
        self.probe = step.task.probe
        self.is_main = step.share.rank == 0
        self.best, self.best_step, self.num_worse = -1.0, 0, 0

    def load(self) -> None:
        """Go on from the last checkpoint, or begin where there is none."""
        file = checkpoints.newest_checkpoint(self.out / "checkpoints")
        if file is not None:
            tensors, values = checkpoints.read_checkpoint(file)
            self.step.load(tensors, values)
            self.best, self.best_step, self.num_worse = (
                values["best"],
                values["best_step"],
                values["num_worse"],
            )

    def run(self) -> TrainSummary:
        """A summary of the training, which goes to the end, or until validation stops getting
        better."""
        step, options = self.step, self.options
        log = (
            Log(self.out / "log.jsonl", start=step.step, tensorboard=self._tensorboard())
            if self.is_main
            else None
        )
        started, first, clock = time.perf_counter(), step.step, step.clock
        is_stopped = (
            bool(options.patience) and self.num_worse >= options.patience
        ) or step.is_spent
        shows = self.show_progress if self.is_main else False
        with step, progress("training", total=options.num_steps, show=shows) as advance:
            advance(step.step)
            step.begin()
            while step.step < options.num_steps and not is_stopped:
                values = step.take()
                advance(1)
                is_last = step.step == options.num_steps
                if step.step % options.log_every == 0 or is_last:
                    values = step.averaged_values(values)
                    if log is not None:
                        speed = {**clock.shares(), "images_per_s": step.num_photos / clock.total}
                        log.write(step.step, {**values, "lr": step.rate, **speed})
                if self.probe is not None and (step.step % options.validate_every == 0 or is_last):
                    is_stopped = self._validate(log)
                is_stopped = is_stopped or step.is_spent
                if step.step % options.save_every == 0 or is_last or is_stopped:
                    self._save()
        if log is not None:
            self._write_weights(self.out / FINAL)
            for branch in step.task.branches:
                branch.finish(self.out / FINAL)
            log.close()
        step.accelerator.wait_for_everyone()
        shares = clock.shares()
        return TrainSummary(
            path=self.out,
            num_steps=step.step,
            best_recall=self.best if self.probe is not None and self.best >= 0 else None,
            best_step=self.best_step,
            seconds=time.perf_counter() - started,
            images_per_s=step.num_photos / clock.total if step.step > first else 0.0,
            waiting_share=shares["waiting_share"],
            augmenting_share=shares["augmenting_share"],
            mining_share=shares["mining_share"],
            is_stopped_early=is_stopped,
        )

    def _tensorboard(self) -> Path | None:
        return self.out / "tensorboard" if self.options.has_tensorboard else None

    def _validate(self, log: Log | None) -> bool:
        """Measure recall, keep the best weights, and say whether to stop. Every process measures;
        all find the same."""
        assert self.probe is not None
        found = self.probe.measure(self.step.kept)
        is_better = found["recall"] > self.best
        self.num_worse = 0 if is_better else self.num_worse + 1
        if is_better:
            self.best, self.best_step = found["recall"], self.step.step
            if self.is_main:
                self._write_weights(self.out / BEST)
        if log is not None:
            log.write(self.step.step, found)
        return bool(self.options.patience) and self.num_worse >= self.options.patience

    def _write_weights(self, file: Path) -> None:
        step, kept, card = self.step.step, self.step.kept, self.step.task.card
        values = {
            "step": step,
            "recall": self.best if self.best_step == step else None,
            "recipe": self.recipe,
        }
        checkpoints.write_checkpoint(
            file, kept.state_dict(), values, card=None if card is None else card(kept)
        )

    def _save(self) -> None:
        if not (self.is_main or self.step.is_state_shared):
            return
        tensors = self.step.tensors()
        if not self.is_main:
            return
        folder = self.out / "checkpoints"
        folder.mkdir(exist_ok=True)
        values = {
            **self.step.values(),
            "best": self.best,
            "best_step": self.best_step,
            "num_worse": self.num_worse,
        }
        checkpoints.write_checkpoint(
            checkpoints.checkpoint_file(folder, self.step.step), tensors, values
        )
        checkpoints.remove_older(folder, step=self.step.step)
