"""Fit the calibrations that come with Whence, on rendered cities, and write them as JSON.

    python tools/fit_calibrations.py [--model rootsift-vlad] [--work FOLDER]
    python tools/fit_calibrations.py --model densevlad --num-cities 1
    python tools/fit_calibrations.py --matcher whence-local --num-cities 2 [--work FOLDER]
    python tools/fit_calibrations.py --scorer aliked-lightglue [--work FOLDER]

Rendered photos only, of seeds that no test or benchmark uses. Queries at covered streets and at
others ask as they are; photos of the database ask with everything near them left out. The least
confidence is set on the queries alone. Printed beside the calibration: how each seed fares with a
calibration fitted on the others, which is what choices are made by.

With `--scorer` the calibration is that of a second look, for whatever descriptor: queries that the
model and inliers leave unknown ask again over a shortlist. Half of them are taken to lie where the
database has photos, fewer than of all queries, and the least confidence lies above that of every
wrong candidate: who asks twice must not be fooled once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from whence.data.scan import scan_photos
from whence.evaluation.confidence import fit_calibration, reliability
from whence.evaluation.trials import (
    GENUINE_M,
    Trials,
    trials_of_database,
    trials_of_queries,
    trials_of_unknown,
)
from whence.localize.calibration_files import ANY_DESCRIPTOR, to_json, write_calibration
from whence.localize.localizer import Localizer
from whence.localize.prepare import prepare_photos
from whence.localize.rerank_options import RerankOptions
from whence.localize.unknown import NUM_AGAIN
from whence.localize.verify import FEATURES
from whence.runtime import atomic_write, set_threads
from whence.settings import BuildOptions
from whence.types import Calibration
from whence.worlds.capture import CaptureOptions
from whence.worlds.city import WorldOptions, render_world
from whence.worlds.presets import CitySize


class FitCity(NamedTuple):
    """A city to fit on."""

    seed: int
    width: int
    """Of its photos, in pixels."""
    num_database: int = 800
    num_queries: int = 160
    num_unknown: int = 60

    @property
    def name(self) -> str:
        return f"w{self.width}-{self.seed}"


FIT_CITIES = (
    *(FitCity(seed, 320) for seed in range(2001, 2006)),
    FitCity(2001, 640, 500, 120, 40),
)
USUAL = RerankOptions()
SECOND_LOOK_CITIES = FIT_CITIES[:3]
PRIOR_OF_UNKNOWN = 0.5
FOLDER = Path(__file__).parents[1] / "src" / "whence" / "localize" / "calibrations"


def render_city(work: Path, city: FitCity) -> Path:
    """The folder of a rendered city; made where it is not there yet."""
    root = work / city.name
    if not (root / "database").is_dir():
        sizes = CitySize("city00", "", city.num_database, city.num_queries, city.num_unknown)
        capture = CaptureOptions(width=city.width, height=3 * city.width // 4)
        options = WorldOptions(capture=capture, cities=(sizes,))
        render_world(root, seed=city.seed, options=options, num_workers=1, show_progress=False)
    return root


def open_city(
    work: Path, city: FitCity, *, model: str, options: RerankOptions = USUAL
) -> Localizer:
    """The database of a city, made with what the scorer needs where it is not there yet."""
    root = render_city(work, city)
    path = root / f"{model}.whence"
    Localizer.build(
        root / "database", path=path, options=BuildOptions(model=model), show_progress=False
    ).close()
    prepare_photos(path, options=options, show_progress=False)
    return Localizer.open(path)


def trials_of_city(
    work: Path, city: FitCity, *, model: str, options: RerankOptions = USUAL, name: str = ""
) -> tuple[Trials, Trials, Localizer]:
    """What a rendered city's queries and, with everything near left out, its database photos show
    when they ask; and its localizer.

    City and database are made where they are not there yet. `name` tells the trials of other
    options apart.
    """
    localizer = open_city(work, city, model=model, options=options)
    root = work / city.name
    kept = root / f"{model}{name}.{'-'.join(FEATURES)}.npz"
    if kept.is_file():
        asked, own = read_trials(kept, ("asked", "own"))
        return asked, own, localizer
    own = trials_of_database(localizer, options=options, max_photos=100, show_progress=False)
    folders = [
        scan_photos(root / folder, show_progress=False) for folder in ("queries", "queries_unknown")
    ]
    asked = Trials.joined(
        [
            trials_of_queries(localizer, photos, options=options, show_progress=False)
            for photos in folders
        ]
    )
    print(
        f"{root.name}: {len(asked.gaps_m)} queries, {asked.has_evidence.sum()} with evidence",
        flush=True,
    )
    own = own.select(~own.is_covered)
    write_trials(kept, {"asked": asked, "own": own})
    return asked, own, localizer


def second_trials_of_city(
    work: Path, city: FitCity, *, model: str, scorer: RerankOptions
) -> tuple[Trials, Localizer]:
    """What a city's unknown queries show when they ask again; and its localizer."""
    localizer = open_city(work, city, model=model)
    kept = work / city.name / f"{model}.{scorer.scorer}.{scorer.num_candidates}.npz"
    if not kept.is_file():
        folders = [
            scan_photos(work / city.name / name, show_progress=False)
            for name in ("queries_unknown", "queries")
        ]
        parts = [
            trials_of_unknown(localizer, photos, options=scorer, show_progress=False)
            for photos in folders
        ]
        write_trials(kept, {"asked": Trials.joined(parts)})
    (asked,) = read_trials(kept, ("asked",))
    num_right = int((asked.has_evidence & (asked.gaps_m <= GENUINE_M)).sum())
    print(
        f"{city.name}: {len(asked.gaps_m)} unknown, {num_right} with evidence for the right place",
        flush=True,
    )
    return asked, localizer


