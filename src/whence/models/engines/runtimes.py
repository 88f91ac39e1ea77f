"""Exported networks run by onnxruntime or OpenVINO, both optional packages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from whence.errors import MissingExtra

Run = Callable[[np.ndarray], np.ndarray]


class RuntimeEngine:
    """An ONNX file that `whence.models.engines.export` wrote, as an engine. It takes as many
    threads as torch has been given."""

    def __init__(self, name: str, file: Path) -> None:
        """`name` is onnxruntime, openvino or openvino-bf16. The file may be deleted afterwards.
        Raises `MissingExtra`."""
        self.name = name
        self.cosine = 1.0
        self._run = (
            onnxruntime_run(file)
            if name == "onnxruntime"
            else _openvino_run(file, is_bf16=name.endswith("bf16"))
        )

    def __call__(self, images: Tensor) -> Tensor:
        return torch.from_numpy(np.array(self._run(images.numpy()), np.float32))


def onnxruntime_run(file: Path) -> Run:
    """A function from uint8 images (B, H, W, 3) to descriptors (B, D), run by onnxruntime. Raises
    `MissingExtra`."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("the engine onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # What goes wrong is raised; it need not be printed too.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {session.get_inputs()[0].name: images})[0]


def _openvino_run(file: Path, *, is_bf16: bool) -> Run:
    try:
        import openvino
    except ImportError:
        raise MissingExtra("the engine openvino", "openvino") from None
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if is_bf16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    return lambda images: compiled(images)[0]
