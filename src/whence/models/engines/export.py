"""Networks as ONNX files: uint8 photos (B, H, W, 3) in, unit descriptors (B, D) out, checked
against torch before they are kept.

Batch, height and width stay free where the network's method allows; normalising is part of the
graph.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from whence.cards import ModelCard, Preprocessing
from whence.errors import BadOption, EngineRefused, MissingExtra
from whence.models.engines.parity import (
    MIN_COSINE,
    Prepare,
    fold_batch_norms,
    min_cosine,
    sample_images,
)
from whence.models.engines.runtimes import onnxruntime_run
from whence.models.networks import Network
from whence.runtime import atomic_write

Precision = Literal["float32", "bf16", "int8"]
INPUT, OUTPUT = "images", "descriptors"
MAX_FILE_BYTES = 1_900_000_000
"""An ONNX file holds less than 2 GB."""
NUM_CALIBRATION_IMAGES = 32
_QUANTISED = ("Conv", "Gemm", "MatMul", "MaxPool", "Add", "Relu", "Clip")
"""Operations that run in int8; pooling to the descriptor and all norms stay in float32."""


class Parity(NamedTuple):
    """How near the exported network is to torch at one size."""

    size_px: tuple[int, int]
    """Height and width."""
    cosine: float
    """The smallest over the sample images."""
    max_difference: float
    """The largest of any number."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written."""

    path: str
    precision: Precision
    size_bytes: int
    is_size_free: bool
    """Whether height and width may be chosen at each run."""
    parities: tuple[Parity, ...]


class Exported(nn.Module):
    """What goes into the file: normalising, the network, unit length."""

    def __init__(self, network: nn.Module, prepare: Prepare) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor([1 / (255 * s) for s in prepare.std]))
        self.register_buffer(
            "shift", torch.tensor([-m / s for m, s in zip(prepare.mean, prepare.std, strict=True)])
        )

    def forward(self, images: Tensor) -> Tensor:
        normalised = images.float() * self.get_buffer("scale") + self.get_buffer("shift")
        return nn.functional.normalize(self.network(normalised.permute(0, 3, 1, 2)), dim=1)


def export_onnx(
    network: Network,
    path: str | Path,
    *,
    steps: Preprocessing,
    precision: Precision = "float32",
    card: ModelCard | None = None,
    calibration: Iterable[np.ndarray] = (),
) -> ExportReport:
    """A report of the network, written to `path`, and of how near it is to torch, at two sizes
    where sizes are free.

    "bf16" keeps the weights in bfloat16, half the file; they are widened when it is loaded. "int8"
    computes in int8 what `calibration` images, as the network takes them, give ranges for; it is
    meant for convolutional networks. Raises `EngineRefused` where a cosine falls below
    `MIN_COSINE`, and then writes nothing; `MissingExtra`; `BadOption`.
    """
    onnx = _require_onnx()
    images = sample_images(steps)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        is_free = _write_float32(network, file, steps, images)
        if precision == "int8":
            file = _quantise(file, list(calibration))
        model = onnx.load(str(file))
        if precision == "bf16":
            _narrow_weights(model)
        for key, value in _metadata(card, precision).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        content = model.SerializeToString()
        file.write_bytes(content)
        parities = tuple(_parities(network, file, steps, images, is_free=is_free))
    worst = min(parity.cosine for parity in parities)
    if not worst >= MIN_COSINE:
        raise EngineRefused(f"the {precision} file", worst, MIN_COSINE)
    with atomic_write(path) as target:
        target.write(content)
    return ExportReport(str(path), precision, len(content), is_free, parities)


def _require_onnx() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtra("exporting to ONNX", "onnx") from None
    return onnx


