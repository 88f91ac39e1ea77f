"""Renders the cities that `whence-resnet18conv4-gem-256` was trained on, and the one it was chosen
on.

    python tools/render_training_cities.py FOLDER

Six training cities with twice as many queries as database photos, taken in all conditions and more
often in the hard ones, so that each view has been seen by day and by night, from the side and
turned; one validation city as in the preset `city`. Their seeds (7000 to 7005, 7030) are not those
of the test cities of `benchmarks/world_quality.py` (20 to 22), and no city uses the styles kept for
tests.
"""

from __future__ import annotations

import argparse

from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

SEED = 7
CONDITIONS = {
    "day": 0.22,
    "overcast": 0.11,
    "dusk": 0.11,
    "night": 0.15,
    "fog": 0.08,
    "rain": 0.09,
    "snow": 0.12,
    "occluded": 0.07,
    "rotated": 0.05,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--cities", type=int, default=6, help="training cities (default 6)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    val = (CitySize("city30", "val", 2000, 500, 0),)
    train = tuple(CitySize(f"city{k:02d}", "train", 1200, 1800, 0) for k in range(args.cities))
    for name, options in {
        "val": WorldOptions(cities=val),
        "train": WorldOptions(cities=train, capture=CaptureOptions(conditions=CONDITIONS)),
    }.items():
        done = render_world(
            f"{args.folder}/{name}", seed=SEED, options=options, num_workers=args.workers
        )
        print(
            f"{done.path}: {done.num_database} database photos, {done.num_queries} queries, "
            f"{done.seconds:.0f} s"
        )


if __name__ == "__main__":
    main()
