"""What learns: networks, regressors on top of one, with the weights they start from; and the card
of what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import ModelCard, Preprocessing
from whence.errors import BadOption
from whence.models.adapted import network_bytes
from whence.models.aggregators import make_aggregator
from whence.models.aggregators.pools import MixedGeM
from whence.models.aggregators.sequence import make_sequence_pool
from whence.models.backbones import TRANSFORMER_NAMES, load_imagenet, make_backbone
from whence.models.backbones.lite import OwnMaps
from whence.models.checkpoints.files import weights_digest
from whence.models.checkpoints.origins import get_weights
from whence.models.descriptor import load_model, read_as
from whence.models.engines.onnx_graph import read_arrays
from whence.models.networks import Network, describe_pixels, describing
from whence.models.warp.model import GeoWarp
from whence.models.warp.torch_engine import load_regressor
from whence.models.zoo import named_network
from whence.registry import get_card
from whence.training import checkpoints
from whence.training.options.aligned import AlignedCopyOptions
from whence.training.options.learners import (
    RELEASED,
    NetworkOptions,
    OwnHeadOptions,
    RegressorOptions,
    image_size,
)

_BATCH = 32
"""Photos that a network below a regressor describes together."""


def read_start(start_from: str) -> dict[str, Tensor]:
    """Weights to start from: of a safetensors file, or of a registered model by name. Raises
    `InputError`, `UnknownName`."""
    if "/" in start_from or start_from.endswith(".safetensors"):
        found = checkpoints.read_checkpoint(start_from).tensors
    else:
        found = dict(named_network(start_from).state_dict())
    return {
        name: value.float() if value.is_floating_point() else value for name, value in found.items()
    }


def make_network(options: NetworkOptions, *, seed: int = 0) -> Network:
    """The network, with the weights it starts from. Raises `UnknownName`, `BadOption` and
    `InputError`."""
    torch.manual_seed(seed)
    backbone = make_backbone(options.backbone, **_backbone_options(options))
    aggregator = make_aggregator(
        options.aggregator.name, backbone.channels, options=options.aggregator.options
    )
    pool = options.sequence
    network = Network(
        backbone,
        aggregator,
        make_sequence_pool(pool.name, aggregator, length=pool.length, options=pool.options)
        if pool.name
        else None,
    )
    if options.start_from == RELEASED:
        if options.backbone in TRANSFORMER_NAMES:
            load_imagenet(backbone, weights="default")
        else:
            load_imagenet(backbone)
    elif options.start_from:
        found, what = read_start(options.start_from), "other weights than this network's"
        filled: nn.Module = network
        if options.start_with == "backbone":
            found = {
                name.removeprefix("backbone."): value
                for name, value in found.items()
                if name.startswith("backbone.")
            }
            filled, what = network.backbone, f"another backbone than {options.backbone}"
        own = filled.state_dict()
        # A network of single photos is one to begin with: its pool begins anew.
        found = {
            **{name: value for name, value in own.items() if name.startswith("sequence.")},
            **found,
        }
        try:
            filled.load_state_dict(found)
        except RuntimeError as error:
            raise BadOption(f"{options.start_from!r} holds {what}: {error}") from None
    _freeze(network, options)
    return network


def _backbone_options(options: NetworkOptions) -> dict[str, Any]:
    """What the backbone is made with beside its name."""
    frames = {"num_frames": options.sequence.length} if options.sequence.name == "early" else {}
    return {**frames, **options.backbone_options}


def _freeze(network: Network, options: NetworkOptions) -> None:
    """Keep from learning what the options say. Raises `BadOption` where nothing would be left."""
    if options.freeze_before:
        network.backbone.freeze_before(options.freeze_before)
    if options.learning == "as published":
        network.backbone.freeze_as_published()
    elif options.learning == "sequence":
        network.requires_grad_(False)
        network.pool.requires_grad_(True)
        if not list(network.pool.parameters()):
            raise BadOption(
                f"the sequence pool {options.sequence.name} has no weights: nothing would learn"
            )


def network_card(
    options: NetworkOptions, network: nn.Module, *, recipe: str, size_px: tuple[int, int]
) -> ModelCard:
    """The card of a network trained by a recipe: it describes photos as they were validated, at
    that width and height.

    Its name ends in a digest of the weights, so that databases tell two trainings by one recipe
    apart.
    """
    assert isinstance(network, Network)
    return ModelCard(
        name=f"{recipe}-{weights_digest(network)}",
        summary=f"trained by the recipe {recipe}",
        dim=network.dim,
        preprocessing=Preprocessing(size_px=(size_px[1], size_px[0]), interpolation="bilinear"),
        licence="MIT",
        weights="trained with `whence train`; recipe.json beside the file says how",
        training_data=(
            "the photos given to `whence "
            f"train`{f', of the domain {options.domain}' if options.domain else ''}"
        ),
        weights_licence="unknown",
        backbone=options.backbone,
        backbone_options=_backbone_options(options),
        aggregator=options.aggregator.name,
        aggregator_options=dict(options.aggregator.options),
        sequence=options.sequence.name,
        sequence_length=options.sequence.length if options.sequence.name else 1,
        sequence_options=dict(options.sequence.options),
        keys="whence",
        is_unit_length=False,
    )


class NetworkLearner:
    """A network that learns as a whole."""

    def __init__(
        self,
        options: NetworkOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.options, self._recipe, self._size_px = options, recipe, size_px
        self.module = make_network(options, seed=seed)
        self.begins_anew = (
            not options.start_from
            or options.start_with == "backbone"
            or options.start_from == RELEASED
        )
        """Whether the aggregator's weights come from nowhere."""

    @property
    def card(self) -> Callable[[nn.Module], ModelCard]:
        """A function that makes the card of the network as it stands."""
        return lambda network: network_card(
            self.options, network, recipe=self._recipe, size_px=self._size_px
        )

    def describe_data(self) -> dict[str, Any]:
        """Nothing that the recipe does not say."""
        return {}