def _write_float32(network: Network, file: Path, steps: Preprocessing, images: Tensor) -> bool:
    """Write the network in float32 with sizes free, or fixed where its method needs that; whether
    they are free."""
    if 4 * sum(p.numel() for p in network.parameters()) > MAX_FILE_BYTES:
        raise BadOption(f"the network is larger than an ONNX file may be, {MAX_FILE_BYTES:,} bytes")
    prepare = Prepare(steps.mean, steps.std)
    folded = copy.deepcopy(network).eval()
    fold_batch_norms(folded, prepare(images[:1]))
    module = Exported(folded, prepare).eval()
    dim = torch.export.Dim.DYNAMIC
    batch = {0: dim}
    if network.backbone.size_rule.exact is None:
        with contextlib.suppress(
            Exception
        ):  # The exporter meets sizes it cannot leave free with every kind of exception.
            _run_exporter(module, images, file, {**batch, 1: dim, 2: dim})
            onnxruntime_run(file)(_other_size(images, network, steps).numpy())
            return True
    _run_exporter(module, images, file, batch)
    return False


def _run_exporter(module: nn.Module, images: Tensor, file: Path, free: dict[int, Any]) -> None:
    with _quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            module,
            (images,),
            str(file),
            dynamo=True,
            external_data=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=(free,),
            verbose=False,
        )


def _other_size(images: Tensor, network: Network, steps: Preprocessing) -> Tensor:
    """The sample images in another size and shape: about three quarters as high and four fifths as
    wide."""
    multiple = max(steps.multiple_of, network.backbone.size_rule.multiple_of)
    height, width = images.shape[1:3]
    sizes = [
        max(multiple, round(part * side / multiple) * multiple)
        for part, side in ((0.75, height), (0.8, width))
    ]
    return images[:, : sizes[0], : sizes[1]].contiguous()


def _parities(
    network: Network, file: Path, steps: Preprocessing, images: Tensor, *, is_free: bool
) -> Iterator[Parity]:
    run = onnxruntime_run(file)
    for batch in (images, _other_size(images, network, steps)) if is_free else (images,):
        with torch.inference_mode():
            expected = nn.functional.normalize(
                network(Prepare(steps.mean, steps.std)(batch)), dim=1
            )
        found = torch.from_numpy(np.array(run(batch.numpy())))
        height, width = batch.shape[1:3]
        yield Parity(
            (height, width), min_cosine(found, expected), float((found - expected).abs().max())
        )


def _quantise(file: Path, calibration: Sequence[np.ndarray]) -> Path:
    """The file in int8 with the ranges that calibration images need, each by itself: they may
    differ in size."""
    if not calibration:
        raise BadOption(
            "int8 needs calibration photos, a few dozen like those to be described: give "
            "--calibration FOLDER"
        )
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Hands out the images one by one."""

        def __init__(self) -> None:
            self.images = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT: image[None]}

    prepared, quantised = file.with_name("prepared.onnx"), file.with_name("int8.onnx")
    with _quiet_exporter():
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return quantised


def quantised(model: bytes, calibration: Sequence[np.ndarray]) -> bytes:
    """An ONNX model of one input in int8, with the ranges that inputs (B, C, H, W) need. Raises
    `MissingExtra` and `BadOption`."""
    _require_onnx()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(model)
        # What calibrates is given without the batch.
        return _quantise(file, [image for batch in calibration for image in batch]).read_bytes()


def _narrow_weights(model: Any) -> None:
    """Keep the large weights in bfloat16, each with a cast behind it."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for entry in model.graph.initializer:
        if entry.data_type == TensorProto.FLOAT and np.prod(entry.dims) >= 256:
            name, values = entry.name, torch.from_numpy(np.array(numpy_helper.to_array(entry)))
            raw = values.to(torch.bfloat16).view(torch.int16).numpy().tobytes()
            entry.CopyFrom(
                TensorProto(
                    name=f"{name}.bf16",
                    data_type=TensorProto.BFLOAT16,
                    dims=entry.dims,
                    raw_data=raw,
                )
            )
            casts.append(helper.make_node("Cast", [f"{name}.bf16"], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def _metadata(card: ModelCard | None, precision: str) -> dict[str, str]:
    made = {
        "made_by": "whence",
        "precision": precision,
        "input": "uint8 RGB (batch, height, width, 3)",
        "output": "unit descriptors",
    }
    return (
        made
        if card is None
        else {**made, "model": card.name, "card": json.dumps(asdict(card), ensure_ascii=False)}
    )


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter's warnings and log lines about itself off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
