"""Is a world neither trivial nor impossible, and for the right reasons? Renders test cities,
searches them, and prints tables.

    python benchmarks/world_quality.py --seed 0 --cities 3

Protocol: RootSIFT-VLAD (64 words, fitted on the city's database), exact search in each city on its
own, every query counts. A query is found at N where one of the first N photos was taken within the
radius of it, whatever its heading.
"""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from side_by_side import options as benchmark_options

from whence.geo import heading_difference_deg
from whence.models.descriptor import load_model
from whence.worlds.capture import CaptureOptions, shot_camera
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.photographer import Photographer
from whence.worlds.presets import CitySize, WorldSpec
from whence.worlds.shards import city_works
from whence.worlds.views import visible_fronts

NS, RADII_M = (1, 5, 10, 20), (10, 25, 50)


class Table(NamedTuple):
    """The columns of cameras.csv that the measures need."""

    path: np.ndarray
    city: np.ndarray
    role: np.ndarray
    condition: np.ndarray
    street: np.ndarray
    is_aliased: np.ndarray
    place: np.ndarray
    lateral_m: np.ndarray
    heading_deg: np.ndarray


def read_table(path: Path) -> Table:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    rotation = np.array(
        [[[float(row[f"r{i}{j}"]) for j in range(3)] for i in range(3)] for row in rows]
    )
    translation = np.array([[float(row[f"t{i}"]) for i in range(3)] for row in rows])
    place = -np.einsum("nji,nj->ni", rotation, translation)[:, :2]
    return Table(
        column["path"],
        column["city"],
        column["role"],
        column["condition"],
        column["street"].astype(int),
        column["is_aliased"] == "1",
        place,
        column["lateral_m"].astype(float),
        column["heading_deg"].astype(float),
    )


class Found(NamedTuple):
    """Per query: rank of the first positive by radius (Q, radii), and what made it hard."""

    rank: np.ndarray
    shift_m: np.ndarray
    yaw_deg: np.ndarray
    condition: np.ndarray
    is_aliased: np.ndarray
    street: np.ndarray


def search(out: Path, table: Table, *, model_name: str) -> Found:
    """Describe and search every city."""
    parts = []
    for city in np.unique(table.city):
        database = np.flatnonzero((table.city == city) & (table.role == "database"))
        queries = np.flatnonzero((table.city == city) & (table.role == "queries"))
        model = load_model(model_name)
        model.prepare([out / path for path in table.path[database]])
        stored = model.describe([out / path for path in table.path[database]])
        asked = model.describe([out / path for path in table.path[queries]])
        order = np.argsort(-(asked @ stored.T), axis=1, kind="stable")
        gap = table.place[queries][:, None] - table.place[database][None]
        distance = np.hypot(gap[..., 0], gap[..., 1])
        sorted_distance = np.take_along_axis(distance, order, axis=1)
        rank = np.stack([_first(sorted_distance <= radius) for radius in RADII_M], axis=1)
        nearest = np.where(
            table.street[queries][:, None] == table.street[database][None], distance, np.inf
        ).argmin(axis=1)
        shift = np.abs(table.lateral_m[queries] - table.lateral_m[database][nearest])
        turn = heading_difference_deg(
            table.heading_deg[queries][:, None], table.heading_deg[database][None]
        )
        yaw = np.where(distance <= np.maximum(12.0, distance.min(axis=1))[:, None], turn, 180).min(
            axis=1
        )
        street = np.char.add(city, table.street[queries].astype(str))
        parts.append(
            Found(rank, shift, yaw, table.condition[queries], table.is_aliased[queries], street)
        )
    return Found(*(np.concatenate([part[k] for part in parts]) for k in range(len(Found._fields))))


def _first(hits: np.ndarray) -> np.ndarray:
    """Rank of the first hit by row (1 for the best), a million where there is none."""
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 1_000_000)


def recall(rank: np.ndarray, n: int) -> float:
    return 100 * float((rank <= n).mean()) if len(rank) else float("nan")


def interval(ranking: Found, n: int, *, rounds: int = 400) -> float:
    """Standard error of recall@n at 25 m in points, by drawing streets anew."""
    random = np.random.default_rng(0)
    names, member = np.unique(ranking.street, return_inverse=True)
    hits = np.bincount(member, ranking.rank[:, 1] <= n)
    sizes = np.bincount(member)
    draws = random.integers(0, len(names), (rounds, len(names)))
    return 100 * float((hits[draws].sum(axis=1) / sizes[draws].sum(axis=1)).std())


