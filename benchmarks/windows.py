"""The index of windows and their positives, against the published way, and alone as the set grows.

    # ours and the usual way at 4,000 frames, checked to be the same
    python benchmarks/windows.py
    python benchmarks/windows.py --growth        # ours alone at 1e5 and 1e6 frames, with memory

Half of the frames are a database's, half queries', in drives of 200 frames about 4 m apart along
the same streets; windows have five frames; positives lie within 10 m, what is no negative within 25
m. The usual way is the published one, written anew from its description: for every query window it
asks of each database window whether it holds one of the frames that are near.
"""

from __future__ import annotations

import time

import numpy as np
from side_by_side import compare, options, save

from whence.data.windows import cut_windows, positives_of_windows
from whence.evaluation.cost import PeakMemory
from whence.geo import neighbors_within
from whence.lists import NeighborLists
from whence.runtime import set_threads

LENGTH, DRIVE, SPACING_M = 5, 200, 4.0
RADII_M = (10.0, 25.0)


def drives(num: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drive, number and metres (N, 2) of frames; drives lie 100 m apart, and one number in a
    hundred is missing."""
    random = np.random.default_rng(seed)
    rows = np.arange(num)
    drive, along = rows // DRIVE, rows % DRIVE
    metres = np.stack(
        [along * SPACING_M + random.normal(0, 1, num), drive * 100.0 + random.normal(0, 1, num)],
        axis=1,
    )
    return drive, along + np.cumsum(random.random(num) < 0.01), metres


def build(num: int) -> list[NeighborLists]:
    """Windows of both sides, and the lists within each radius."""
    sides = [drives(num // 2, seed=seed) for seed in (0, 1)]
    windows = [cut_windows(drive, number, length=LENGTH) for drive, number, _ in sides]
    found = []
    for radius_m in RADII_M:
        near = neighbors_within(sides[0][2], sides[1][2], radius_m=radius_m)
        found.append(positives_of_windows(near, windows[0], windows[1], num_frames=num // 2))
    return found


def build_slowly(num: int) -> list[NeighborLists]:
    """The same by looking for near frames in every window."""
    sides = [drives(num // 2, seed=seed) for seed in (0, 1)]
    windows = []
    for drive, number, _ in sides:
        cut = []
        for one in np.unique(drive):
            rows = np.flatnonzero(drive == one)
            for start in range(len(rows) - LENGTH + 1):
                window = rows[start : start + LENGTH]
                if (np.diff(number[window]) == 1).all():
                    cut.append(window)
        windows.append(np.array(cut))
    found = []
    for radius_m in RADII_M:
        near = neighbors_within(sides[0][2], sides[1][2], radius_m=radius_m)
        lists = []
        for window in windows[1]:
            frames = np.unique(np.concatenate([near.of(row) for row in window]))
            lists.append(np.flatnonzero(np.isin(windows[0], frames).any(axis=1)))
        found.append(
            NeighborLists(
                np.concatenate([[0], np.cumsum([len(one) for one in lists])]), np.concatenate(lists)
            )
        )
    return found


def main() -> None:
    """Compare, or grow."""
    parser = options("Windows and positives, ours and the published way")
    parser.add_argument(
        "--growth", action="store_true", help="ours alone at two sizes, once each, with memory"
    )
    arguments = parser.parse_args()
    set_threads(1)
    if arguments.growth:
        for num in (10_000,) if arguments.quick else (100_000, 1_000_000):
            memory, started, wall = PeakMemory(), time.process_time(), time.perf_counter()
            before = memory.peak_bytes()
            found = build(num)
            spent, most = time.process_time() - started, memory.peak_bytes()
            print(
                f"{num:,} frames: {len(found[0].counts):,} query windows, "
                f"{len(found[0].members):,} positives, {len(found[1].members):,} within "
                f"{RADII_M[1]:g} m: {spent:.1f} CPU s ({time.perf_counter() - wall:.1f} s), "
                f"{(most - before) / 1e6:,.0f} MB above {before / 1e6:,.0f} MB"
            )
        return
    num = 1000 if arguments.quick else 4000
    ours, theirs = build(num), build_slowly(num)
    assert all(
        np.array_equal(a, b)
        for one, two in zip(ours, theirs, strict=True)
        for a, b in zip(one, two, strict=True)
    )
    title = f"windows and positives of {num:,} frames"
    ways = {"window by window": lambda: build_slowly(num), "inverted": lambda: build(num)}
    save(
        arguments.json,
        {title: compare(title, ways, peer="window by window", items=num, rounds=arguments.rounds)},
    )


if __name__ == "__main__":
    main()