def write_trials(path: Path, parts: Mapping[str, Trials]) -> None:
    """Keep trials by name."""
    arrays: dict[str, Any] = {
        f"{part}{i}": column for part, trials in parts.items() for i, column in enumerate(trials)
    }
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def read_trials(path: Path, names: Sequence[str]) -> list[Trials]:
    """The trials of these names."""
    with np.load(path) as arrays:
        return [
            Trials(*(arrays[f"{name}{i}"] for i in range(len(Trials._fields)))) for name in names
        ]


def show_test(questions: Trials, calibration: Calibration, what: str) -> None:
    """Print how a calibration does on queries it was not fitted on."""
    for name, has_points in (("with coordinates", True), ("without", False)):
        weights = calibration.with_points if has_points else calibration.without_points
        confidences = questions.confidences(weights, has_points=has_points)
        answered = confidences >= (
            calibration.min_confidence if has_points else calibration.min_confidence_without_points
        )
        wrong = answered & (questions.gaps_m > GENUINE_M)
        radii_m = calibration.radius_factor * questions.scales_m[answered]
        error = reliability(confidences, questions.gaps_m <= GENUINE_M).calibration_error
        shown = (
            f"{(questions.errors_m[answered] <= radii_m).mean():.3f} inside the radius, median "
            f"radius {np.median(radii_m):.1f} m"
            if answered.any()
            else "none has a radius"
        )
        print(
            f"{what}, {name}: calibration error {error:.3f}; {answered.sum()} of {len(answered)} "
            f"answered, {wrong.sum()} wrongly; of {(~questions.is_covered).sum()} uncovered "
            f"{(answered & ~questions.is_covered).sum()} answered; {shown}",
            flush=True,
        )


def show_held_out(
    cities: Sequence[FitCity],
    parts: Sequence[tuple[Trials, Trials]],
    localizer: Localizer,
    options: RerankOptions = USUAL,
) -> None:
    """Print how the queries of each seed fare with a calibration fitted on the cities of the other
    seeds."""
    for seed in sorted({city.seed for city in cities}):
        others = [part for city, part in zip(cities, parts, strict=True) if city.seed != seed]
        if others:
            calibration = fit(others, localizer, source="", options=options)
            for city, (asked, _) in zip(cities, parts, strict=True):
                if city.seed == seed:
                    show_test(asked, calibration, f"{city.name}, fitted on the other seeds")


