"""The project's own network against the descriptors that need no training, retrieval alone: on test
cities, and on small real sets.

    WHENCE_TEST_DATA=FOLDER python benchmarks/descriptors.py --seed 0 --cities 3 [--folder FOLDER]
                                                             [--models A,B] [--only night]

Rendered: the cities of `world_quality.py`, each searched on its own, every query counts; a query is
found at N where one of its first N photos was taken within the radius, whatever its heading.
Intervals (95 %) draw streets anew; differences are paired, query by query. The network has seen
other cities with other seeds and none of the styles kept for tests. Real: listed positives, two
frames; intervals by Wilson. Without WHENCE_TEST_DATA the real sets are left out.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from side_by_side import options as benchmark_options
from world_quality import NS, RADII_M, Found, list_test_cities, read_table, search

from whence.data.formats import read_frames, read_pairs
from whence.evaluation.benchmarks import evaluate
from whence.evaluation.metrics import bootstrap_interval
from whence.registry import get_card
from whence.runtime import atomic_write, set_threads
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world

MODELS = ("whence-resnet18conv4-gem-256", "rootsift-vlad", "densevlad")


def bins_of(ranking: Found) -> dict[str, np.ndarray]:
    """What the queries are told apart by: name of the bin to a mask (Q,)."""
    bins = {"all": np.ones(len(ranking.rank), bool)}
    bins |= {name: ranking.condition == name for name in sorted(set(ranking.condition))}
    bins |= {
        f"turned {a}-{b} deg": (ranking.yaw_deg >= a) & (ranking.yaw_deg < b)
        for a, b in ((0, 15), (15, 30), (30, 41))
    }
    bins |= {
        f"shifted {a}-{b} m": (ranking.shift_m >= a) & (ranking.shift_m < b)
        for a, b in ((0, 5), (5, 10), (10, 16))
    }
    return bins | {"distinct streets": ~ranking.is_aliased, "aliased streets": ranking.is_aliased}


def share(hits: np.ndarray, streets: np.ndarray) -> list[float]:
    """Percent, and the ends of its interval."""
    low, high = bootstrap_interval(hits, groups=streets)
    return [100 * float(np.mean(hits)), 100 * low, 100 * high]


def found_or_search(out: Path, *, model_name: str) -> Found:
    """The ranks that a model gives, kept beside the photos: a run that was stopped goes on with the
    next model."""
    file = out / f"{get_card(model_name).card_id}.npz"
    if file.is_file():
        with np.load(file) as kept:
            return Found(**kept)
    started = time.perf_counter()
    found = search(out, read_table(out / "cameras.csv"), model_name=model_name)
    print(f"\n{model_name}: {time.perf_counter() - started:.0f} s", flush=True)
    with atomic_write(file) as kept_file:
        np.savez(kept_file, **found._asdict())
    return found


def show_recalls(name: str, ranking: Found) -> dict[str, object]:
    """Print recall@N by radius."""
    results: dict[str, object] = {}
    for k, radius in enumerate(RADII_M):
        values = results[f"{radius} m"] = [
            share(ranking.rank[:, k] <= n, ranking.street) for n in NS
        ]
        shown = "".join(f"{value[0]:>8.1f}" for value in values)
        print(f"{name:<32}{radius:>6} m{shown}   {values[0][1]:.1f}-{values[0][2]:.1f}", flush=True)
    return results


def show_bins(rankings: Mapping[str, Found]) -> dict[str, object]:
    """Print recall@1 at 25 m by bins, and how far the first model lies above the others."""
    first = next(iter(rankings.values()))
    results: dict[str, object] = {}
    print(
        "\nrecall@1 at 25 m by bins, and in points (95 %) how far the first model lies above the "
        "others"
    )
    print(f"{'':<20}{'queries':>8}" + "".join(f"{name:>30}" for name in rankings))
    for title, rows in bins_of(first).items():
        cells, record = [], {}
        for name, one in rankings.items():
            hits, streets = one.rank[rows, 1] <= 1, one.street[rows]
            value, low, high = record[name] = share(hits, streets)
            text = f"{value:.1f} [{low:.0f}-{high:.0f}]"
            if one is not first:
                gap = record[f"first above {name}"] = share(
                    (first.rank[rows, 1] <= 1) * 1.0 - hits, streets
                )
                text += f" {gap[0]:+.1f} [{gap[1]:+.0f} {gap[2]:+.0f}]"
            cells.append(f"{text:>30}")
        results[title] = {"queries": int(rows.sum()), **record}
        print(f"{title:<20}{int(rows.sum()):>8}" + "".join(cells))
    return results


def measure_real(folder: Path, models: Sequence[str]) -> dict[str, object]:
    """Print recalls on the sets that are there."""
    sets = {
        "Stockholm": read_pairs(folder / "stockholm-buildings" / "positives.csv"),
        "Gardens Point": read_frames(folder / "gardens-point-thumbs", tolerance_frames=2),
    }
    print(
        f"\n=== real ===\n\n{'set':<16}{'model':<32}{'queries':>8}"
        + "".join(f"{f'R@{n}':>8}" for n in NS)
        + "   R@1 95 %"
    )
    results: dict[str, object] = {}
    for title, data in sets.items():
        for name in models:
            recalls = evaluate(name, data, show_progress=False).thresholds[0].all_queries
            results[f"{title}, {name}"] = [
                [one.num_right, one.num_queries, one.low, one.high] for one in recalls
            ]
            shown = "".join(f"{100 * one.value:>8.1f}" for one in recalls)
            low, high = 100 * recalls[0].low, 100 * recalls[0].high
            print(f"{title:<16}{name:<32}{recalls[0].num_queries:>8}{shown}   {low:.0f}-{high:.0f}")
    return results


def main() -> None:
    """Render or find the cities, describe, search, print."""
    parser = benchmark_options(__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--cities", type=int, default=3, help="test cities (default 3, as in the preset `city`)"
    )
    parser.add_argument(
        "--models",
        default=",".join(MODELS),
        help="names, joined by commas; the first is compared with the others",
    )
    parser.add_argument(
        "--only", metavar="CONDITION", help="every query is taken under it: night, fog, snow, ..."
    )
    parser.add_argument("--folder", help="keep the photos here (and use those that are there)")
    args = parser.parse_args()
    set_threads(1)
    models = args.models.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(args.folder or temporary) / (f"test-{args.only}" if args.only else "test")
        capture = CaptureOptions(conditions={args.only: 1.0}) if args.only else CaptureOptions()
        cities = list_test_cities(args.cities, is_quick=args.quick)
        render_world(out, seed=args.seed, options=WorldOptions(cities=cities, capture=capture))
        print(
            f"\n=== rendered ===\n\n{'model':<32}{'radius':>8}"
            + "".join(f"{f'R@{n}':>8}" for n in NS)
            + "   R@1 95 %"
        )
        found, recalls = {}, {}
        for name in models:
            found[name] = found_or_search(out, model_name=name)
            recalls[name] = show_recalls(name, found[name])
        results: dict[str, object] = {"rendered": recalls, "bins": show_bins(found)}
    if (real := os.environ.get("WHENCE_TEST_DATA")) and not args.only:
        results["real"] = measure_real(Path(real), models)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
