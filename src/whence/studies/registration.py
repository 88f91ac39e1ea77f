"""The study of registration: what settings of the protocol do to the error, by matcher and kind of
pair. The grid alone."""

from __future__ import annotations

from whence.studies.frame import Measure, Plot, Study, StudyOption
from whence.studies.registration_settings import list_settings

REGISTRATION = Study(
    name="registration",
    summary=(
        "tiled registration by matcher and setting of the protocol: error by affine maps and "
        "homographies, worst over best"
    ),
    protocol=(
        "{data}: pairs with tie points, {normalisation}, residuals up to {threshold} px, the same "
        "matches for both geometries and all inlier gates. Mean: over pairs, failed ones left out, "
        "in pixels as matched; of file: in those of the fixed file; median: failed ones infinite; "
        "within: of all points, failed pairs missed. Max side 0 is the file's own, tile 0 the "
        "whole image. Worst over best: largest mean over the smallest, of settings that fail for "
        "at most half. Time: CPU of matching, one thread"
    ),
    options=(
        StudyOption(
            "data",
            (
                "a folder of pairs with tie points, as `whence evaluate --protocol registration` "
                "takes it"
            ),
            is_needed=True,
        ),
        StudyOption(
            "matchers",
            "matchers, apart by spaces; NAME:turned for pairs that are turned",
            "orientation rootsift-mnn orb-mnn",
        ),
        StudyOption(
            "kinds",
            "kinds of pairs (their folders or cases), apart by spaces; nothing: all together",
        ),
        StudyOption(
            "sides", "longest sides in pixels, apart by spaces; 0 for the files' own", "1024 2048"
        ),
        StudyOption("tiles", "sides of tiles, apart by spaces; 0 for none", "512"),
        StudyOption("overlaps", "overlaps of tiles in pixels", "128 256"),
        StudyOption("inliers", "inliers that a tile needs", "4 8"),
        StudyOption("normalisation", "of the brightness", "percentile"),
        StudyOption("threshold", "largest residual of an inlier in pixels", 3.0),
        StudyOption("pairs", "pairs of each kind that are looked at, the first ones; 0 for all", 0),
        StudyOption("weights", "folder of the weights that matchers need"),
    ),
    grid=list_settings,
    measured_by="whence.studies.registration_runs:measure_registration",
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
