"""Engines: what runs a network on this machine, as it stands or faster, and the check that it still
gives the same descriptors.

`eager` is the reference. `folded` merges batch norms into convolutions and lays images out channels
last. `bf16` does so and runs the backbone in bfloat16, the aggregator in float32. `cuda` runs on a
graphics card. `onnxruntime` and `openvino` run an exported network, also one in int8. All take
uint8 images (B, H, W, 3) and give float32 descriptors (B, D).
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from whence.cards import Preprocessing
from whence.errors import BadOption, EngineRefused, UnknownName
from whence.models.backbones.base import Backbone, Features
from whence.models.engines.parity import MIN_COSINE, Prepare, fold_batch_norms, min_cosine
from whence.settings import load_settings

if TYPE_CHECKING:
    from whence.models.engines.runtimes import RuntimeEngine
    from whence.models.networks import Network

ENGINES = ("auto", "eager", "folded", "bf16", "cuda", "onnxruntime", "openvino", "openvino-bf16")
RUNTIMES = ("onnxruntime", "openvino", "openvino-bf16")
"""Engines that run an ONNX file."""
AUTO_COSINE = 0.999
"""What an engine that nobody asked for by name must keep."""


class Engine(Protocol):
    """Runs a network: uint8 images (B, H, W, 3) of one size to float32 descriptors (B, D) on the
    CPU, not yet of unit length."""

    @property
    def name(self) -> str: ...

    @property
    def cosine(self) -> float: ...

    def __call__(self, images: Tensor) -> Tensor: ...


@dataclass
class TorchEngine:
    """A network run by torch."""

    name: str
    network: nn.Module
    prepare: Prepare
    device: str = "cpu"
    cosine: float = 1.0
    """The smallest cosine to the reference seen on sample images."""

    def __call__(self, images: Tensor) -> Tensor:
        if self.device != "cpu":
            images = images.pin_memory().to(self.device, non_blocking=True)
        with torch.inference_mode():
            return self.network(self.prepare(images)).float().cpu()  # type: ignore[no-any-return]


class LowPrecision(Backbone):
    """A backbone that computes in another precision and hands out float32 features: cast on a CPU,
    by autocast elsewhere."""

    def __init__(self, backbone: Backbone, dtype: torch.dtype, *, device: str = "cpu") -> None:
        super().__init__()
        self.dtype, self.device = dtype, device
        self.backbone = backbone.to(dtype) if device == "cpu" else backbone
        self.name, self.channels, self.stride, self.stages = (
            backbone.name,
            backbone.channels,
            backbone.stride,
            backbone.stages,
        )
        self.size_rule = backbone.size_rule

    def forward(self, images: Tensor) -> Features:
        if self.device == "cpu":
            found = self.backbone(images.to(self.dtype))
        else:
            with torch.autocast(self.device, dtype=self.dtype):
                found = self.backbone(images)
        cls, finer = (None if part is None else part.float() for part in found[1:])
        return Features(found.map.float(), cls, finer)


def resolve_engine(
    name: str, onnx: str | None, onnx_hash: str | None
) -> tuple[str, str | None, str | None]:
    """The options as they will be remembered: the file absolute, with the hash of its content.

    Raises `UnknownName`, and `BadOption` for a file that is missing, has changed, or that the
    engine has no use for.
    """
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    if onnx is None:
        return name, None, None
    if name not in RUNTIMES:
        raise BadOption(f"the engine {name} runs no ONNX file; use onnxruntime or openvino")
    path = Path(onnx).absolute()
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except OSError as error:
        raise BadOption(
            f"cannot read the ONNX file {str(path)!r}: {error.strerror}; write it with  whence "
            "export"
        ) from None
    if onnx_hash is not None and onnx_hash != found:
        raise BadOption(
            f"{str(path)!r} is not the file these descriptors were made with (its content changed)"
        )
    return name, str(path), found


def make_engine(
    name: str,
    network: Network,
    prepare: Prepare,
    *,
    samples: Tensor,
    steps: Preprocessing,
    onnx: str | None = None,
) -> Engine:
    """The engine of this name, checked on sample images. "auto" is the fastest one that needs no
    extra package.

    Raises `EngineRefused` where the smallest cosine to the reference is below `MIN_COSINE`,
    `MissingExtra` where a package is missing, `BadOption` where the machine cannot run it.
    """
    reference = TorchEngine("eager", network, prepare)
    if name == "eager":
        return reference
    outputs = reference(samples)
    if name == "auto":
        return _fastest(network, prepare, samples, outputs) or reference
    made = _make(name, network, prepare, samples, steps, onnx)
    made.cosine = min_cosine(made(samples), outputs)
    if not made.cosine >= MIN_COSINE:
        raise EngineRefused(name, made.cosine, MIN_COSINE)
    return made


def _fastest(
    network: Network, prepare: Prepare, samples: Tensor, outputs: Tensor
) -> TorchEngine | None:
    device = load_settings().device
    if device == "cuda" and not torch.cuda.is_available():
        raise BadOption("no graphics card that torch can use is here: leave out --device cuda")
    candidates = (
        ["cuda"]
        if device != "cpu" and torch.cuda.is_available()
        else ["bf16"]
        if has_bf16()
        else []
    )
    for name in (*candidates, "folded"):
        made = make_torch_engine(name, network, prepare, samples)
        made.cosine = min_cosine(made(samples), outputs)
        if made.cosine >= AUTO_COSINE:
            return made
    return None


def _make(
    name: str,
    network: Network,
    prepare: Prepare,
    samples: Tensor,
    steps: Preprocessing,
    onnx: str | None,
) -> TorchEngine | RuntimeEngine:
    if name not in RUNTIMES:
        return make_torch_engine(name, network, prepare, samples)
    from whence.models.engines.runtimes import RuntimeEngine as Runtime

    if onnx is not None:
        return Runtime(name, Path(onnx))
    from whence.models.engines.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export_onnx(network, file, steps=steps)
        return Runtime(name, file)


def make_torch_engine(
    name: str, network: Network, prepare: Prepare, samples: Tensor
) -> TorchEngine:
    """The engine `folded`, `bf16` or `cuda`, unchecked. The network given stays as it is."""
    fast = copy.deepcopy(network).eval()
    fold_batch_norms(fast, prepare(samples[:1]))
    fast = fast.to(memory_format=torch.channels_last)
    device = "cuda" if name == "cuda" else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise BadOption("the engine cuda needs a graphics card that torch can use; take auto")
        fast = fast.to(device)
        fast.backbone = LowPrecision(fast.backbone, torch.bfloat16, device=device)
    elif name == "bf16":
        fast.backbone = LowPrecision(fast.backbone, torch.bfloat16)
    return TorchEngine(name, fast, prepare, device=device)


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 by itself (AVX512-BF16 or AMX); elsewhere it is
    slower than float32."""
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name)() for name in names if hasattr(torch.cpu, name))
