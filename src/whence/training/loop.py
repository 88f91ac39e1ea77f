"""Training a retrieval network on places: what `whence.training.run` reads, learns from and measures for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import ModelCard, Preprocessing
from whence.data.formats import EvaluationSet
from whence.errors import BadOption
from whence.models.aggregators import make_aggregator
from whence.models.backbones import make_backbone
from whence.models.networks import Network
from whence.models.zoo import named_network
from whence.training import checkpoints
from whence.training.augment import Augment
from whence.training.batches import PlaceBatches, shard
from whence.training.losses import make_loss
from whence.training.pixels import cached_pixels
from whence.training.places import Places
from whence.training.recipe import AggregatorOptions, AugmentOptions, LoopOptions, LossOptions, Recipe, ValidationOptions
from whence.training.run import BatchPlace, Read, Run, TrainSummary, gather
from whence.training.tuple_recipe import TupleRecipe
from whence.training.validation import Validation


class NetworkRecipe(Protocol):
    """What a network is made by."""

    @property
    def backbone(self) -> str: ...

    @property
    def aggregator(self) -> AggregatorOptions: ...

    @property
    def start_from(self) -> str: ...

    @property
    def freeze_before(self) -> str: ...

    @property
    def loop(self) -> LoopOptions: ...

    @property
    def name(self) -> str: ...

    @property
    def augment(self) -> AugmentOptions: ...

    @property
    def validate_on(self) -> ValidationOptions: ...


def read_start(start_from: str) -> dict[str, Tensor]:
    """Weights to start from: of a safetensors file, or of a registered model by name. Raises `InputError`, `UnknownName`."""
    if "/" in start_from or start_from.endswith(".safetensors"):
        found = checkpoints.read_checkpoint(start_from).tensors
    else:
        found = dict(named_network(start_from).state_dict())
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def make_network(recipe: NetworkRecipe) -> Network:
    """The recipe's network, with the weights it starts from. Raises `UnknownName`, `BadOption` and `InputError`."""
    torch.manual_seed(recipe.loop.seed)
    backbone = make_backbone(recipe.backbone)
    network = Network(backbone, make_aggregator(recipe.aggregator.name, backbone.channels, options=recipe.aggregator.options))
    if recipe.start_from:
        found = read_start(recipe.start_from)
        try:
            network.load_state_dict(found)
        except RuntimeError as error:
            raise BadOption(f"{recipe.start_from!r} holds other weights than this network's: {error}") from None
    if recipe.freeze_before:
        backbone.freeze_before(recipe.freeze_before)
    return network


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
    folders = (pixels_folder, validation_folder)
    return PlaceRun(recipe, places, Path(out), validation, folders, is_resumed=is_resumed, show_progress=show_progress).run()


def network_card(recipe: NetworkRecipe, network: nn.Module) -> ModelCard:
    """The card of a network trained by a recipe: it describes photos as they were validated, at that size.

    Its name ends in a digest of the weights, so that databases tell two trainings by one recipe apart.
    """
    digest = hashlib.blake2b(digest_size=4)
    for tensor in network.state_dict().values():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    size = recipe.validate_on.height or recipe.augment.height, recipe.validate_on.width or recipe.augment.width
    assert isinstance(network, Network)
    return ModelCard(
        name=f"{recipe.name}-{digest.hexdigest()}",
        summary=f"trained by the recipe {recipe.name}",
        dim=network.dim,
        preprocessing=Preprocessing(size_px=size, interpolation="bilinear"),
        licence="MIT",
        weights="trained with `whence train`; recipe.json beside the file says how",
        training_data="the photos given to `whence train`",
        weights_licence="unknown",
        backbone=recipe.backbone,
        aggregator=recipe.aggregator.name,
        aggregator_options=dict(recipe.aggregator.options),
        keys="whence",
        is_unit_length=False,
    )


class _Photos(NamedTuple):
    """This process's photos of a batch."""

    photos: Tensor
    """(b, H, W, 3) uint8."""
    labels: Tensor
    """(B,) of the whole batch."""
    first: int
    """Number of the first photo in the whole batch."""


