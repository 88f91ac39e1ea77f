"""Checkpoints: from files of weights to networks, strictly; from the authors' names to ours; and
converted files that carry a card.

Reading files safely is in `files`, the names are in `keys`, getting files is in `origins`, all
beside this one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import torch
from safetensors.torch import save
from torch import Tensor

from whence.cards import ModelCard
from whence.errors import BadOption, InputError, UnreadableWeights, WeightsMismatch
from whence.models.aggregators import make_aggregator
from whence.models.aggregators.sequence import make_sequence_pool
from whence.models.backbones import make_backbone
from whence.models.cards.text import CARD_FIELD, card_to_text, read_card
from whence.models.checkpoints.files import WeightFile, read_weights
from whence.models.checkpoints.http import sha256_of
from whence.models.checkpoints.keys import Translator
from whence.models.networks import Network
from whence.records import check
from whence.runtime import atomic_write

Shapes = Mapping[str, Tensor]
"""Tensors whose shapes and types count, not their values: they lie on the meta device."""


def make_network(card: ModelCard) -> Network:
    """The network that a card describes, its weights random. Raises `BadOption` for a card without
    one, `UnknownName`."""
    if not card.backbone:
        raise BadOption(f"{card.name} is no network")
    _check_backbone_options(card)
    backbone = make_backbone(card.backbone, **card.backbone_options)
    aggregator = make_aggregator(
        card.aggregator, backbone.channels, options=card.aggregator_options
    )
    if not card.sequence:
        return Network(backbone, aggregator)
    pool = make_sequence_pool(
        card.sequence, aggregator, length=card.sequence_length, options=card.sequence_options
    )
    return Network(backbone, aggregator, pool)


def _check_backbone_options(card: ModelCard) -> None:
    """Raises `BadOption` for options that no backbone has: a card may have come with a file."""
    kinds = {
        name: kind
        for name, kind in get_type_hints(make_backbone).items()
        if name not in ("name", "return")
    }
    for name, value in card.backbone_options.items():
        try:
            check(kinds[name], value, name)
        except (KeyError, InputError):
            raise BadOption(
                f"{card.name} asks for {name}={value!r:.40}; backbones have the options "
                f"{', '.join(kinds)}"
            ) from None


def load_weights(files: str | Path | Sequence[str | Path], target: ModelCard | Network) -> Network:
    """The card's network with the weights of its file, or files; or a network given, filled with
    the weights of a converted file.

    Every parameter must be there with its shape, and nothing else but what the card's way of naming
    passes over. Raises `UnreadableWeights`, and `WeightsMismatch` that lists what does not fit.
    """
    weights = [read_weights(file) for file in ([files] if isinstance(files, str | Path) else files)]
    if isinstance(target, Network):
        tensors = _fitting(
            weights, Translator("whence", ""), target.state_dict(), what="this network"
        )
        target.load_state_dict(tensors)
        return target
    card = adapted(target, weights)
    shapes = expected_tensors(card)
    tensors = _fitting(weights, _translator(card, weights[0]), shapes, what=card.name, card=card)
    with torch.device("meta"):
        network = make_network(card)
    if set(dict(network.named_buffers())) - set(shapes):
        # Buffers that no file holds get their values in the constructor.
        network = make_network(card)
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def convert(
    files: Sequence[str | Path],
    *,
    card: ModelCard,
    out: str | Path,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a card's weights as one safetensors file with our names, the card, and the checksum of
    the first file.

    Floating-point numbers are written as `dtype`; they are read back as float32 whatever the file
    holds. Raises `UnreadableWeights`, `WeightsMismatch`, `UnwritableFile`, and `BadOption` for
    numbers that `dtype` cannot hold.
    """
    weights = [read_weights(file) for file in files]
    card = adapted(card, weights)
    tensors = _fitting(
        weights, _translator(card, weights[0]), expected_tensors(card), what=card.name, card=card
    )
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadOption(
                f"{name} of {card.name} holds numbers too large for "
                f"{str(dtype).removeprefix('torch.')}"
            )
    metadata = {
        "format": "pt",
        CARD_FIELD: card_to_text(card),
        "source_file": weights[0].path.name,
        "source_sha256": sha256_of(weights[0].path),
    }
    with atomic_write(out) as file:
        file.write(save(tensors, metadata))


