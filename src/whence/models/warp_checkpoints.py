"""GeoWarp's weights from files: the six published retrieval networks and regressors, or one's own.

Published are plain state dicts (github.com/gmberton/geo_warp): `pretrained_baselines/ARCH_POOL.pth` and
`trained_homography_regressions/ARCH_POOL.pth` with ARCH alexnet, vgg16 or resnet50 and POOL gem or netvlad. Their layers are
numbered; here they get the names of `whence.models.backbones`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from whence.errors import InputError, ModelError, UnknownName

State = Mapping[str, Tensor]
BACKBONES = {"alexnet": "alexnet", "vgg16": "vgg16", "resnet50": "resnet50conv4"}
"""Published architectures and the backbones that they are here."""
POOLINGS = ("gem", "netvlad")
PUBLISHED = tuple(f"{architecture}_{pooling}" for architecture in BACKBONES for pooling in POOLINGS)
_FIRST_KERNELS: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alexnet", (64, 3, 3, 3): "vgg16", (64, 3, 7, 7): "resnet50"}
_RESNET_STAGES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3"}


def published_files(name: str) -> tuple[str, str]:
    """Where the published archives hold the retrieval network and the regressor of a name. Raises `UnknownName`."""
    if name not in PUBLISHED:
        raise UnknownName("published GeoWarp", name, PUBLISHED)
    return f"pretrained_baselines/{name}.pth", f"trained_homography_regressions/{name}.pth"


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file (.safetensors, or a torch file read without running code). Raises `InputError`."""
    try:
        if str(path).endswith(".safetensors"):
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no weights file {str(path)!r}") from None
    except Exception as error:
        raise InputError(f"cannot read weights {str(path)!r}: {error}") from None
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InputError(f"{str(path)!r} is not a table of tensors by name")
    return {name.removeprefix("module."): value for name, value in loaded.items()}


def published_architecture(state: State) -> str | None:
    """Which published architecture a retrieval network's state dict holds; None where it is none of them."""
    first = state.get("encoder.0.weight")
    return None if first is None else _FIRST_KERNELS.get(tuple(first.shape))


def from_published(state: State) -> dict[str, Tensor]:
    """A published retrieval network's state dict as that of a `Network` here. Raises `InputError`."""
    architecture = published_architecture(state)
    if architecture is None:
        raise InputError(
            "not a published GeoWarp retrieval network: there is no first layer named encoder.0.weight as it should be"
        )
    return {_renamed(name, architecture): value for name, value in state.items()}


def _renamed(name: str, architecture: str) -> str:
    part, _, rest = name.partition(".")
    if part == "pool":
        return f"aggregator.{rest.removeprefix('1.')}"
    number, _, rest = rest.partition(".")
    stage = _RESNET_STAGES.get(number, number) if architecture == "resnet50" else f"features.{number}"
    return f"backbone.{stage}.{rest}"


def backbone_state(state: State) -> dict[str, Tensor]:
    """The backbone's part of a network's state dict, published or one's own."""
    named = from_published(state) if "encoder.0.weight" in state else state
    return {name.removeprefix("backbone."): value for name, value in named.items() if name.startswith("backbone.")}


def regressor_state(state: State) -> dict[str, Tensor]:
    """The regressor's part: the whole of a published file, what follows `regressor.` in one's own."""
    own = {name.removeprefix("regressor."): value for name, value in state.items() if name.startswith("regressor.")}
    return own or dict(state)


def load_strictly(module: nn.Module, state: State, *, source: str) -> None:
    """Load every tensor, none left over or missing. Raises `ModelError` naming the file and what does not fit."""
    own = module.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own.keys() & state.keys()
        if own[name].shape != state[name].shape
    ]
    found = [*(f"{name} is missing" for name in missing), *(f"{name} does not belong there" for name in foreign), *sorted(wrong)]
    if found:
        more = f", and {len(found) - 3} more" if len(found) > 3 else ""
        raise ModelError(f"the weights of {source!r} do not fit: {'; '.join(found[:3])}{more}")
    module.load_state_dict(dict(state))


def digest(module: nn.Module) -> str:
    """12 hex digits that stand for a module's weights."""
    hashed = hashlib.blake2b(digest_size=6)
    for name, value in module.state_dict().items():
        hashed.update(name.encode())
        hashed.update(value.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()
