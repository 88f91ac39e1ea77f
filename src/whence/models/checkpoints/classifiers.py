"""Classifiers that a training checkpoint keeps beside its network: one for each group of classes.

As CosPlace, EigenPlaces and Divide&Classify write them: a list under `classifiers_state_dict`. What
class a row stands for is not in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from whence.errors import UnreadableWeights
from whence.models.checkpoints.files import read_checkpoint

_FIELD = "classifiers_state_dict"
_WEIGHTS, _BIASES = ("weight", "linear.weight"), ("bias", "linear.bias")


class GroupWeights(NamedTuple):
    """One group's classifier."""

    weight: np.ndarray
    """(classes, C) float32 one row for each class."""
    bias: np.ndarray | None
    """(classes,) float32 of a plain linear layer; None for margin classifiers."""


def read_classifiers(path: str | Path) -> tuple[GroupWeights, ...]:
    """The classifiers of a checkpoint, group by group, as it lists them. Raises `UnreadableWeights`
    where there are none."""
    path = Path(path)
    content = read_checkpoint(path)
    groups = content.get(_FIELD) if isinstance(content, Mapping) else None
    if (
        not isinstance(groups, list | tuple)
        or not groups
        or not all(isinstance(group, Mapping) for group in groups)
    ):
        raise UnreadableWeights(
            path,
            (
                f"it holds no classifiers, a list under {_FIELD}; weights of a network alone know "
                "no cells"
            ),
        )
    found = tuple(_group(path, number, group) for number, group in enumerate(groups))
    if len({group.weight.shape[1] for group in found}) != 1:
        raise UnreadableWeights(path, "its classifiers take descriptors of different dimensions")
    return found


def _group(path: Path, number: int, group: Mapping[str, Any]) -> GroupWeights:
    weight, bias = _named(group, _WEIGHTS), _named(group, _BIASES)
    is_whole = (
        weight is not None
        and weight.ndim == 2
        and len(weight) > 0
        and set(group) <= {*_WEIGHTS, *_BIASES}
    )
    if not is_whole or (bias is not None and bias.shape != weight.shape[:1]):  # type: ignore[union-attr]
        shapes = {
            name: tuple(value.shape) for name, value in group.items() if isinstance(value, Tensor)
        }
        raise UnreadableWeights(
            path, f"classifier {number} is {shapes}, and not weights of classes"
        )
    assert weight is not None, "what is whole is there"
    return GroupWeights(weight, bias)


def _named(group: Mapping[str, Any], names: tuple[str, ...]) -> np.ndarray | None:
    found = next((group[name] for name in names if isinstance(group.get(name), Tensor)), None)
    return None if found is None else np.asarray(found.detach().float().numpy())
