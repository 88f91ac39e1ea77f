"""The study of registration: what settings of the protocol do to the error, by matcher and kind of pair. The grid alone."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Cell, Measure, Plot, Settings, Study, StudyOption

SUMMARIES = ("mean of affine", "mean of homography", "all settings")
"""In place of a geometry: what the settings of one matcher and kind come to together."""
ALL_KINDS = "all"


def _grid(options: Settings) -> Sequence[Cell]:
    def numbers(name: str) -> list[int]:
        return [int(text) for text in str(options[name]).split()]

    cells = []
    for matcher in str(options["matchers"]).split():
        for kind in str(options["kinds"]).split() or [ALL_KINDS]:
            for side in numbers("sides"):
                for tile in numbers("tiles"):
                    for overlap in numbers("overlaps") if tile else [0]:
                        if overlap >= tile > 0:
                            continue
                        for geometry in ("affine", "homography"):
                            for least in numbers("inliers"):
                                about = {"max side": side, "tile": tile, "overlap": overlap, "geometry": geometry}
                                cells.append(Cell({"matcher": matcher, "kind": kind, **about, "inliers": least}))
            for summary in SUMMARIES:
                cells.append(Cell({"matcher": matcher, "kind": kind, "geometry": summary}))
    return cells


REGISTRATION = Study(
    name="registration",
    summary="tiled registration by matcher and setting of the protocol: error by affine maps and homographies, worst over best",
    protocol=(
        "{data}: pairs with tie points, {normalisation}, residuals up to {threshold} px, the same matches for both geometries "
        "and all inlier gates. Mean: over pairs, failed ones left out, in pixels as matched; of file: in those of the fixed "
        "file; median: failed ones infinite; within: of all points, failed pairs missed. Max side 0 is the file's own, tile 0 "
        "the whole image. Worst over best: largest mean over the smallest, of settings that fail for at most half. Time: CPU "
        "of matching, one thread"
    ),
    options=(
        StudyOption("data", "a folder of pairs with tie points, as `whence evaluate --registration` takes it", is_needed=True),
        StudyOption(
            "matchers", "matchers, apart by spaces; NAME:turned for pairs that are turned", "orientation rootsift-mnn orb-mnn"
        ),
        StudyOption("kinds", "kinds of pairs (their folders or cases), apart by spaces; nothing: all together"),
        StudyOption("sides", "longest sides in pixels, apart by spaces; 0 for the files' own", "1024 2048"),
        StudyOption("tiles", "sides of tiles, apart by spaces; 0 for none", "512"),
        StudyOption("overlaps", "overlaps of tiles in pixels", "128 256"),
        StudyOption("inliers", "inliers that a tile needs", "4 8"),
        StudyOption("normalisation", "of the brightness", "percentile"),
        StudyOption("threshold", "largest residual of an inlier in pixels", 3.0),
        StudyOption("pairs", "pairs of each kind that are looked at, the first ones; 0 for all", 0),
        StudyOption("weights", "folder of the weights that matchers need"),
    ),
    grid=_grid,
    measured_by="whence.studies.registration_cells:measure_registration",
    measures=(
        Measure("mean", "px"),
        Measure("of file", "px"),
        Measure("median", "px"),
        Measure("failed", "%"),
        Measure("within 5", "%"),
        Measure("within 10", "%"),
        Measure("worst over best"),
        Measure("time", "s"),
        Measure("pairs"),
    ),
    plot=Plot("overlap", ("mean",), by=("matcher", "kind", "geometry")),
)
STUDIES = (REGISTRATION,)