def show(ranking: Found) -> dict[str, object]:
    print(
        f"\nrecall@N, {len(ranking.rank)} queries (standard error by street "
        f"{interval(ranking, 1):.1f} points at 25 m)"
    )
    print("  radius   " + "".join(f"R@{n:<6}" for n in NS))
    results: dict[str, object] = {}
    for k, radius in enumerate(RADII_M):
        values = [recall(ranking.rank[:, k], n) for n in NS]
        results[f"{radius}m"] = values
        print(f"  {radius:>4} m   " + "".join(f"{value:<8.1f}" for value in values))
    by_bins = {
        "sideways shift (m)": [
            (f"{a}-{b}", (ranking.shift_m >= a) & (ranking.shift_m < b))
            for a, b in ((0, 5), (5, 10), (10, 16))
        ],
        "yaw to the nearest photo (deg)": [
            (f"{a}-{b}", (ranking.yaw_deg >= a) & (ranking.yaw_deg < b))
            for a, b in ((0, 15), (15, 30), (30, 41))
        ],
        "condition": [(name, ranking.condition == name) for name in sorted(set(ranking.condition))],
        "street": [("distinct", ~ranking.is_aliased), ("aliased", ranking.is_aliased)],
    }
    for title, bins in by_bins.items():
        print(f"\n{title:<34}{'queries':>8}{'R@1':>8}{'R@5':>8}{'R@20':>8}   at 25 m")
        for name, rows in bins:
            values = [recall(ranking.rank[rows, 1], n) for n in (1, 5, 20)]
            results[f"{title}: {name}"] = [int(rows.sum()), *values]
            print(
                f"  {name:<32}{int(rows.sum()):>8}" + "".join(f"{value:>8.1f}" for value in values)
            )
    return results


def share_seen(spec: WorldSpec) -> float:
    """Share of queries with a database photo within 10 m that sees one of the same fronts."""
    has_view = []
    for work in city_works(spec):
        scene = Photographer(
            work.plan, work.shots.runs, options=spec.capture, px_per_m=8, cache_bytes=10**7
        ).scene
        shots = work.shots.shots
        database = [shot for shot in shots if shot.role == "database"]
        place = np.array([(shot.x_m, shot.y_m) for shot in database])
        views: dict[int, set[int]] = {}
        for shot in shots:
            if shot.role == "queries":
                own = set(
                    visible_fronts(
                        scene, shot_camera(shot, seed=work.plan.seed, options=spec.capture)
                    )
                )
                near = np.flatnonzero(
                    np.hypot(place[:, 0] - shot.x_m, place[:, 1] - shot.y_m) <= 10
                )
                for k in near:
                    if k not in views:
                        views[k] = set(
                            visible_fronts(
                                scene,
                                shot_camera(database[k], seed=work.plan.seed, options=spec.capture),
                            )
                        )
                has_view.append(any(own & views[k] for k in near))
    return 100 * float(np.mean(has_view))


def share_off_plane(spec: WorldSpec, *, num_queries: int = 60) -> float:
    """Median share of a query's pixels that do not lie on its largest plane; the ground is one
    plane, the sky counts as off."""
    shares = []
    for work in list(city_works(spec))[:1]:
        photographer = Photographer(
            work.plan,
            work.shots.runs,
            options=work.capture,
            px_per_m=spec.px_per_m,
            cache_bytes=3 * 10**8,
        )
        queries = [shot for shot in work.shots.shots if shot.role == "queries"]
        for shot in queries[:: max(1, len(queries) // num_queries)]:
            raster = photographer.take(shot)[1]
            planes = np.array(
                [
                    0,
                    *(
                        1 if info.normal == (0.0, 0.0, 1.0) else k + 2
                        for k, info in enumerate(raster.infos)
                    ),
                ]
            )
            counts = np.bincount(planes[raster.ids].ravel())[1:]
            shares.append(1 - counts.max() / raster.ids.size)
    low, middle = 100 * np.quantile(shares, (0.1, 0.5))
    print(
        f"pixels off the largest plane: median {middle:.0f} %, tenth percentile {low:.0f} % (bar: "
        "30 %)"
    )
    return 100 * float(np.median(shares))


def list_test_cities(num: int, *, is_quick: bool) -> tuple[CitySize, ...]:
    """The cities that descriptors are compared on: 2,000 database photos and 500 queries each, in
    the styles kept for tests."""
    size = (600, 150) if is_quick else (2000, 500)
    return tuple(CitySize(f"city{20 + k:02d}", "test", *size, 0, True) for k in range(num))


def measure(
    name: str, options: WorldOptions, *, folder: Path, seed: int, model_name: str
) -> dict[str, object]:
    """Render one world, search it, print its tables."""
    out = folder / name
    summary = render_world(out, seed=seed, options=options)
    print(f"\n=== {name}: {summary.num_rendered} photos rendered in {summary.seconds:.0f} s ===")
    found = search(out, read_table(out / "cameras.csv"), model_name=model_name)
    return show(found)


def main() -> None:
    parser = benchmark_options(__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cities", type=int, default=3, help="test cities (default 3, as in the preset `city`)"
    )
    parser.add_argument("--model", default="rootsift-vlad")
    parser.add_argument("--folder", help="keep the photos here (and use those that are there)")
    args = parser.parse_args()
    cities = list_test_cities(args.cities, is_quick=args.quick)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        results = {
            "test": measure(
                "test",
                WorldOptions(cities=cities),
                folder=folder,
                seed=args.seed,
                model_name=args.model,
            )
        }
        spec = WorldSpec.from_json((folder / "test" / "world.json").read_text())
        results["share_seen"] = {"percent": share_seen(spec)}
        print(
            "\nqueries with a database photo within 10 m that sees the same front: "
            f"{results['share_seen']['percent']:.1f} %"
        )
        results["share_off_plane"] = {"percent": share_off_plane(spec)}
        clean = CaptureOptions(
            conditions={"day": 1.0}, max_shift_share=0.1, max_yaw_deg=5.0, is_clean=True
        )
        results["clean"] = measure(
            "clean",
            WorldOptions(cities=cities[:1], capture=clean),
            folder=folder,
            seed=args.seed,
            model_name=args.model,
        )
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
