"""A network with fewer dimensions: a PCA of its descriptors, fitted once on photos of one's own and
kept with its weights.

The option `pca_dim` of a network fits one on every database anew; a model made here is the same for
all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from whence.cards import ModelCard
from whence.errors import BadOption, UnreadableImage
from whence.models.aggregators.pools import ProjectedHead
from whence.models.cards.text import CARD_FIELD, card_to_text
from whence.models.checkpoints.files import weights_digest
from whence.models.descriptor import DescriptorModel
from whence.models.networks import Network
from whence.models.pca import MAX_SAMPLE_PHOTOS, fit_pca
from whence.runtime import atomic_write
from whence.types import PhotoSource

_FLOATS = {"float32": torch.float32, "float16": torch.float16}


def keep_pca(
    model: DescriptorModel,
    photos: Sequence[PhotoSource],
    *,
    dim: int,
    out: str | Path,
    is_whitened: bool = False,
    dtype: str = "float32",
) -> ModelCard:
    """The card of the model with `dim` dimensions that is written to the file `out`; photos that
    cannot be read are passed over.

    At most 16,384 photos, evenly spread, are looked at. Raises `BadOption` for a model that is no
    network, or has fewer dimensions, and `NotFitted` for fewer than 2 `dim` photos.
    """
    network = model.descriptor.network
    if not isinstance(network, Network) or not model.card.backbone:
        raise BadOption(
            f"{model.name} is no network with weights of its own: give --option pca_dim={dim} to "
            "the database instead"
        )
    if not 1 <= dim <= model.dim:
        raise BadOption(
            f"{model.name} has {model.dim} dimensions: pca_dim must lie between 1 and that, not "
            f"{dim}"
        )
    chosen = (
        np.linspace(0, len(photos) - 1, min(len(photos), MAX_SAMPLE_PHOTOS)).round().astype(int)
    )
    described = model.describe_each([photos[row] for row in chosen.tolist()])
    raw = [found.descriptor for found in described if not isinstance(found, UnreadableImage)]
    mean, axes = fit_pca(
        np.stack(raw) if raw else np.empty((0, model.dim), np.float32), dim, is_whitened=is_whitened
    )
    reduced = Network(network.backbone, ProjectedHead(copy.deepcopy(network.aggregator), dim)).cpu()
    assert isinstance(reduced.aggregator, ProjectedHead)
    with torch.no_grad():
        reduced.aggregator.fc.weight.copy_(torch.from_numpy(axes))
        reduced.aggregator.fc.bias.copy_(torch.from_numpy(-(axes @ mean)))
    card = replace(
        model.card,
        name=f"{model.name}-pca{dim}-{weights_digest(reduced.aggregator)}",
        summary=(
            f"{model.name} with {dim} of its {model.dim} dimensions, by a PCA fitted on "
            f"{len(raw)} photos"
        ),
        dim=dim,
        aggregator_options={**model.card.aggregator_options, "pca_dim": dim},
        training_data=f"{model.card.training_data}; the PCA: photos of one's own",
        keys="whence",
        origins=(),
        backbone_origins=(),
        is_unit_length=True,
        query_model="",
    )
    kind, state = _FLOATS[dtype], reduced.state_dict()
    tensors = {
        name: (value.to(kind) if value.is_floating_point() else value).contiguous()
        for name, value in state.items()
    }
    with atomic_write(out) as file:
        file.write(save(tensors, {CARD_FIELD: card_to_text(card)}))
    return card
