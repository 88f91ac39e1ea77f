"""Photo files to descriptors: every engine with our loader against eager float32 with the field's
loader, from bytes to vectors.

The peer is what the field's evaluation code does: PIL open and convert, ToTensor, Normalize, Resize
with antialiasing on the float tensor, then the network as it is, in float32. One process, one
thread, one core. Weights are random, their batch norms calibrated on pictures; the note gives the
smallest cosine to the peer's descriptors. Needs torch and torchvision (exit code 2 without);
engines whose package is missing are left out. On a machine without bfloat16 instructions that
engine is slow.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import side_by_side
from decode import as_jpeg, street_picture
from PIL import Image

from whence.runtime import in_batches, set_threads

if TYPE_CHECKING:
    from whence.models.descriptor import DescriptorModel
    from whence.models.networks import Network

PHOTOS = {"640 x 480": (640, 480), "1920 x 1080": (1920, 1080)}
BARS = {"bf16": 2.2, "onnxruntime int8": 4.0, "openvino int8": 4.0}
"""How many times faster than the peer an engine should be."""


@functools.cache
def network_of(backbone: str) -> Network:
    """A network with random weights whose batch norms have seen pictures."""
    import torch

    from whence.models.aggregators.pools import GeM
    from whence.models.backbones import make_backbone
    from whence.models.networks import Network
    from whence.models.preprocessing import normalise

    torch.manual_seed(0)
    made = make_backbone(backbone)
    network = Network(made, GeM(made.channels)).train()
    with torch.no_grad():
        for seed in range(6):
            pictures = np.stack(
                [street_picture(224, 224, seed=1000 + 4 * seed + i) for i in range(4)]
            )
            network(normalise(torch.from_numpy(pictures)))
    return network.eval()


def peer_of(network: Network, side: int, batch_size: int) -> Callable[[list[bytes]], np.ndarray]:
    """The field's way: its loader, then the network in batches."""
    import torch
    from torchvision import transforms

    from whence.cards import IMAGENET_MEAN, IMAGENET_STD

    load = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            transforms.Resize((side, side), antialias=True),
        ]
    )

    def describe(files: list[bytes]) -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for batch in in_batches(files, batch_size):
                images = torch.stack(
                    [load(Image.open(io.BytesIO(data)).convert("RGB")) for data in batch]
                )
                rows.append(torch.nn.functional.normalize(network(images), dim=1).numpy())
        return np.concatenate(rows)

    return describe


def model_of(
    network: Network, side: int, batch_size: int, *, engine: str, onnx: Path | None = None
) -> DescriptorModel:
    from whence.cards import ModelCard, Preprocessing
    from whence.models.descriptor import DescriptorModel
    from whence.models.network_descriptor import NetworkDescriptor

    steps = Preprocessing(size_px=(side, side), interpolation="bilinear")
    descriptor = NetworkDescriptor(network, batch_size=batch_size)
    descriptor.configure(steps, engine=engine, onnx=None if onnx is None else str(onnx))
    return DescriptorModel(
        ModelCard("random", "random weights", network.dim, steps, "MIT"), descriptor
    )


def export(network: Network, folder: Path) -> dict[str, tuple[str, Path]]:
    """Way -> engine and file, for those whose packages are there."""
    if any(
        importlib.util.find_spec(package) is None
        for package in ("onnx", "onnxscript", "onnxruntime")
    ):
        return {}
    from whence.cards import Preprocessing
    from whence.models.engines.export import export_onnx

    steps = Preprocessing(size_px=(320, 320), interpolation="bilinear")
    pictures = [street_picture(320, 320, seed=2000 + i) for i in range(16)]
    export_onnx(network, folder / "plain.onnx", steps=steps)
    export_onnx(network, folder / "int8.onnx", steps=steps, precision="int8", calibration=pictures)
    plain, int8 = folder / "plain.onnx", folder / "int8.onnx"
    ways = {
        "onnxruntime float32": ("onnxruntime", plain),
        "onnxruntime int8": ("onnxruntime", int8),
    }
    if importlib.util.find_spec("openvino") is not None:
        ways |= {"openvino bf16": ("openvino-bf16", plain), "openvino int8": ("openvino", int8)}
    return ways


