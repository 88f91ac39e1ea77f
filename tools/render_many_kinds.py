"""Renders what the recipe `whence-lite0-many` learns from, and worlds to ask it on.

    python tools/render_many_kinds.py FOLDER

Training: two cities of seed 47 in all conditions (as those of `whence-lite0-448`, fewer),
landmarks in the layout of MegaScenes, rooms in that of ScanNet. To ask: streets, landmarks and
rooms of another city, each with questions. No seed is a test city's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from render_training_cities import CONDITIONS

from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

SEED = 47
LAYOUTS = {"street": "folders", "landmarks": "revisited", "indoor": "scannet"}
"""Layouts of the worlds that are asked."""


def main() -> None:
    """Render, world by world; what was stopped goes on."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    given = parser.parse_args()
    streets = tuple(CitySize(f"city{k:02d}", "train", 1200, 1800, 0) for k in range(2))
    scenes = (CitySize("city08", "", 2400, 600, 0),)
    worlds = {
        "streets": (
            "folders",
            WorldOptions(cities=streets, capture=CaptureOptions(conditions=CONDITIONS)),
        ),
        "megascenes": ("megascenes", WorldOptions(cities=scenes)),
        "scannet": ("scannet", WorldOptions(cities=scenes)),
        **{
            f"val-{kind}": (layout, WorldOptions(cities=(CitySize("city30", "", 600, 200, 0),)))
            for kind, layout in LAYOUTS.items()
        },
    }
    for name, (layout, options) in worlds.items():
        done = render_world(
            given.folder / name,
            seed=SEED,
            options=options,
            layout=layout,
            num_workers=given.workers,
            show_progress=False,
        )
        print(
            f"{done.path}: {done.num_database + done.num_queries} photos, {done.seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
