"""Renders what `whence-local` was trained on, and what it was chosen on.

    python tools/render_local_photos.py FOLDER [--photos FOLDER]

Training: six rendered cities of seed 31, 40 to 170 views each, every view by day and, from the same
point, in one other light or weather (night, snow, dusk, rain, overcast, fog). With `--photos`, the
folder skimage/data of the package scikit-image 0.26, also ten crops of each of eight photos in it
that are in the public domain or CC0. Validation: two more rendered cities. Their seeds are of no
test city, and no city uses the styles kept for tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from whence.runtime import atomic_write, random_stream
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

SEED = 31
TRAIN = {"night": 170, "snow": 140, "dusk": 90, "rain": 80, "overcast": 80, "fog": 40}
VALIDATION = {"night": 30, "snow": 30}
SIZE_PX = (400, 300)
PHOTOS = (
    "astronaut.png",
    "brick.png",
    "chelsea.png",
    "coffee.png",
    "grass.png",
    "gravel.png",
    "rocket.jpg",
    "motorcycle_left.png",
)
NUM_CROPS = 10


def render(folder: Path, conditions: dict[str, int], *, first_city: int, split: str) -> None:
    """One city a condition, each view twice."""
    for number, (condition, views) in enumerate(conditions.items()):
        capture = CaptureOptions(width=SIZE_PX[0], height=SIZE_PX[1], conditions={condition: 1.0})
        cities = (CitySize(f"city{first_city + number}", split, views, 0, 0),)
        options = WorldOptions(cities=cities, capture=capture)
        done = render_world(
            folder / condition,
            seed=SEED,
            options=options,
            layout="pairs",
            num_workers=1,
            show_progress=False,
        )
        print(
            f"{done.path}: {done.num_database + done.num_queries} photos, {done.seconds:.0f} s",
            flush=True,
        )


def crop_photos(source: Path, folder: Path) -> None:
    """Crops of photos, of every size that is at least as large as what is kept, half of them
    mirrored."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = SIZE_PX
    for number, name in enumerate(PHOTOS):
        photo = cv2.imread(str(source / name), cv2.IMREAD_COLOR)
        for crop in range(NUM_CROPS):
            random = random_stream(SEED, number, crop)
            most = min(photo.shape[1] / width, photo.shape[0] / height)
            scale = float(np.exp(random.uniform(np.log(min(0.6, most)), np.log(most))))
            wide, high = round(scale * width), round(scale * height)
            left, top = (
                int(random.integers(0, side - part + 1))
                for side, part in ((photo.shape[1], wide), (photo.shape[0], high))
            )
            cut = cv2.resize(
                photo[top : top + high, left : left + wide], SIZE_PX, interpolation=cv2.INTER_AREA
            )
            cut = cut[:, ::-1] if random.random() < 0.5 else cut
            with atomic_write(folder / f"{Path(name).stem}-{crop}.png") as file:
                file.write(cv2.imencode(".png", np.ascontiguousarray(cut))[1].tobytes())


def main() -> None:
    """Render, and crop where there are photos."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--photos", type=Path, help="folder skimage/data of the package scikit-image"
    )
    given = parser.parse_args()
    render(given.folder / "train", TRAIN, first_city=40, split="train")
    render(given.folder / "val", VALIDATION, first_city=60, split="val")
    if given.photos is not None:
        crop_photos(given.photos, given.folder / "train" / "photos")


if __name__ == "__main__":
    main()
