"""EarthLoc's and AstroLoc's parts, one at a time, on worlds of other seeds. Grids alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from whence.studies.arms import ASTROLOC, ASTROLOC_MAIN, EARTHLOC, EARTHLOC_MAIN
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption


def _grid(
    arms: Mapping[str, tuple[str, ...]], main: Sequence[str], options: Settings
) -> Sequence[Run]:
    runs = [Run({"arm": arm, "seed": 0}) for arm in arms]
    return [
        *runs,
        *(
            Run({"arm": arm, "seed": seed})
            for seed in range(1, int(options["seeds"]))
            for arm in main
        ),
    ]


def _earthloc(options: Settings) -> Sequence[Run]:
    return _grid(EARTHLOC, EARTHLOC_MAIN, options)


def _astroloc(options: Settings) -> Sequence[Run]:
    return _grid(ASTROLOC, ASTROLOC_MAIN, options)


_PROTOCOL = (
    "Every row is a training on {train} by {recipe} {changes}, asked the photos of {data}, of "
    "other seeds; right is a tile that overlaps. Rotations are of the database: stored and not "
    "merged as published, merged, asked by the query, or none. 95 % intervals in brackets; "
    "differences are paired with the first row of the same seed. A claim holds (1), fails (-1) or "
    "is open (0)"
)
_OPTIONS = (
    StudyOption("train", "an Earth world with several years, or EarthLoc's data", is_needed=True),
    StudyOption(
        "data", "an Earth world of other regions with photos, as its split test", is_needed=True
    ),
    StudyOption("changes", "changes of the recipe, apart by spaces, as loop.num_steps=300"),
    StudyOption("seeds", "trainings of the main contrasts", 3),
)
_MEASURES = (
    *(Measure(f"recall@{n}, stored", "%") for n in (1, 5, 10, 100)),
    *(Measure(f"recall@1, {way}", "%") for way in ("merged", "asked", "none")),
    Measure("lost without rotations", "%"),
    Measure("difference", "%"),
    Measure("claim"),
    Measure("training", "s"),
)
STUDIES = (
    Study(
        name="earthloc",
        summary=(
            "rotations against none; year-wise augmentation, neutral overlaps and groups of like "
            "tiles, each left out"
        ),
        protocol=_PROTOCOL,
        options=(*_OPTIONS, StudyOption("recipe", "recipe of a branch of tiles", "earthloc-small")),
        grid=_earthloc,
        measured_by="whence.studies.earth_runs:measure_earthloc",
        measures=_MEASURES,
        plot=Plot("arm", ("recall@1, stored",)),
    ),
    Study(
        name="astroloc",
        summary=(
            "photos with their tiles and tiles mined by photos, together and alone; groups "
            "weighted by photos, alike or random"
        ),
        protocol=_PROTOCOL + ". After the paper's description: no figure is AstroLoc's",
        options=(
            *_OPTIONS,
            StudyOption(
                "recipe", "recipe of pairs of photo and tile, and of tiles", "astroloc-small"
            ),
        ),
        grid=_astroloc,
        measured_by="whence.studies.earth_runs:measure_astroloc",
        measures=_MEASURES,
        plot=Plot("arm", ("recall@1, stored",)),
    ),
)
