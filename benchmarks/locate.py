"""How long one question takes, and where the time goes: median, 95th percentile and the share of
each stage.

    python benchmarks/locate.py [--quick] [--folder FOLDER]

A rendered city with 1,000 database photos of 1024x768, local descriptors kept in the database, 20
candidates per query, one thread for the numerical libraries. Stages are described where
`whence.types.Position.seconds` comes from.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import side_by_side

from whence.localize.localizer import Localizer
from whence.runtime import set_threads
from whence.settings import BuildOptions
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize


def main() -> None:
    """Render, index, ask, print."""
    parser = side_by_side.options(__doc__ or "")
    parser.add_argument(
        "--folder", help="where the city and its database are kept; a second run renders nothing"
    )
    arguments = parser.parse_args()
    num_database, num_queries = (60, 10) if arguments.quick else (1_000, 100)
    with tempfile.TemporaryDirectory() as made:
        root = Path(arguments.folder or made)
        size = CitySize("city00", "", num_database, num_queries, 0)
        render_world(
            root / "city",
            options=WorldOptions(capture=CaptureOptions(width=1024, height=768), cities=(size,)),
        )
        set_threads(1)
        started = time.perf_counter()
        options = BuildOptions(keep_local=True)
        with Localizer.build(
            root / "city" / "database", path=root / "city.whence", options=options
        ) as localizer:
            print(
                f"{num_database} photos of 1024x768 in the database, "
                f"{time.perf_counter() - started:.0f} s to make or find it"
            )
            queries = sorted((root / "city" / "queries").rglob("*.jpg"))
            report(localizer, queries, save_as=arguments.json)


def report(localizer: Localizer, queries: list[Path], *, save_as: str | None) -> None:
    """Ask every query alone, as a person would, and print the table."""
    localizer.locate(queries[0])
    totals, stages = [], []
    for query in queries:
        started = time.perf_counter()
        position = localizer.locate(query, k=20)
        totals.append(time.perf_counter() - started)
        stages.append(position.seconds)
    names = sorted({name for one in stages for name in one})
    times = {"whole": np.array(totals)} | {
        name: np.array([one.get(name, 0.0) for one in stages]) for name in names
    }
    print(f"{len(queries)} queries, 20 candidates each, milliseconds by the wall")
    print(f"  {'stage':<12}{'median':>10}{'95th percentile':>18}{'share of the whole':>21}")
    rows = {}
    for name, spent in times.items():
        median, high = 1e3 * float(np.median(spent)), 1e3 * float(np.percentile(spent, 95))
        share = float(spent.sum() / times["whole"].sum())
        rows[name] = {"median_ms": median, "p95_ms": high, "share": share}
        print(f"  {name:<12}{median:>10.1f}{high:>18.1f}{100 * share:>19.1f} %")
    if save_as:
        Path(save_as).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
