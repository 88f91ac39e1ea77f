"""Fit the vocabularies and half whitenings that come with Whence, on rendered streets of several cities.

    python tools/fit_vocabularies.py [MODEL ...]

The models are rootsift-vlad, densevlad and lite0-both-448, whose weights are fetched; without names all three are fitted. Rendered
photos only: no photo of anybody goes into the package. The same command gives the same on one machine.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whence.data.scan import scan_photos
from whence.models.descriptor import load_model
from whence.runtime import atomic_write
from whence.worlds.city import render_world

SEEDS = (1001, 1002, 1003)
NUM_PHOTOS_PER_CITY = {"rootsift-vlad": 150, "densevlad": 150, "lite0-both-448": 400}
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
            model.fit(files, seed=0)
            for file_name, arrays in _to_keep(name, model.descriptor.state()).items():
                with atomic_write(FOLDER / f"{file_name}.npz") as file:
                    np.savez_compressed(file, **{key: array.astype(np.float16) for key, array in arrays.items()})
            print(f"{name}: from {len(files)} rendered photos of cities {SEEDS}")


def _files(made: Path, num_per_city: int) -> list[Path]:
    """Photos of each city, of its database and its queries, so that night, rain and snow have their say."""
    files = []
    for seed in SEEDS:
        photos = scan_photos(made / str(seed))
        rows = np.linspace(0, len(photos) - 1, num_per_city).round().astype(int)
        files += [photos.file(int(row)) for row in rows]
    return files


def _to_keep(name: str, state: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of a fitted model by the file they are kept in."""
    if not name.startswith("lite0"):
        return {name: {"words": state["words"]}}
    return {f"lite0-{part}": {key: state[f"{part}_{key}"] for key in ("mean", "axes")} for part in ("grid", "gem")}


if __name__ == "__main__":
    main()
