"""Photo files to small pixel arrays: our two decoders against the way of the field's evaluation
code.

The peer is what VPR-methods-evaluation does for each photo: PIL open and convert, torchvision
ToTensor, Normalize, Resize with antialiasing; it needs torch and torchvision (exit code 2 without).
Ours hand out uint8; normalising belongs to the model. The pictures are synthetic street-like
scenes, JPEG quality 90, 4:2:0, in memory, about as many bytes as real street photos.
"""

from __future__ import annotations

import importlib.util
import io
import sys

import numpy as np
import side_by_side
from PIL import Image

from whence.data.images import has_fast_decoder, load_resized
from whence.runtime import map_threads, set_threads

SIZES = {
    "1080p to 320": (1920, 1080, 320),
    "640x480 to 320": (640, 480, 320),
    "12 MP to 480": (4000, 3000, 480),
}
"""Title -> width, height, and the length of the shorter side after resizing."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def street_picture(width: int, height: int, *, seed: int) -> np.ndarray:
    """A street-like scene: sky and road gradients, facades with windows, texture at every scale,
    sensor noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    scene = np.stack([150 - 60 * y, 160 - 70 * y, 190 - 120 * y], axis=-1)
    left = 0.0
    while left < width / height:
        wide, top = rng.uniform(0.15, 0.45), rng.uniform(0.1, 0.5)
        facade = (x >= left) & (x < left + wide) & (y > top) & (y < 0.8)
        scene[facade] = rng.uniform(60, 200, 3)
        windows = facade & ((x - left) % 0.07 < 0.035) & ((y - top) % 0.11 < 0.06)
        scene[windows] = rng.uniform(20, 90, 3)
        left += wide
    for octave in range(2, 8):
        grid = rng.normal(0, 30 / octave, (2**octave, 2**octave)).astype(np.float32)
        scene += np.array(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))[
            ..., None
        ]
    scene += rng.normal(0, 5, (height, width, 1)) + rng.normal(0, 2, (height, width, 3))
    return np.clip(scene, 0, 255).astype(np.uint8)


def as_jpeg(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, subsampling="4:2:0")
    return file.getvalue()


def pillow_reference(data: bytes, short_side_px: int) -> np.ndarray:
    """Full decode and Pillow's antialiased resize."""
    with Image.open(io.BytesIO(data)) as image:
        scale = short_side_px / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        return np.array(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


def mean_difference(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(ours.astype(float) - reference.astype(float)).mean())


def measure(title: str, *, num_images: int, rounds: int) -> list[side_by_side.Timing]:
    from torchvision import transforms

    width, height, short = SIZES[title]
    files = [as_jpeg(street_picture(width, height, seed=seed)) for seed in range(num_images)]
    upstream = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            transforms.Resize(short, antialias=True),
        ]
    )

    def peer() -> None:
        for data in files:
            upstream(Image.open(io.BytesIO(data)).convert("RGB"))

    def ours(decoder: str) -> None:
        for data in files:
            load_resized(data, short_side_px=short, decoder=decoder)

    def threaded() -> None:
        for _ in map_threads(
            lambda data: load_resized(data, short_side_px=short), files, num_workers=2
        ):
            pass

    ways = {"upstream": peer, "whence, pillow": lambda: ours("pillow")}
    decoders = {"whence, pillow": "pillow"}
    if has_fast_decoder():
        ways["whence, fast"] = lambda: ours("fast")
        decoders["whence, fast"] = "fast"
    ways["whence, auto, 2 threads"] = threaded
    decoders["whence, auto, 2 threads"] = "auto"
    references = [pillow_reference(data, short) for data in files]
    notes = {"upstream": f"{sum(map(len, files)) / num_images / 1e3:.0f} kB a picture"}
    for name, decoder in decoders.items():
        pictures = [load_resized(data, short_side_px=short, decoder=decoder) for data in files]
        gap = np.mean([mean_difference(a, b) for a, b in zip(pictures, references, strict=True)])
        notes[name] = f"mean difference to Pillow {gap:.2f} of 255"
    return side_by_side.compare(
        title, ways, peer="upstream", items=num_images, rounds=rounds, notes=notes
    )


def main() -> int:
    arguments = side_by_side.options(__doc__.split("\n", 1)[0]).parse_args()
    missing = [name for name in ("torch", "torchvision") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"the peer needs {' and '.join(missing)}: pip install 'whence[torch,fast]'",
            file=sys.stderr,
        )
        return 2
    import cv2  # noqa: F401 (so that its threads are bounded too)
    import torch  # noqa: F401

    set_threads(1)
    num_images = 2 if arguments.quick else 8
    results = {
        title: measure(title, num_images=num_images, rounds=arguments.rounds) for title in SIZES
    }
    side_by_side.save(arguments.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
