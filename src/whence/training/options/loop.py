"""How long a training goes on, how exactly, at which rate, and how often what is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["no", "bf16", "fp16"]
Gradients = Literal["apart", "joint"]
LossesOf = Literal["each", "one"]


@dataclass(frozen=True, slots=True)
class OptimizerOptions:
    """Adam, AdamW or SGD."""

    name: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    """Not applied to parameters of one dimension (norms, biases, exponents), unless ..."""
    decays_all: bool = False
    """... this is set."""
    momentum: float = 0.9
    """For SGD."""
    beta2: float = 0.999
    """How slowly Adam forgets squares of gradients."""
    clip_norm: float = 0.0
    """Gradients longer than this are shortened to it; 0 leaves them."""


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """How the learning rate goes: up over the first steps, then constant, linear or along a cosine
    to a share of itself, along a power of what is left (`poly`), lower from some steps on, or, as
    `plateau`, lower whenever the loss has stopped falling."""

    name: str = "constant"
    warmup_steps: int = 0
    final_share: float = 0.0
    milestones: tuple[int, ...] = ()
    """For `steps`: from each of these steps on, counted from the first, the rate is multiplied by
    `factor`."""
    power: float = 0.9
    """For `poly`: the rate is multiplied by this power of the share of steps that is left ..."""
    of_steps: int = 0
    """... of so many, which may be more than are taken; 0 for those that are."""
    epoch_steps: int = 1000
    """For `plateau`: after so many steps their mean loss is looked at ..."""
    patience: int = 10
    """... and where it has not fallen for more than so many times, the rate is multiplied ..."""
    factor: float = 0.1
    """... by this ..."""
    least_lr: float = 0.0
    """... until the training ends, below this rate."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long, how exactly, and how often what is done."""

    num_steps: int = 1000
    """Updates of the weights."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one update. A loss over pairs sees pairs within each
    batch alone."""
    precision: Precision = "no"
    """Autocast of the network; losses are always computed in float32."""
    ema_decay: float = 0.0
    """Where above 0, what is validated and kept is a moving average of the weights with this
    decay."""
    gradients: Gradients = "apart"
    """Whether the gradients of several branches are taken one after the other, which needs the
    memory of the largest alone, or all at once from the sum of their losses. The sum of the
    gradients is the same."""
    losses: LossesOf = "each"
    """Whether each branch has a loss over its own batch, or, as `one`, a single loss compares the
    photos of all branches: those of two branches then never belong together. For branches whose
    losses over pairs are the same; their weights do not count."""
    seed: int = 0
    log_every: int = 10
    validate_every: int = 200
    save_every: int = 100
    patience: int = 0
    """Stop after so many validations without a better recall; 0 never."""
    is_channels_last: bool = False
    is_compiled: bool = False
    """Let torch.compile fuse the network: faster by half on a CPU, minutes to begin with."""
    has_tensorboard: bool = False
