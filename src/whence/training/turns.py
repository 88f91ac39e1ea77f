"""Parts that learn in turn: one at a time is on the device, each with an optimizer of its own that
goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from whence.training.checkpoints import (
    load_optimizer,
    module_tensors,
    optimizer_tensors,
    tensors_below,
)
from whence.training.optimization import make_optimizer
from whence.training.options.loop import OptimizerOptions


class Turns:
    """So CosPlace (Berton, Masone, Caputo, CVPR 2022) trains the classifiers of its groups: memory
    is that of the largest alone."""

    def __init__(self, parts: Sequence[nn.Module], *, options: OptimizerOptions) -> None:
        """Parts on the CPU. Raises `UnknownName` for an optimizer that does not exist."""
        self.parts, self.options = list(parts), options
        self.optimizers = [make_optimizer(part, options=options) for part in self.parts]
        self.current: int | None = None

    def begin(self, number: int, device: torch.device) -> None:
        """Bring a part and what its optimizer keeps to the device, and the one before back to the
        CPU."""
        if self.current is not None and self.current != number:
            self._move(self.current, torch.device("cpu"))
        self._move(number, device)
        self.current = number

    @property
    def part(self) -> nn.Module:
        """The part whose turn it is."""
        assert self.current is not None, "no turn has begun"
        return self.parts[self.current]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its optimizer."""
        assert self.current is not None, "no turn has begun"
        return self.optimizers[self.current]

    @property
    def num_bytes(self) -> int:
        """Bytes on the device: the part, its gradients, and what its optimizer keeps, which Adam
        keeps twice."""
        held = [
            *self.part.state_dict().values(),
            *(weight.grad for weight in self.part.parameters() if weight.grad is not None),
        ]
        held += [
            value
            for state in self.optimizer.state.values()
            for value in state.values()
            if torch.is_tensor(value)
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    def state(self) -> dict[str, Tensor]:
        """Everything that a resumed training needs."""
        found: dict[str, Tensor] = {}
        for number, (part, optimizer) in enumerate(zip(self.parts, self.optimizers, strict=True)):
            found |= module_tensors(part, f"{number}.part") | optimizer_tensors(
                optimizer, f"{number}.optimizer"
            )
        return found

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for number, (part, optimizer) in enumerate(zip(self.parts, self.optimizers, strict=True)):
            part.load_state_dict(tensors_below(tensors, f"{number}.part"))
            load_optimizer(optimizer, tensors, f"{number}.optimizer")

    def _move(self, number: int, device: torch.device) -> None:
        self.parts[number].to(device)
        for state in self.optimizers[number].state.values():
            for name, value in state.items():
                # Adam keeps the number of its steps on the CPU.
                if torch.is_tensor(value) and value.ndim:
                    state[name] = value.to(device)
