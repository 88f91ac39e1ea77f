"""Classes and groups of photos, and places, against the loops over photos that published code runs.

    python benchmarks/places.py                          # 5 million photos, ours and loops
    python benchmarks/places.py --rows 40000000 --ours   # ours alone, with the memory it takes
    python benchmarks/places.py --rows 40000000 --names  # the same from a list of names

Positions are drawn along streets of a city, with headings. The loops are the usual way: a
dictionary of lists by cell, filled photo by photo, then a dictionary of groups; from names, every
name of a list is split at its "@" before. What an epoch needs is the classes of its group. Places
of a training set with place numbers (as GSV-Cities has them) are grouped alike.
"""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from side_by_side import compare, options, save

from whence.data.partition import CellOptions, Partition, make_partition
from whence.data.placed_files import read_placed_files
from whence.evaluation.cost import PeakMemory
from whence.lists import group_rows, select_runs
from whence.runtime import set_threads

OPTIONS = CellOptions()
MIN_VIEWS = 4


def draw_city(num_rows: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """East, north and heading (N,) of photos along the streets of a grid, twelve at a stop."""
    random = np.random.default_rng(seed)
    num_stops = -(-num_rows // 12)
    side_m = 120.0 * np.sqrt(num_stops / 200)
    street = random.integers(0, max(1, int(side_m / 120)), num_stops) * 120.0
    along = random.uniform(0, side_m, num_stops)
    is_north = random.random(num_stops) < 0.5
    east = np.where(is_north, street + random.normal(0, 2, num_stops), along) + 545_000
    north = np.where(is_north, along, street + random.normal(0, 2, num_stops)) + 4_178_000
    heading = (random.uniform(0, 360, num_stops)[:, None] + 30 * np.arange(12)) % 360
    return (
        np.repeat(east, 12)[:num_rows],
        np.repeat(north, 12)[:num_rows],
        heading.ravel()[:num_rows],
    )


def loop_over_photos(
    east: list[float], north: list[float], heading: list[float]
) -> dict[tuple, list[tuple]]:
    """Classes and groups, one photo after another."""
    m, a, n, turned = 10, 30, OPTIONS.num_apart, OPTIONS.num_turned
    held = defaultdict(list)
    for row, (e, no, h) in enumerate(zip(east, north, heading, strict=True)):
        held[int(e // m * m), int(no // m * m), int(h // a * a)].append(row)
    held = {cell: rows for cell, rows in held.items() if len(rows) >= OPTIONS.min_photos}
    groups = defaultdict(list)
    for cell in held:
        groups[cell[0] % (m * n) // m, cell[1] % (m * n) // m, cell[2] % (a * turned) // a].append(
            cell
        )
    return groups


def write_names(
    folder: Path, columns: tuple[np.ndarray, np.ndarray, np.ndarray], *, times: int = 1
) -> Path:
    """A list of names as SF-XL's, in a folder; so many times one after the other."""
    rest = "@037.70098@-122.49646@kPnABhWJ1kA61eMNPLs1vQ@@"
    path = folder / "database_images_paths.txt"
    rows = zip(*(column.tolist() for column in columns), strict=True)
    lines = "".join(
        f"@{east:010.2f}@{north:010.2f}@10@S{rest}{int(heading):03d}@@@@201606@@.jpg\n"
        for east, north, heading in rows
    )
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(times):
            file.write(lines)
    return path


def show_names(num_rows: int) -> None:
    """Time and memory of reading and cutting a list of so many names: a million of them, again and
    again."""
    with TemporaryDirectory() as folder:
        path = write_names(Path(folder), draw_city(1_000_000), times=max(1, num_rows // 1_000_000))
        memory, started = PeakMemory(), time.process_time()
        columns_of_names(path)
        spent, most = time.process_time() - started, memory.peak_bytes()
        print(f"names: {num_rows:,} in {spent:.2f} CPU s, {most / 1e9:.2f} GB at most in all")


def loop_over_names(path: Path) -> dict[tuple, list[tuple]]:
    """Classes and groups of the names of a list, split one after another."""
    fields = [line.split("@") for line in path.read_text(encoding="utf-8").splitlines()]
    return loop_over_photos(*([float(field[k]) for field in fields] for k in (1, 2, 9)))


def columns_of_names(path: Path) -> Partition:
    """The same by columns."""
    found = read_placed_files(path.with_name("database"))
    return make_partition(found.east_m, found.north_m, found.heading_deg, zone=found.zone)


def loop_over_places(place: list[int]) -> dict[int, list[int]]:
    """Rows of places with photos enough, one photo after another."""
    held = defaultdict(list)
    for row, number in enumerate(place):
        held[number].append(row)
    return {number: rows for number, rows in held.items() if len(rows) >= MIN_VIEWS}


def main() -> None:
    """Compare, or measure ours alone."""
    parser = options("Classes, groups and places against loops")
    parser.add_argument("--rows", type=int, default=5_000_000, help="photos (default 5 million)")
    parser.add_argument(
        "--names",
        action="store_true",
        help="ours alone, once, from a list of names, with time and memory",
    )
    parser.add_argument(
        "--ours", action="store_true", help="ours alone, once, with time and memory"
    )
    arguments = parser.parse_args()
    num_rows = 50_000 if arguments.quick else arguments.rows
    set_threads(1)
    if arguments.names:
        show_names(num_rows)
        return
    east, north, heading = draw_city(num_rows)
    place = np.random.default_rng(1).integers(0, max(1, num_rows // 8), num_rows)
    if arguments.ours:
        for what, way in (
            ("classes and groups", lambda: make_partition(east, north, heading)),
            ("places", lambda: group_rows(place)),
        ):
            memory, started = PeakMemory(), time.process_time()
            held = memory.peak_bytes()
            way()
            spent, most = time.process_time() - started, memory.peak_bytes()
            print(
                f"{what}: {num_rows:,} photos in {spent:.2f} CPU s, {(most - held) / 1e6:,.0f} MB "
                "above the columns"
            )
        return
    columns = [column.tolist() for column in (east, north, heading)]
    numbers = place.tolist()
    sizes = {}

    def by_photo() -> None:
        sizes["loop"] = sorted(map(len, loop_over_photos(*columns).values()))

    def by_column() -> None:
        sizes["columns"] = sorted(make_partition(east, north, heading).groups.counts.tolist())

    title = f"classes and groups of {num_rows:,} photos"
    ways = {"loop over photos": by_photo, "columns": by_column}
    tables = {
        title: compare(
            title, ways, peer="loop over photos", items=num_rows, rounds=arguments.rounds
        )
    }
    assert sizes["loop"] == sizes["columns"], "the same classes in the same groups"
    print(f"  {sum(sizes['columns']):,} classes in {len(sizes['columns'])} groups")
    with TemporaryDirectory() as folder:
        names = write_names(Path(folder), (east, north, heading))
        title = f"classes and groups of {num_rows:,} names"
        ways = {
            "loop over names": lambda: loop_over_names(names),
            "columns": lambda: columns_of_names(names),
        }
        tables[title] = compare(
            title, ways, peer="loop over names", items=num_rows, rounds=arguments.rounds
        )
        found = columns_of_names(names)
    started = time.perf_counter()
    runs = select_runs(found.photos, found.groups.of(0))
    print(
        f"  what an epoch needs of its group, {len(runs.counts):,} classes: "
        f"{1e3 * (time.perf_counter() - started):.2f} ms"
    )
    title = f"places of {num_rows:,} photos by their numbers"
    tables[title] = compare(
        title,
        {
            "loop over photos": lambda: loop_over_places(numbers),
            "columns": lambda: group_rows(place),
        },
        peer="loop over photos",
        items=num_rows,
        rounds=arguments.rounds,
    )
    save(arguments.json, tables)


if __name__ == "__main__":
    main()