def fit_second_look(work: Path, *, model: str, scorer: str, cities: Sequence[FitCity]) -> None:
    """Fit and write the calibration of a second look with a scorer; print how each city fares with
    the one of the others."""
    options = RerankOptions(scorer, NUM_AGAIN)
    found = [second_trials_of_city(work, city, model=model, scorer=options) for city in cities]
    parts, localizer = [trials for trials, _ in found], found[-1][1]

    def fitted(trials: Sequence[Trials], source: str = "") -> Calibration:
        together = Trials.joined(list(trials))
        one = fit_calibration(
            together,
            localizer,
            options=options,
            source=source,
            prior=PRIOR_OF_UNKNOWN,
            max_false_answers=0.0,
        )
        return replace(one, key=replace(one.key, descriptor=ANY_DESCRIPTOR))

    names = ", ".join(f"{city.seed}, {city.width} px" for city in cities)
    calibration = fitted(
        parts,
        (
            f"queries that {model} and inliers leave unknown in rendered cities (seed, photo "
            f"width): {names}"
        ),
    )
    write_calibration(FOLDER / f"{scorer}.second-look.json", calibration)
    print(to_json(calibration), flush=True)
    for i, city in enumerate(cities):
        if others := [part for j, part in enumerate(parts) if j != i]:
            show_test(parts[i], fitted(others), f"{city.name}, fitted on the other seeds")


def fit(
    parts: Sequence[tuple[Trials, Trials]],
    localizer: Localizer,
    *,
    source: str,
    options: RerankOptions = USUAL,
) -> Calibration:
    """The calibration of cities' queries and database photos."""
    asked = Trials.joined([queries for queries, _ in parts])
    everything = Trials.joined([trials for part in parts for trials in part])
    return fit_calibration(everything, localizer, questions=asked, options=options, source=source)


def main() -> None:
    """Render, ask, fit, write, and show how each city does when it is held out."""
    parser = argparse.ArgumentParser(
        description="Fit the calibrations that come with Whence, on rendered cities."
    )
    parser.add_argument("--model", default=BuildOptions().model)
    parser.add_argument("--work", help="folder in which cities and databases are kept")
    parser.add_argument("--num-cities", type=int, help="fit on the first cities only")
    parser.add_argument(
        "--scorer", help="fit the calibration of a second look with this scorer instead"
    )
    parser.add_argument(
        "--matcher", help="fit the calibration of inliers with this matcher, as whence-local"
    )
    arguments = parser.parse_args()
    cities = (FIT_CITIES if arguments.scorer is None else SECOND_LOOK_CITIES)[
        : arguments.num_cities
    ]
    set_threads(1)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        if arguments.scorer is not None:
            fit_second_look(
                Path(arguments.work or made),
                model=arguments.model,
                scorer=arguments.scorer,
                cities=cities,
            )
            return
        parts = []
        options = (
            RerankOptions()
            if arguments.matcher is None
            else RerankOptions(scorer_options={"matcher": arguments.matcher})
        )
        name = "" if arguments.matcher is None else f"-{arguments.matcher}"
        for city in cities:
            asked, impostors, localizer = trials_of_city(
                Path(arguments.work or made),
                city,
                model=arguments.model,
                options=options,
                name=name,
            )
            parts.append((asked, impostors))
        source = "rendered cities (seed, photo width): " + ", ".join(
            f"{city.seed}, {city.width} px" for city in cities
        )
        calibration = fit(parts, localizer, source=source, options=options)
        write_calibration(FOLDER / f"{arguments.model}.inliers{name}.json", calibration)
        print(to_json(calibration), flush=True)
        show_held_out(cities, parts, localizer, options)


if __name__ == "__main__":
    main()