def propose_cards(weights: WeightFile, cards: Sequence[ModelCard]) -> tuple[ModelCard, ...]:
    """The cards that a file without a name fits, by its keys and shapes; one of its very file name
    comes alone."""
    if CARD_FIELD in weights.metadata:
        return (read_card(weights.path),)
    fitting = tuple(card for card in cards if _fits(weights, card))
    named = tuple(
        card for card in fitting if any(origin.file == weights.path.name for origin in card.origins)
    )
    return named if len(named) == 1 else fitting


def adapted(card: ModelCard, weights: Sequence[WeightFile]) -> ModelCard:
    """The card with as many blocks of a compact transformer as its file holds: published ones were
    cut at several depths."""
    if not card.backbone.startswith("cct"):
        return card
    translator = _translator(card, weights[0])
    blocks = {
        name.split(".")[2]
        for name in _ours(weights[0], translator).values()
        if name and name.startswith("backbone.blocks.")
    }
    return (
        replace(card, backbone_options={**card.backbone_options, "num_blocks": len(blocks)})
        if blocks
        else card
    )


def expected_tensors(card: ModelCard) -> Shapes:
    """All tensors of the card's network by our names, on the meta device. Raises as
    `make_network`."""
    _check_backbone_options(card)
    backbone = _backbone_tensors(card.backbone, tuple(sorted(card.backbone_options.items())))
    options = tuple(
        (name, tuple(v) if isinstance(v, list) else v)
        for name, v in sorted(card.aggregator_options.items())
    )
    of_pool = tuple(sorted(card.sequence_options.items()))
    try:
        hash((options, of_pool))
    except TypeError:
        raise BadOption(
            f"{card.name} asks for options that no aggregator has: {dict(options + of_pool)!r:.100}"
        ) from None
    head = _head_tensors(
        card.aggregator, backbone[0], options, (card.sequence, card.sequence_length, of_pool)
    )
    return {**backbone[1], **head}


@functools.lru_cache(maxsize=16)
def _backbone_tensors(name: str, options: tuple[tuple[str, object], ...]) -> tuple[int, Shapes]:
    with torch.device("meta"):
        backbone = make_backbone(name, **dict(options))  # type: ignore[arg-type]
    return backbone.channels, {
        f"backbone.{key}": tensor for key, tensor in backbone.state_dict().items()
    }


@functools.lru_cache(maxsize=64)
def _head_tensors(
    name: str,
    channels: int,
    options: tuple[tuple[str, object], ...],
    sequence: tuple[str, int, tuple[tuple[str, object], ...]],
) -> Shapes:
    """Those of the aggregator, and of the sequence pool where one is named, with its length and
    options."""
    with torch.device("meta"):
        aggregator = make_aggregator(name, channels, options=dict(options))
        tensors = {f"aggregator.{key}": tensor for key, tensor in aggregator.state_dict().items()}
        if sequence[0]:
            pool = make_sequence_pool(
                sequence[0], aggregator, length=sequence[1], options=dict(sequence[2])
            )
            tensors |= {f"sequence.{key}": tensor for key, tensor in pool.state_dict().items()}
    return tensors


def _translator(card: ModelCard, weights: WeightFile) -> Translator:
    return Translator("whence" if CARD_FIELD in weights.metadata else card.keys, card.backbone)


def _ours(weights: WeightFile, translator: Translator) -> dict[str, str | None]:
    """Our name of every tensor of the file; those that are unknown keep theirs, after a "?"."""
    names: dict[str, str | None] = {}
    for theirs in weights.tensors:
        try:
            names[theirs] = translator.ours(theirs)
        except KeyError:
            names[theirs] = f"?{theirs}"
    return names


def _fits(weights: WeightFile, card: ModelCard) -> bool:
    """Whether names and shapes of the file are those of the card; looks at the backbone first,
    which tells most of them apart."""
    translator = _translator(card, weights)
    if any(
        name is not None and name.startswith("?") for name in _ours(weights, translator).values()
    ):
        return False
    try:
        card = adapted(card, [weights])
        _, backbone = _backbone_tensors(card.backbone, tuple(sorted(card.backbone_options.items())))
        found = {
            name
            for name in _ours(weights, translator).values()
            if name and not _is_left_out(card, name)
        }
        if {name.partition("#")[0] for name in found if name.startswith("backbone.")} ^ set(
            backbone
        ) and not card.backbone_origins:
            return False
        _Match(card).add(weights, translator).finish(
            expected_tensors(card), what=card.name, has_tensors=False
        )
    except (WeightsMismatch, InputError):
        return False
    return True


def _fitting(
    weights: Sequence[WeightFile],
    translator: Translator,
    shapes: Shapes,
    *,
    what: str,
    card: ModelCard | None = None,
) -> dict[str, Tensor]:
    match = _Match(card)
    for one in weights:
        match.add(one, translator)
    return match.finish(shapes, what=what)


