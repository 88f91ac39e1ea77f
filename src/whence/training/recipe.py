"""`Recipe`: everything a training follows from, as typed values. Nothing here computes; nothing here needs torch.

The command line changes fields by dotted name (`optimizer.lr=1e-4`); names that do not exist are refused with the nearest ones.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Protocol, Self, TypeVar

from whence.errors import BadOption, UnknownName
from whence.settings import parse_options

Precision = Literal["no", "bf16", "fp16"]
R = TypeVar("R", bound="TrainingRecipe")


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """What a place is: photos taken near one point in about one direction."""

    cell_m: float = 10.0
    """One place for each occupied cell of this side and each heading bin."""
    heading_bin_deg: float = 60.0
    """Width of the heading bins; 360 leaves headings out of it."""
    radius_m: float = 12.0
    """Photos within this distance of the place's own photo show it ..."""
    max_turn_deg: float = 40.0
    """... if they look in its direction, give or take this. Photos without a heading count as turned by 0."""
    min_photos: int = 4
    """Places with fewer photos are left out."""


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Places x views, after GSV-Cities (Ali-bey et al., Neurocomputing 2022)."""

    num_places: int = 32
    num_views: int = 4
    min_apart_m: float = 30.0
    """Two places of a batch are at least this far apart, so that no view of one is a view of the other."""
    has_own: bool = False
    """Whether a place's own photo is always among its views. Two others may differ twice as much from each other as from it."""


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """How training photos are changed; 0 leaves each step out. Strengths as in torchvision."""

    width: int = 160
    """Pixels of the photos as the network sees them."""
    height: int = 120
    stored_width: int = 0
    """Pixels of the photos as they are kept decoded, larger where a crop is to lose no detail; 0 for `width`."""
    stored_height: int = 0
    small_width: int = 0
    """Pixels of the photos in the first `small_steps` steps: what is coarse is learned first, at a fraction of the cost."""
    small_height: int = 0
    small_steps: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    perspective: float = 0.0
    """Distortion, with probability one half."""
    crop: float = 0.0
    """Largest share of the area that is cut away."""
    rotation_deg: float = 0.0
    grey_share: float = 0.0
    """Share of the photos that lose their colour."""
    blur_share: float = 0.0
    """Share of the photos that are blurred."""
    erase_share: float = 0.0
    """Share of the photos that lose a rectangle, as behind a van."""
    flip_share: float = 0.0
    """Share of the batches that are mirrored whole: mirrored streets are other places, seen alike by all their views."""


