"""MeshVPR: a copy of a network learns to see renders as the network sees photos (Berton et al.,
ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.training.datasets import Dataset
from whence.training.options.kinds import BranchOptions, LearnerOptions, ProbeOptions


@dataclass(frozen=True, slots=True)
class AlignedCopyOptions(LearnerOptions):
    """A copy of a model for the other kind of photos; the model itself stays as it is, and
    describes queries."""

    kind: Literal["aligned copy"] = "aligned copy"
    model: str = ""
    """A network by name, or a safetensors file with a card."""
    freeze_before: str = ""
    """Stage of the backbone before which nothing learns; empty to learn everything."""


@dataclass(frozen=True, slots=True)
class AlignedOptions(BranchOptions):
    """Pairs of photo and render of one view: the copy comes to say of a render what the model says
    of the photo."""

    kind: Literal["aligned"] = "aligned"
    batch_size: int = 32
    num_pairs: int = 0
    """Pairs that are learned from, evenly spread over those there are; 0 takes all."""
    loss: Literal["mse", "cosine"] = "mse"
    """Squared differences of unit vectors, or 1 - cosine: half of their sum."""
    reduction: Literal["mean", "sum_dim"] = "mean"
    """Of squared differences over dimensions: their mean, as published, or their sum. The mean is
    so small (2 / D times 1 - cosine) that fp16 loses its gradients at many dimensions; for Adam the
    two are the same."""
    width: int = 512
    """Pixels of photos and renders."""
    height: int = 512
    most_missed: float = 1.0
    """Renders whose name says a larger `art_prob` are left out: their camera stands inside the
    mesh, or below it."""
    most_lat: float = 90.0
    """Pairs farther north are left out, to try the rest of a city on what was learned in its
    south."""

    @property
    def loss_name(self) -> str:
        """The name of the loss, as lists of recipes show it."""
        return {"mse": "squared distance", "cosine": "cosine"}[self.loss]

    def sizes(self, data: Dataset, *, seed: int) -> dict[str, int]:
        """Photos that have a render."""
        return {"num_pairs": len(data.mesh_pairs.real)}


@dataclass(frozen=True, slots=True)
class AlignedRecallOptions(ProbeOptions):
    """What the best copy is chosen by: recall@n within a radius, the database by the copy, queries
    by the model itself."""

    kind: Literal["aligned recall"] = "aligned recall"
    n: int = 1
    radius_m: float = 100.0
    width: int = 0
    """Pixels of the photos; 0 takes those of training."""
    height: int = 0
    batch_size: int = 64