def _is_left_out(card: ModelCard | None, ours: str) -> bool:
    """Whether the card's options leave out this part of a backbone, which its file still holds."""
    if card is None or not card.backbone.startswith("dinov2"):
        return False
    options = card.backbone_options
    if ours.startswith("backbone.norm."):
        return options.get("has_final_norm") is False or options.get("facet") is not None
    is_block = ours.startswith("backbone.blocks.") and options.get("num_blocks") is not None
    return is_block and int(ours.split(".")[2]) >= options["num_blocks"]


class _Match:
    """The tensors of one or more files put against those that are expected."""

    def __init__(self, card: ModelCard | None) -> None:
        self.card = card
        self.path = Path()
        self.lacks_counts = False
        self.tensors: dict[str, Tensor] = {}
        self.theirs: dict[str, str] = {}
        self.unknown: list[str] = []

    def add(self, weights: WeightFile, translator: Translator) -> _Match:
        self.path = self.path if self.tensors else weights.path
        self.lacks_counts = translator.may_lack_counts
        for theirs, ours in _ours(weights, translator).items():
            if ours is None or _is_left_out(self.card, ours):
                continue
            if ours.startswith("?") or ours in self.tensors:
                self.unknown.append(theirs or "(a tensor without a name)")
                continue
            self.tensors[ours], self.theirs[ours] = weights.tensors[theirs], theirs
        return self

    def finish(self, shapes: Shapes, *, what: str, has_tensors: bool = True) -> dict[str, Tensor]:
        """The tensors by our names, floating ones as float32, whole of their own. Raises
        `WeightsMismatch`, `UnreadableWeights`."""
        joined = {name: self._joined(name) for name in _without_parts(self.tensors)}
        unknown = self.unknown + [
            self.theirs.get(name, name) for name in joined if name not in shapes
        ]
        missing = [
            name
            for name in shapes
            if name not in joined
            and not (self.lacks_counts and name.endswith(".num_batches_tracked"))
        ]
        misshapen = [
            f"{self.theirs.get(name, name)} is {_shape(tensor)}, not {_shape(shapes[name])}"
            for name, tensor in joined.items()
            if name in shapes and not _is_like(tensor, shapes[name])
        ]
        if unknown or missing or misshapen:
            raise WeightsMismatch(
                self.path, what, unknown=unknown, missing=missing, misshapen=misshapen
            )
        if not has_tensors:
            return {}
        ready = {name: torch.zeros((), dtype=torch.int64) for name in shapes if name not in joined}
        for name, tensor in joined.items():
            like = shapes[name]
            ready[name] = tensor.detach().to(like.dtype, copy=True).reshape(like.shape).contiguous()
            if ready[name].is_floating_point() and not bool(torch.isfinite(ready[name]).all()):
                raise UnreadableWeights(
                    self.path,
                    f"{self.theirs.get(name, name)} holds values that are no finite numbers",
                )
        return ready

    def _joined(self, name: str) -> Tensor:
        if name in self.tensors:
            return self.tensors[name]
        parts = [self.tensors[part] for part in sorted(self.tensors) if part.startswith(f"{name}#")]
        is_whole = (
            len(parts) == 3 and len({part.shape for part in parts}) == 1 and parts[0].ndim > 0
        )
        return (
            torch.cat([part.float() for part in parts])
            if is_whole
            else torch.empty(0, device="meta")
        )


def _without_parts(names: Mapping[str, Tensor]) -> Iterator[str]:
    seen = set()
    for name in names:
        whole = name.partition("#")[0]
        if whole not in seen:
            seen.add(whole)
            yield whole


def _is_like(tensor: Tensor, like: Tensor) -> bool:
    """Whether a tensor of a file may become one of the network: plain, of its kind, and of its
    shape up to sides of 1."""
    is_plain = (
        tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.is_quantized
    )
    is_same_kind = (
        tensor.is_floating_point() == like.is_floating_point() and not tensor.is_complex()
    )
    return is_plain and is_same_kind and _without_ones(tensor.shape) == _without_ones(like.shape)


def _without_ones(shape: torch.Size) -> list[int]:
    sides = list(shape)
    while sides and sides[-1] == 1:
        sides.pop()
    return sides


def _shape(tensor: Tensor) -> str:
    kind = "" if tensor.is_floating_point() else f" of {str(tensor.dtype).removeprefix('torch.')}"
    return (" x ".join(map(str, tensor.shape)) or "a single number") + kind