def measure(
    backbone: str,
    exported: dict[str, tuple[str, Path]],
    *,
    photo: str,
    side: int,
    batch_size: int,
    num_photos: int,
    rounds: int,
) -> list[side_by_side.Timing]:
    network = network_of(backbone)
    files = [as_jpeg(street_picture(*PHOTOS[photo], seed=seed)) for seed in range(num_photos)]
    peer = peer_of(network, side, batch_size)
    models = {
        name: model_of(network, side, batch_size, engine=name)
        for name in ("eager", "folded", "bf16")
    }
    models |= {
        name: model_of(network, side, batch_size, engine=engine, onnx=file)
        for name, (engine, file) in exported.items()
    }
    expected = peer(files)
    notes = {}
    for name, model in models.items():
        cosine = float((model.describe(files) * expected).sum(axis=1).min())
        bar = f", bar {BARS[name]} times" if name in BARS else ""
        notes[name] = f"cosine {cosine:.5f}{bar}"
    ways: dict[str, Callable[[], object]] = {"upstream": lambda: peer(files)}
    ways |= {name: functools.partial(model.describe, files) for name, model in models.items()}
    title = f"{backbone}, {photo} photos to {side} x {side}, batches of {batch_size}"
    return side_by_side.compare(
        title, ways, peer="upstream", items=num_photos, rounds=rounds, notes=notes
    )


def growth(
    exported: dict[str, tuple[str, Path]], *, num_photos: int, rounds: int
) -> dict[str, list[side_by_side.Timing]]:
    """ResNet-18 at three sizes: cost should grow with the pixels."""
    results = {}
    for side in (224, 320, 448):
        table = measure(
            "resnet18conv5",
            exported,
            photo="640 x 480",
            side=side,
            batch_size=4,
            num_photos=num_photos,
            rounds=rounds,
        )
        results[f"growth {side}"] = table
    print("\nCPU ms per photo over thousands of pixels")
    for title, table in results.items():
        pixels = int(title.split()[1]) ** 2 / 1e3
        print(f"  {title}: " + ", ".join(f"{row.name} {row.cpu_ms / pixels:.3f}" for row in table))
    return results


def main() -> int:
    parser = side_by_side.options(__doc__.split("\n", 1)[0])
    parser.add_argument("--backbone", help="this backbone alone, without the comparison of sizes")
    parser.add_argument("--photos", type=int, default=8, help="photos per round (default 8)")
    arguments = parser.parse_args()
    missing = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"networks need {' and '.join(missing)}: pip install 'whence[torch,fast]'",
            file=sys.stderr,
        )
        return 2
    import cv2  # noqa: F401 (so that its threads are bounded too)
    import torch  # noqa: F401

    set_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    num_photos, rounds = (2, 1) if arguments.quick else (arguments.photos, arguments.rounds)
    chosen = ("resnet18conv5",) if arguments.quick else ("resnet18conv5", "resnet50conv5")
    results = {}
    for backbone in (arguments.backbone,) if arguments.backbone else chosen:
        with tempfile.TemporaryDirectory() as folder:
            exported = export(network_of(backbone), Path(folder))
            for photo, batch_size in (("640 x 480", 2), ("640 x 480", 8), ("1920 x 1080", 8)):
                table = measure(
                    backbone,
                    exported,
                    photo=photo,
                    side=320,
                    batch_size=batch_size,
                    num_photos=num_photos,
                    rounds=rounds,
                )
                results[f"{backbone} {photo} batch {batch_size}"] = table
            if backbone == "resnet18conv5" and not arguments.backbone:
                results |= growth(exported, num_photos=num_photos, rounds=rounds)
    side_by_side.save(arguments.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