N = TypeVar("N", Recipe, TupleRecipe)


class NetworkRun(Run[N]):
    """A training of a whole network: validated by its recall, written with its card, whatever it learns from."""

    validation: Validation | None = None

    def open_validation(self, data: EvaluationSet | None, *, folder: str | Path) -> None:
        """Get the photos of a validation ready, at its own size or that of training; None leaves the training without one."""
        if data is None:
            return
        seen, asked = self.recipe.augment, self.recipe.validate_on
        asked = replace(asked, width=asked.width or seen.width, height=asked.height or seen.height)
        self.validation = Validation(data, options=asked, folder=folder, show_progress=self.show_progress)

    def measure(self, network: nn.Module) -> dict[str, float]:
        assert self.validation is not None
        return {"recall": self.validation.recall(network, device=self.device, precision=self.dtype)}

    def card_of(self, network: nn.Module) -> ModelCard:
        return network_card(self.recipe, network)

    @property
    def is_validated(self) -> bool:
        return self.validation is not None


class PlaceRun(NetworkRun[Recipe]):
    """A training on places x views."""

    def __init__(
        self,
        recipe: Recipe,
        places: Places,
        out: Path,
        validation: EvaluationSet | None,
        folders: tuple[str | Path, str | Path | None],
        *,
        is_resumed: bool,
        show_progress: bool | None,
    ) -> None:
        self.places, self.data, self.folders = places, validation, folders
        self.batches = PlaceBatches(places, options=recipe.batches, seed=recipe.loop.seed)
        self.augment = Augment(recipe.augment, seed=recipe.loop.seed)
        super().__init__(recipe, out=out, is_resumed=is_resumed, show_progress=show_progress)

    def make_parts(self) -> tuple[nn.Module, nn.Module, LossOptions]:
        network = make_network(self.recipe)
        return network, make_loss(self.recipe.loss, num_classes=len(self.places), dim=network.dim), self.recipe.loss

    def describe_data(self) -> Mapping[str, Any]:
        return {"num_photos": len(self.places.photos), "num_places": len(self.places)}

    def open_data(self) -> None:
        seen = self.recipe.augment
        width, height = seen.stored_width or seen.width, seen.stored_height or seen.height
        self.pixels = cached_pixels(
            self.places.photos, width=width, height=height, folder=self.folders[0], show_progress=self.show_progress
        )
        self.open_validation(self.data, folder=self.folders[1] or self.folders[0])

    def num_batches(self, epoch: int) -> int:
        return self.batches.num_batches(epoch)

    def read(self, place: BatchPlace) -> Read:
        whole = self.batches.batch(place.epoch, place.number)
        mine = shard(whole, rank=self.rank, num_ranks=self.num_ranks)
        photos = torch.from_numpy(np.stack([self.pixels[row] for row in mine.rows]))
        return Read(_Photos(photos, torch.from_numpy(whole.labels), self.rank * len(mine.rows)), len(photos))

    def change(self, content: _Photos, batch: int) -> tuple[Tensor, Tensor]:
        """The images, normalised, and the labels of the whole batch."""
        images = self.augment(content.photos.to(self.device), step=self.step, batch=batch, first=content.first)
        if self.recipe.loop.is_channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images, content.labels

    def learn(self, content: tuple[Tensor, Tensor]) -> dict[str, float]:
        images, labels = content
        # Whatever draws random numbers inside the network follows from the step as well.
        self._seed(1 + self.rank)
        with self.accelerator.autocast():
            descriptors = self.forward(images)
        # A miner that draws must draw alike in every process, for all to compute one loss.
        self._seed(0)
        value = self.loss(gather(descriptors.float(), self.num_ranks), labels.to(self.device)) / self.recipe.loop.accumulate
        self.accelerator.backward(value)
        return {"loss": float(value.detach())}

    def _seed(self, number: int) -> None:
        torch.manual_seed((self.recipe.loop.seed << 40) ^ (self.step << 8) ^ number)
