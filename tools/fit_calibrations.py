"""Fit the calibrations that come with Whence, on rendered cities, and write them as JSON.

    python tools/fit_calibrations.py [--model rootsift-vlad] [--work FOLDER]
    python tools/fit_calibrations.py --model densevlad --num-cities 1

Rendered photos only, of seeds that no test or benchmark uses. Queries at covered streets and at others ask as they are; photos of
the database ask with everything near them left out. Printed beside each calibration: how it does on a city it was not fitted on.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from whence.data.scan import scan_photos
from whence.evaluation.confidence import (
    GENUINE_M,
    Trials,
    fit_calibration,
    reliability,
    trials_of_database,
    trials_of_queries,
)
from whence.localize.localizer import Localizer
from whence.localize.verify import to_json
from whence.runtime import atomic_write, set_threads
from whence.settings import BuildOptions
from whence.types import Calibration
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world

FIT_CITIES = ((2001, 320), (2001, 640), (2002, 320), (2003, 320))
"""Seed of a city and width of its photos in pixels."""
TEST_CITIES = ((2004, 320),)
FOLDER = Path(__file__).parents[1] / "src" / "whence" / "localize" / "calibrations"


def trials_of_world(work: Path, *, seed: int, width: int, model: str) -> tuple[Trials, Trials, Localizer]:
    """What a rendered city's queries and, with everything near left out, its database photos show when they ask; and its localizer.

    City and database are made where they are not there yet.
    """
    root = work / f"w{width}-{seed}"
    options = WorldOptions(capture=CaptureOptions(width=width, height=3 * width // 4))
    if not (root / f"{model}.whence").is_dir():
        render_world(root, preset="small", seed=seed, options=options, num_workers=1, show_progress=False)
    build = BuildOptions(model=model, keep_local=True)
    localizer = Localizer.build(root / "database", path=root / f"{model}.whence", options=build, show_progress=False)
    kept = root / f"{model}.trials.npz"
    if kept.is_file():
        with np.load(kept) as arrays:
            asked, own = (Trials(*(arrays[f"{part}{i}"] for i in range(7))) for part in ("asked", "own"))
        return asked, own, localizer
    own = trials_of_database(localizer, max_photos=100, show_progress=False)
    folders = [scan_photos(root / folder, show_progress=False) for folder in ("queries", "queries_unknown")]
    asked = Trials.joined([trials_of_queries(localizer, photos, show_progress=False) for photos in folders])
    print(f"{root.name}: {len(asked.gaps_m)} queries, {asked.has_evidence.sum()} with evidence", flush=True)
    own = own.select(~own.is_covered)
    parts = {f"{part}{i}": column for part, trials in (("asked", asked), ("own", own)) for i, column in enumerate(trials)}
    with atomic_write(kept) as file:
        np.savez(file, **parts)
    return asked, own, localizer


def show_test(asked: Trials, calibration: Calibration, what: str) -> None:
    """Print how a calibration does on queries it was not fitted on."""
    for name, has_points in (("with coordinates", True), ("without", False)):
        weights = calibration.with_points if has_points else calibration.without_points
        confidences = asked.confidences(weights, has_points=has_points)
        answered = confidences >= (calibration.min_confidence if has_points else calibration.min_confidence_without_points)
        wrong = answered & (asked.gaps_m > GENUINE_M)
        radii_m = calibration.radius_factor * asked.scales_m[answered]
        error = reliability(confidences, asked.gaps_m <= GENUINE_M).calibration_error
        inside = (asked.errors_m[answered] <= radii_m).mean()
        print(
            f"{what}, {name}: calibration error {error:.3f}; "
            f"{answered.sum()} of {len(answered)} answered, {wrong.sum()} wrongly; of {(~asked.is_covered).sum()} uncovered "
            f"{(answered & ~asked.is_covered).sum()} answered; {inside:.3f} inside the radius, "
            f"median radius {np.median(radii_m):.1f} m",
            flush=True,
        )


def main() -> None:
    """Render, ask, fit, write, and show how it does on another city."""
    arguments = argparse.ArgumentParser(description="Fit the calibrations that come with Whence, on rendered cities.")
    arguments.add_argument("--model", default="rootsift-vlad")
    arguments.add_argument("--work", help="folder in which cities and databases are kept")
    arguments.add_argument("--num-cities", type=int, default=len(FIT_CITIES), help="fit on the first cities only")
    given = arguments.parse_args()
    cities = FIT_CITIES[: given.num_cities]
    set_threads(1)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        work = Path(given.work or made)
        parts: list[Trials] = []
        for seed, width in cities:
            asked, impostors, localizer = trials_of_world(work, seed=seed, width=width, model=given.model)
            parts += [asked, impostors]
        source = "rendered cities (seed, photo width): " + ", ".join(f"{seed}, {width} px" for seed, width in cities)
        calibration = fit_calibration(Trials.joined(parts), localizer, source=source)
        with atomic_write(FOLDER / f"{given.model}.inliers.json", "w") as file:
            file.write(to_json(calibration) + "\n")
        print(to_json(calibration), flush=True)
        for seed, width in TEST_CITIES:
            asked, _, _ = trials_of_world(work, seed=seed, width=width, model=given.model)
            show_test(asked, calibration, f"seed {seed}, {width} px")


if __name__ == "__main__":
    main()