class AlignedCopyLearner:
    """A copy of a model, which comes to describe another kind of photos; the model goes on
    describing queries."""

    begins_anew = False

    def __init__(
        self,
        options: AlignedCopyOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Raises `BadOption`, `UnknownName`, and as `named_network`."""
        if not options.model:
            raise BadOption(
                "say which model is copied: --set learner.model=NAME, or a safetensors file with "
                "a card"
            )
        self.model_card = get_card(options.model)
        self._model = options.model
        network = named_network(options.model)
        self._digest = weights_digest(network)
        self.module = network.requires_grad_(True)
        if options.freeze_before:
            self.module.backbone.freeze_before(options.freeze_before)

    @property
    def card(self) -> Callable[[nn.Module], ModelCard]:
        """A function that makes the card of the copy as it stands; it names the model that
        describes queries, and its weights."""
        return lambda network: replace(
            self.model_card,
            name=f"{self.model_card.name}-mesh-{weights_digest(network)}",
            summary=(
                f"a copy of {self.model_card.name} for renders, aligned with it: queries are "
                "described by the model itself"
            ),
            weights=(
                f"those of {self.model_card.name}, aligned by `whence train`; recipe.json beside "
                "the file says how"
            ),
            training_data=(
                "pairs of photo and render given to `whence train`, on top of: "
                f"{self.model_card.training_data}"
            ),
            weights_licence="unknown",
            origins=(),
            keys="whence",
            figures="",
            query_model=self._model,
            query_weights=self._digest,
        )

    def describe_data(self) -> dict[str, Any]:
        """The model that was copied."""
        return {"model": self.model_card.card_id, "weights": self._digest}


class OwnHeadLearner:
    """The head of the network that comes with Whence, from the weights it comes with."""

    card = None
    """A head is no model by itself: it goes into the state of a database."""
    begins_anew = False

    def __init__(
        self,
        options: OwnHeadOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        model = network_bytes(options.weights or None)
        self.module = Network(OwnMaps(model), head_of(read_arrays(model)))

    def describe_data(self) -> dict[str, Any]:
        """Nothing that the recipe does not say."""
        return {}


def head_of(arrays: Mapping[str, np.ndarray]) -> MixedGeM:
    """The head with these weights, as `whence.models.adapted.HEAD` names them; what was normalised
    is in them."""
    mixed, dim = len(arrays["mix.w"]), len(arrays["fc.w"])
    head = MixedGeM(arrays["mix.w"].shape[1], num_mixed=mixed, dim=dim)
    head.norm = nn.Identity()  # type: ignore[assignment]
    head.load_state_dict(
        {name: torch.from_numpy(array) for name, array in _as_module(arrays).items()}
    )
    return head


def _as_module(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        "mix.weight": arrays["mix.w"],
        "mix.bias": arrays["mix.b"],
        "fc.weight": arrays["fc.w"][:, :, 0, 0],
        "fc.bias": arrays["fc.b"],
    }


class RegressorLearner:
    """GeoWarp's regressor, and the network below it, which stays as it is."""

    card = None
    """A regressor is no model by itself."""

    def __init__(
        self,
        options: RegressorOptions,
        *,
        recipe: str,
        seed: int,
        size_px: tuple[int, int],
        device: torch.device,
    ) -> None:
        if not options.model:
            raise BadOption("say which network the regressor is for: --model NAME")
        self.model_card = get_card(options.model)
        self.size_px = image_size(options, self.model_card)
        """Width and height of training photos."""
        self.network: Network | None = None
        """What finds candidates, and has the backbone; None where the options name a backbone of
        its own."""
        if options.backbone:
            backbone = make_backbone(options.backbone)
            load_imagenet(backbone)
            self._finder = load_model(options.model)
            if not self._finder.is_fitted:
                self._finder.load_packaged()
        else:
            self.network = named_network(options.model).to(device).eval()
            self.network.requires_grad_(False)
            backbone = self.network.backbone
        torch.manual_seed(seed)
        self.geowarp = GeoWarp(backbone.to(device).eval().requires_grad_(False))
        self.module: nn.Module = self.geowarp.regressor
        if options.start_from:
            load_regressor(self.geowarp.regressor, _regressor_file(options.start_from))

    def describe(self, photos: np.ndarray) -> np.ndarray:
        """Descriptors (N, D) float32 of unit length of uint8 photos (N, H, W, 3), which are brought
        to the network's size."""
        if self.network is None:
            return self._finder.describe(list(photos))
        reading = self.model_card.preprocessing
        describe = describing(
            self.network, device=next(self.network.parameters()).device, is_channels_last=True
        )
        found = describe_pixels(
            describe,
            photos,
            batch_size=_BATCH,
            read=lambda part: np.stack([read_as(np.array(photo), reading) for photo in part]),
        ).numpy()
        unit: np.ndarray = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
        return unit

    def describe_data(self) -> dict[str, Any]:
        """The network below."""
        return {
            "model": self.model_card.card_id,
            **({"backbone": self.geowarp.backbone.name} if self.network is None else {}),
        }


def _regressor_file(start_from: str) -> Path:
    """A file, or the packaged one of a GeoWarp scorer by name. Raises `UnknownName`, and
    `MissingWeights` where there is none."""
    if "/" in start_from or Path(start_from).suffix:
        return Path(start_from)
    return get_weights(get_card(start_from, kind="scorer"))[0]
