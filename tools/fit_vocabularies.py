"""Fit the vocabularies that come with Whence, on rendered streets of several cities, and write them with their card.

    python tools/fit_vocabularies.py

Rendered photos only: no photo of anybody goes into the package. The same command gives the same vocabularies on one machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from whence.data.scan import scan_photos
from whence.models.descriptor import load_model
from whence.runtime import atomic_write
from whence.worlds.city import render_world

SEEDS = (1001, 1002, 1003)
NUM_PHOTOS_PER_CITY = 150
FOLDER = Path(__file__).parents[1] / "src" / "whence" / "models" / "vocabularies"


def main() -> None:
    """Render, fit, write."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        files = []
        for seed in SEEDS:
            city = Path(made) / str(seed)
            render_world(city, preset="small", seed=seed)
            # Database and queries, so that night, rain and snow have their say in the words.
            photos = scan_photos(city)
            rows = np.linspace(0, len(photos) - 1, NUM_PHOTOS_PER_CITY).round().astype(int)
            files += [photos.file(int(row)) for row in rows]
        for name in ("rootsift-vlad", "densevlad"):
            model = load_model(name)
            model.fit(files, seed=0)
            with atomic_write(FOLDER / f"{name}.npz") as file:
                np.savez(file, words=model.descriptor.state()["words"].astype(np.float16))
            print(f"{name}: 64 words from {len(files)} rendered photos of cities {SEEDS}")


if __name__ == "__main__":
    main()
