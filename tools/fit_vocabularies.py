"""Fit the vocabularies that come with Whence, and what its half whitenings begin with, on rendered
streets of several cities.

    python tools/fit_vocabularies.py [MODEL ...]

The models are rootsift-vlad, densevlad and whence-lite0-448; without names all three are fitted.
Rendered photos only: no photo of anybody goes into the package. The same command gives the same on
one machine.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from whence.data.scan import scan_photos
from whence.models.descriptor import DescriptorModel, load_model
from whence.models.lite import LiteDescriptor
from whence.runtime import atomic_write, in_chunks
from whence.worlds.city import render_world

NUM_AXES = 256
SEEDS = (1001, 1002, 1003)
NUM_PHOTOS_PER_CITY = {"rootsift-vlad": 150, "densevlad": 150, "whence-lite0-448": 400}
FOLDER = Path(__file__).parents[1] / "src" / "whence" / "models" / "vocabularies"


def main() -> None:
    """Render, fit, write."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        for seed in SEEDS:
            render_world(Path(made) / str(seed), preset="small", seed=seed)
        for name in sys.argv[1:] or NUM_PHOTOS_PER_CITY:
            files = _files(Path(made), NUM_PHOTOS_PER_CITY[name])
            model = load_model(name)
            for file_name, arrays in _fitted(model, files).items():
                with atomic_write(FOLDER / f"{file_name}.npz") as file:
                    np.savez_compressed(
                        file, **{key: array.astype(np.float16) for key, array in arrays.items()}
                    )
            print(f"{name}: from {len(files)} rendered photos of cities {SEEDS}")


def _files(worlds: Path, num_per_city: int) -> list[Path]:
    """Photos of each city, of its database and its queries, so that night, rain and snow have their
    say."""
    files = []
    for seed in SEEDS:
        photos = scan_photos(worlds / str(seed))
        rows = np.linspace(0, len(photos) - 1, num_per_city).round().astype(int)
        files += [photos.file(int(row)) for row in rows]
    return files


def _fitted(model: DescriptorModel, files: list[Path]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a fitted model by the file they are kept in."""
    if not isinstance(model.descriptor, LiteDescriptor):
        model.fit(files, seed=0)
        return {model.name: {"words": model.descriptor.state()["words"]}}
    images = (model.read(file) for file in files)
    raws = [model.descriptor.raw(batch) for batch in in_chunks(images, model.batch_size)]
    return {
        f"lite0-{part}": _spreads(np.concatenate([raw[part] for raw in raws]))
        for part in model.descriptor.parts
    }


def _spreads(raw: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and principal axes of vectors (N, E), each as long as they spread along it."""
    mean = raw.mean(axis=0, dtype=np.float64)
    _, values, axes = np.linalg.svd(raw - mean, full_matrices=False)
    return {"mean": mean, "spreads": (axes * values[:, None] / np.sqrt(len(raw)))[:NUM_AXES]}


if __name__ == "__main__":
    main()
