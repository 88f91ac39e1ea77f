"""Can an answer be believed? Rendered test cities: how many queries are answered, how often the truth lies inside the radius, how
many photos of streets the database does not cover stay unknown, and how well the confidence is calibrated.

    python benchmarks/confidence.py --seed 0 --cities 3 [--folder FOLDER] [--quick]

Each city: 2,000 database photos, 500 queries in all conditions, 100 photos of uncovered streets; the packaged calibration was
fitted on cities of other seeds. Every city is printed when it is done, the sum last.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import side_by_side

from whence.data.scan import scan_photos
from whence.evaluation.confidence import reliability
from whence.geo import distance_m
from whence.localize.localizer import Localizer
from whence.runtime import set_threads
from whence.settings import BuildOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize

RIGHT_WITHIN_M = 25.0


@dataclass
class Tally:
    """What was counted; sums over cities are made by adding the lists."""

    errors_m: list[float] = field(default_factory=list)
    radii_m: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    is_right: list[bool] = field(default_factory=list)
    num_queries: int = 0
    num_uncovered: int = 0
    num_uncovered_unknown: int = 0

    def add(self, other: Tally) -> None:
        """Add another city's counts."""
        for name in ("errors_m", "radii_m", "confidences", "is_right"):
            getattr(self, name).extend(getattr(other, name))
        self.num_queries += other.num_queries
        self.num_uncovered += other.num_uncovered
        self.num_uncovered_unknown += other.num_uncovered_unknown

    def summary(self) -> dict[str, float]:
        """The figures."""
        errors, radii = np.array(self.errors_m), np.array(self.radii_m)
        error = reliability(np.array(self.confidences), np.array(self.is_right, bool)).calibration_error
        return {
            "queries": self.num_queries,
            "located": len(errors),
            "located within 25 m": int((errors <= RIGHT_WITHIN_M).sum()),
            "inside the radius": int((errors <= radii).sum()),
            "share inside the radius": round(float((errors <= radii).mean()), 4) if len(errors) else float("nan"),
            "median radius m": round(float(np.median(radii)), 1) if len(radii) else float("nan"),
            "uncovered": self.num_uncovered,
            "uncovered that stay unknown": self.num_uncovered_unknown,
            "expected calibration error": round(error, 4),
        }


def ask(localizer: Localizer, folder: Path, *, is_covered: bool) -> Tally:
    """Locate every photo of a folder and compare with the truth in its name."""
    photos, tally = scan_photos(folder), Tally()
    answers = localizer.locate_many([photos.file(row) for row in range(len(photos))], show_progress=False)
    for photo, answer in zip(photos, answers, strict=True):
        guess = answer.candidates[0] if answer.candidates else None
        near = guess is not None and guess.point is not None and photo.point is not None
        # The confidence is that of the first candidate showing the place, whether or not it is enough for an answer.
        is_right = bool(near and distance_m(guess.point, photo.point) <= 2 * RIGHT_WITHIN_M) and is_covered
        tally.confidences.append(answer.confidence or 0.0)
        tally.is_right.append(is_right)
        if not is_covered:
            tally.num_uncovered += 1
            tally.num_uncovered_unknown += answer.status == "unknown"
            continue
        tally.num_queries += 1
        if answer.point is not None and photo.point is not None and answer.status == "located":
            tally.errors_m.append(distance_m(answer.point, photo.point))
            tally.radii_m.append(answer.radius_m or 0.0)
    return tally


def main() -> None:
    """Render, index, ask, print."""
    parser = side_by_side.options(__doc__ or "")
    parser.add_argument("--seed", type=int, default=0, help="seed of the world (default 0)")
    parser.add_argument("--cities", type=int, default=3, help="test cities (default 3)")
    parser.add_argument("--folder", help="where cities and databases are kept; a second run renders nothing")
    arguments = parser.parse_args()
    sizes = (120, 40, 12) if arguments.quick else (2_000, 500, 100)
    total = Tally()
    with tempfile.TemporaryDirectory() as made:
        for number in range(20, 20 + arguments.cities):
            root = Path(arguments.folder or made) / f"city{number}"
            city = CitySize(f"city{number}", "test", *sizes, True)
            render_world(root / "world", seed=arguments.seed, options=WorldOptions(cities=(city,)))
            set_threads(1)
            options = BuildOptions(keep_local=True)
            database = root / "world" / "test" / "database"
            with Localizer.build(database, path=root / "city.whence", options=options, show_progress=False) as localizer:
                set_threads(1)
                tally = ask(localizer, root / "world" / "test" / "queries", is_covered=True)
                tally.add(ask(localizer, root / "world" / "test" / "queries_unknown", is_covered=False))
            total.add(tally)
            print(f"city{number}: " + ", ".join(f"{value} {what}" for what, value in tally.summary().items()), flush=True)
    print("all: " + ", ".join(f"{value} {what}" for what, value in total.summary().items()))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(total.summary(), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
