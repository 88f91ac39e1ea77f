"""GeoWarp's scorers by name: which network, which regressor, and what computes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from whence.cards import ModelCard
from whence.errors import BadOption, MissingExtra
from whence.models.checkpoints.origins import get_weights
from whence.models.warp.cells import Storage
from whence.models.warp.engines import (
    LITE_BACKBONE,
    Computing,
    CoreEngine,
    WarpEngine,
    open_lite_maps,
)
from whence.models.warp.quads import Sampling, Sides
from whence.models.warp.regressor import read_regressor, whole_regressor
from whence.models.warp.scorer import GeoWarpScorer, Readout, WarpOptions
from whence.models.zoo import named_network
from whence.registry import get_card

if TYPE_CHECKING:
    from whence.models.backbones.base import Backbone


def open_geowarp(
    name: str,
    made_for: str,
    *,
    weights: str = "",
    model: str = "",
    model_weights: str = "",
    sampling: str = "",
    readout: Readout = "features",
    long_side_px: int = 640,
    storage: Storage = "float16",
    num_exact: int = 5,
    dtype: Computing = "float32",
    sides: Sides = "both",
    enlarge: bool = False,
    margin: float = 0.0,
    device: str = "cpu",
) -> GeoWarpScorer:
    """The scorer of this name, with its own weights or others.

    `weights` is a file with a regressor, in place of the scorer's own. `model` names the network
    whose backbone it was trained for, or a safetensors file with a card, `made_for` without;
    `model_weights` is a file with that network's weights. Where neither side is warped another
    network needs no regressor. `sampling` is "legacy" for a published pair by default, else
    "exact".

    EfficientNet-Lite0 needs no torch, unless it is asked for on another device than "cpu" or in
    "bfloat16". Raises as `whence.models.zoo.load_network`.
    """
    options = WarpOptions(readout, long_side_px, storage, num_exact, sides, enlarge, margin)
    for option, given, known in (
        ("sampling", sampling, ("", *get_args(Sampling))),
        ("dtype", dtype, get_args(Computing)),
    ):
        if given not in known:
            raise BadOption(f"{option} is one of {', '.join(filter(None, known))}, not {given!r}")
    is_own = not (model or weights)
    if model and not weights and sides != "none":
        raise BadOption(
            f"a regressor serves the backbone it was trained for only: name the one for {model} "
            "as weights=FILE"
        )
    cuts: Sampling = "legacy" if sampling == "legacy" or not (sampling or weights) else "exact"
    card = get_card(name, kind="scorer")
    file = get_weights(card, weights=weights or None)[0] if weights or is_own else None
    if made_for == LITE_BACKBONE and not model and device == "cpu" and dtype == "float32":
        regressor = whole_regressor() if file is None else read_regressor(file)
        engine: WarpEngine = CoreEngine(open_lite_maps(model_weights or None), regressor, cuts)
    else:
        engine = _by_torch(
            card,
            made_for,
            file,
            model=model,
            model_weights=model_weights,
            cuts=cuts,
            dtype=dtype,
            device=device,
        )
    return GeoWarpScorer(engine, options=options)


def _by_torch(
    card: ModelCard,
    made_for: str,
    file: Path | None,
    *,
    model: str,
    model_weights: str,
    cuts: Sampling,
    dtype: Computing,
    device: str,
) -> WarpEngine:
    try:
        from whence.models.backbones import load_imagenet, make_backbone
        from whence.models.warp.model import GeoWarp
        from whence.models.warp.torch_engine import TorchEngine, load_regressor
    except ModuleNotFoundError:
        raise MissingExtra(card.name, "torch") from None
    if made_for == LITE_BACKBONE and not model:
        backbone: Backbone = make_backbone(made_for)
        load_imagenet(backbone)
    else:
        backbone = named_network(model or made_for, weights=model_weights or None).backbone
    warping = GeoWarp(backbone, sampling=cuts)
    if file is not None:
        load_regressor(warping.regressor, file)
    return TorchEngine(warping.to(device), dtype=dtype)
