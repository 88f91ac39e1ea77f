"""Maps of a backbone that never learns, made a few photos at a time as trainings make them, beside
a whole batch through the network at once.

    python benchmarks/frozen_maps.py [--photos 96] [--rounds 5] [--size 320x256] [--json]

Photos are random numbers, weights too; one thread of a CPU, both ways by turns. Prints medians of
the milliseconds a photo takes, their ratio, and how far the maps lie apart at most, as a share of
their spread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from whence.models.backbones import make_backbone
from whence.runtime import set_threads
from whence.training.frozen import FrozenMaps


def main() -> None:
    """Time both ways."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="320x256", help="width and height of the photos")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    set_threads(1)
    width, height = map(int, given.size.split("x"))
    backbone = make_backbone("efficientnet_lite0_blocks10_12").eval()
    images = torch.randn(given.photos, 3, height, width)
    keys = [str(number) for number in range(given.photos)]
    spent: dict[str, list[float]] = {"few": [], "whole": []}
    gap = 0.0
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            maps = FrozenMaps(Path(folder), backbone, device=torch.device("cpu"), dtype=None)
            started = time.process_time()
            few = maps.features(keys, images).map
            spent["few"].append(time.process_time() - started)
        started = time.process_time()
        with torch.no_grad():
            whole = backbone(images).map
        spent["whole"].append(time.process_time() - started)
        gap = max(gap, float((few - whole).abs().max() / whole.std()))
    few_ms, whole_ms = (1000 * float(np.median(spent[way])) / given.photos for way in spent)
    found = {"few_ms": few_ms, "whole_ms": whole_ms, "ratio": whole_ms / few_ms, "gap": gap}
    print(
        json.dumps(found)
        if given.json
        else f"a few at a time {few_ms:.1f} ms a photo, the whole batch {whole_ms:.1f} ms, "
        f"{found['ratio']:.1f} times; apart by {gap:.1e} of their spread"
    )


if __name__ == "__main__":
    main()
