"""A worldwide index of tiles on paper and by simulation: bytes, build time and milliseconds a
query, by precision and rotations.

    python benchmarks/worldwide_tiles.py --dim 512 --measured 100000
    python benchmarks/worldwide_tiles.py --real ASTRONAUT_PHOTOS --world EARTH_WORLD [MORE]

On paper: 1.2 million tiles x 4 rotations x D at float32, float16 and int8. By simulation: made-up
unit descriptors of as many tiles as are asked for, searched at each precision; time and memory grow
with their number. With --real: photos beside their real surroundings (folders with query.jpg and
surrounding.jpg; whole, quarters and middle are a tile each), hidden among all tiles of worlds: the
rank of the first of a photo's own six.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

from whence.data.images import load_image
from whence.index.flat import FlatIndex
from whence.index.int8 import Int8Index
from whence.models.descriptor import load_model
from whence.runtime import set_threads

TILES = 1_200_000
BYTES = {"float32": 4, "float16": 2, "int8": 1}
NUM_QUERIES = 20


def on_paper(dim: int) -> None:
    print(f"{TILES:,} tiles of {dim} dimensions, GB of descriptors alone")
    print(f"{'precision':10} {'one rotation, the query turned':>32} {'four stored':>14}")
    for name, size in BYTES.items():
        one = TILES * dim * size / 1e9
        print(f"{name:10} {one:>32.2f} {4 * one:>14.2f}")


def by_simulation(dim: int, num: int) -> None:
    random = np.random.default_rng(0)
    rows = np.empty((num, dim), np.float32)
    for start in range(0, num, 10_000):
        part = random.standard_normal((min(10_000, num - start), dim), dtype=np.float32)
        rows[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    # Queries turned four ways: one of the four is a noisy copy of a tile.
    asked = random.standard_normal((NUM_QUERIES, 4, dim)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=2, keepdims=True)
    right = random.integers(num, size=NUM_QUERIES)
    asked[:, 1] = rows[right] + 0.5 * asked[:, 1]
    asked /= np.linalg.norm(asked, axis=2, keepdims=True)
    print(
        f"\nmeasured with {num:,} tiles, one core, {NUM_QUERIES} queries turned four ways; scaled "
        f"to {TILES:,} in brackets"
    )
    print(f"{'precision':10} {'build s':>16} {'ms a query':>20} {'recall@1':>9} {'GB':>14}")
    for name in BYTES:
        started = time.perf_counter()
        if name == "int8":
            index = Int8Index.over(rows)
            size = rows.size
        else:
            matrix = rows if name == "float32" else rows.astype(np.float16)
            index, size = FlatIndex.over(matrix), matrix.nbytes
        built = time.perf_counter() - started
        started, hits = time.perf_counter(), 0
        for query, tile in zip(asked, right, strict=True):
            found = [index.search(view[None], k=10) for view in query]
            best = max(found, key=lambda one: float(one.similarities[0, 0]))
            hits += int(best.ids[0, 0]) == tile
        spent = 1e3 * (time.perf_counter() - started) / NUM_QUERIES
        scale = TILES / num
        print(
            f"{name:10} {built:>7.2f} ({built * scale:>6.1f}) {spent:>9.1f} "
            f"({spent * scale:>8.0f}) {hits / NUM_QUERIES:>9.2f} "
            f"{size / 1e9:>5.2f} ({size * scale / 1e9:>5.2f})"
        )
    print(
        "peak memory of this process: "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
    )


def parts_of(picture: np.ndarray) -> list[np.ndarray]:
    """A picture whole, its four quarters and its middle."""
    height, width = (side // 2 for side in picture.shape[:2])
    corners = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 2)]
    cuts = [picture[top : top + height, left : left + width] for top, left in corners]
    return [picture, *(np.ascontiguousarray(cut) for cut in cuts)]


def real_photos(folder: Path, worlds: list[Path], model_name: str, most: int) -> None:
    model = load_model(model_name)
    tiles = [
        file
        for world in worlds
        for file in sorted(world.rglob("*.jpg"))
        if "database" in file.parts
    ]
    files = [tiles[row] for row in np.linspace(0, len(tiles) - 1, min(most, len(tiles)), dtype=int)]
    model.prepare(files)
    found = sorted(path.parent for path in folder.glob("*/query.jpg"))
    parts = [parts_of(load_image(path / "surrounding.jpg")) for path in found]
    real = [part for own in parts for part in own]
    own_photo = np.repeat(np.arange(len(found)), [len(own) for own in parts])
    database = np.concatenate([model.describe(files), model.describe(real)])
    print(
        f"\n{len(found)} photos, {len(real)} tiles of their real surroundings hidden among "
        f"{len(files)} rendered tiles; {model_name}"
    )
    for number, path in enumerate(found):
        photo = load_image(path / "query.jpg")
        asked = model.describe([np.ascontiguousarray(np.rot90(photo, turn)) for turn in range(4)])
        similarity = (database @ asked.T).max(axis=1)
        order = np.argsort(-similarity, kind="stable")
        place = np.empty(len(order), int)
        place[order] = np.arange(1, len(order) + 1)
        ranks = place[len(files) :]
        print(
            f"{path.name:20} rank {ranks[own_photo == number].min():>6} of {len(database)}; of "
            f"the other real ones the first is at {ranks[own_photo != number].min()}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--measured", type=int, default=100_000, help="tiles of the simulation")
    parser.add_argument("--real", type=Path, help="folder of photos with their surroundings")
    parser.add_argument(
        "--world", type=Path, nargs="+", help="worlds whose tiles they are hidden among"
    )
    parser.add_argument("--model", default="whence-lite0-words-960")
    parser.add_argument("--most", type=int, default=5000, help="tiles that they are hidden among")
    options = parser.parse_args()
    set_threads(1)
    if options.real is not None and options.world is not None:
        real_photos(options.real, options.world, options.model, options.most)
        return
    on_paper(options.dim)
    by_simulation(options.dim, options.measured)


if __name__ == "__main__":
    main()