@dataclass(frozen=True, slots=True)
class AggregatorOptions:
    """The aggregator by name, and its own settings."""

    name: str = "gem"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LossOptions:
    """The loss by name (`whence.training.losses.by_label`), its own settings, and a miner before it or none."""

    name: str = "multi_similarity"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the loss by the names of pytorch-metric-learning; what is not named keeps that library's value."""
    miner: str = ""
    miner_options: Mapping[str, Any] = field(default_factory=dict)
    lr: float = 0.0
    """Learning rate of the loss's own weights (classification losses); 0 takes the network's."""


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
    clip_norm: float = 0.0
    """Gradients longer than this are shortened to it; 0 leaves them."""


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """How the learning rate goes: up over the first steps, then constant, linear or along a cosine to a share of itself."""

    name: str = "constant"
    warmup_steps: int = 0
    final_share: float = 0.0


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How long, how exactly, and how often what is done."""

    num_steps: int = 1000
    """Updates of the weights."""
    accumulate: int = 1
    """Batches whose gradients are averaged for one update. A loss over pairs sees pairs within each batch alone."""
    precision: Precision = "no"
    """Autocast of the network; losses are always computed in float32."""
    ema_decay: float = 0.0
    """Where above 0, what is validated and kept is a moving average of the weights with this decay."""
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


@dataclass(frozen=True, slots=True)
class ValidationOptions:
    """What the best weights are chosen by: recall@n within a radius."""

    n: int = 1
    radius_m: float = 25.0
    width: int = 0
    """Pixels of the photos; 0 takes those of training."""
    height: int = 0
    batch_size: int = 64


class AsText:
    """A recipe's way to text and back."""

    __slots__ = ()

    def to_json(self) -> str:
        """The recipe as text."""
        return json.dumps(asdict(self), indent=1)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The recipe that `to_json` wrote. Raises `UnknownName` and `BadOption`."""
        recipe: Self = _filled(cls, json.loads(text), "")
        return recipe


@dataclass(frozen=True, slots=True)
class Recipe(AsText):
    """One training."""

    name: str
    backbone: str
    summary: str = ""
    start_from: str = ""
    """Safetensors file with the weights to begin with, or the name of a model; empty for random ones."""
    freeze_before: str = ""
    """Stage of the backbone before which nothing learns; empty to learn everything."""
    aggregator: AggregatorOptions = AggregatorOptions()
    places: PlaceOptions = PlaceOptions()
    batches: BatchOptions = BatchOptions()
    augment: AugmentOptions = AugmentOptions()
    loss: LossOptions = LossOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    loop: LoopOptions = LoopOptions()
    validate_on: ValidationOptions = ValidationOptions()


class TrainingRecipe(Protocol):
    """What every recipe has, and all that the loop itself follows from."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def optimizer(self) -> OptimizerOptions: ...

    @property
    def schedule(self) -> ScheduleOptions: ...

    @property
    def loop(self) -> LoopOptions: ...

    def to_json(self) -> str: ...

    @classmethod
    def from_json(cls, text: str) -> Self: ...


def override(recipe: R, assignments: Sequence[str]) -> R:
    """The recipe with fields replaced by texts such as "optimizer.lr=1e-4". Raises `UnknownName` and `BadOption`."""
    for name, value in parse_options(tuple(assignments)).items():
        recipe = _replaced(recipe, name, name.split("."), value)
    return recipe


def field_names(record: Any, prefix: str = "") -> tuple[str, ...]:
    """All fields that can be replaced, by dotted name."""
    names: list[str] = []
    for entry in fields(record):
        value = getattr(record, entry.name)
        names += field_names(value, f"{prefix}{entry.name}.") if is_dataclass(value) else [prefix + entry.name]
    return tuple(names)


def _replaced(record: Any, name: str, path: list[str], value: Any, whole: Any = None) -> Any:
    whole = record if whole is None else whole
    first, rest = path[0], path[1:]
    found = getattr(record, first, None) if first in {entry.name for entry in fields(record)} else None
    if is_dataclass(found) and rest:
        return replace(record, **{first: _replaced(found, name, rest, value, whole)})
    if isinstance(found, Mapping) and len(rest) == 1:
        return replace(record, **{first: {**found, rest[0]: value}})
    if found is None or rest or is_dataclass(found):
        raise UnknownName("field of the recipe", name, field_names(whole))
    return replace(record, **{first: _as_kind(typing.get_type_hints(type(record))[first], value, name)})


def _filled(kind: Any, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    filled = {}
    for name, value in values.items():
        if name not in hints:
            raise UnknownName("field of the recipe", prefix + name, [prefix + known for known in hints])
        inner = is_dataclass(hints[name])
        filled[name] = _filled(hints[name], value, f"{prefix}{name}.") if inner else _as_kind(hints[name], value, prefix + name)
    return kind(**filled)


def _as_kind(kind: Any, value: Any, name: str) -> Any:
    """The value as the field's type; whole numbers may stand for broken ones, nothing else is converted."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise UnknownName(f"value of {name}", str(value), typing.get_args(kind))
        return value
    plain = typing.get_origin(kind) or kind
    if not isinstance(value, plain) or (plain is not bool and isinstance(value, bool)):
        wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(plain, "a table")
        raise BadOption(f"{name} is {wanted}, not {value!r}")
    return value
