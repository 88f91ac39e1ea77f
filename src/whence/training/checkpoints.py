"""Checkpoints: one safetensors file each, tensors as tensors and everything else as JSON in the
file's own metadata.

A checkpoint is written whole or not at all (`runtime.atomic_write`), so a killed run always finds
the one before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from whence.cards import ModelCard
from whence.errors import InputError
from whence.models.cards.text import CARD_FIELD, card_to_text
from whence.runtime import atomic_write


class Checkpoint(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    values: Mapping[str, Any],
    *,
    card: ModelCard | None = None,
) -> None:
    """Write tensors by name and JSON values as one file; with a card it can be used as a model by
    its file name."""
    header = {"values": json.dumps(values)} | (
        {} if card is None else {CARD_FIELD: card_to_text(card)}
    )
    data = save(
        {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, header
    )
    with atomic_write(path) as file:
        file.write(data)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint that `write_checkpoint` wrote, or any safetensors file (then without values).
    Raises `InputError`."""
    try:
        with safe_open(str(path), framework="pt") as file:
            values = json.loads((file.metadata() or {}).get("values", "{}"))
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, values)  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the checkpoint {str(path)!r}: {error}") from None


def newest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a folder, None where there is none."""
    found = [
        (int(match[1]), file)
        for file in folder.glob("step-*.safetensors")
        if (match := re.fullmatch(r"step-(\d+)", file.stem))
    ]
    return max(found)[1] if found else None


def checkpoint_file(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:07d}.safetensors"


def remove_older(folder: Path, *, step: int, num_kept: int = 2) -> None:
    """Delete the checkpoints before the last `num_kept` up to `step`."""
    files = sorted(
        file for file in folder.glob("step-*.safetensors") if file <= checkpoint_file(folder, step)
    )
    for file in files[:-num_kept]:
        file.unlink()


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The optimizer's state by name; its other values follow from the recipe and the step."""
    state = optimizer.state_dict()["state"]
    return {
        f"{prefix}.{number}.{name}": value
        for number, entry in state.items()
        for name, value in entry.items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str
) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors_below(tensors, prefix).items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with "prefix.", without it."""
    start = f"{prefix}."
    return {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}


def module_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A module's state by name."""
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
