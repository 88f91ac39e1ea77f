"""EarthMatch's fair comparison of matchers: each at its own threshold for 99.9 %. The grid
alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from whence.studies.arms import OVERLAPS, ROUNDS
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption


def _grid(options: Settings) -> Sequence[Run]:
    return [
        Run({"matcher": matcher, "loop": loop})
        for matcher in str(options["matchers"]).split()
        for loop in str(options["loops"]).split()
    ]


EARTHMATCH = Study(
    name="earthmatch",
    summary=(
        "photos from orbit co-registered by matcher, each at its own threshold: located, wrong "
        "candidates, time"
    ),
    protocol=(
        "{data}: each photo against three tiles that it overlaps, the most alike one and some down "
        "to the least, and seven others drawn alike for all matchers; {rounds} rounds at {side} px "
        "with {keypoints} keypoints. Right is a footprint that, enlarged three times, holds the "
        "photo's middle. Threshold: inliers of the last round from which a candidate is right with "
        "99.9 %, fitted without the photo that is judged (five folds), the median. Corners off: of "
        "right candidates, mean, as a share of the photo's side. Time: CPU of one candidate, one "
        "thread"
    ),
    options=(
        StudyOption(
            "data",
            "an Earth world with photos, as its split test, or EarthLoc's data",
            is_needed=True,
        ),
        StudyOption(
            "matchers",
            "matchers, apart by spaces",
            "rootsift-mnn orb-mnn aliked-lightglue disk-lightglue orientation",
        ),
        StudyOption("loops", "ours, published, or both", "ours"),
        StudyOption("photos", "photos that are looked at, the first ones; 0 for all", 0),
        StudyOption("side", "pixels along the square that photos are brought to", 512),
        StudyOption("rounds", "rounds of each co-registration", 4),
        StudyOption("keypoints", "keypoints of an image", 2048),
        StudyOption("weights", "folder of the weights that matchers need"),
    ),
    grid=_grid,
    measured_by="whence.studies.earthmatch_runs:measure_earthmatch",
    measures=(
        Measure("threshold", "inliers"),
        Measure("located", "%"),
        Measure("located and right", "%"),
        Measure("wrong accepted"),
        Measure("wrong without threshold"),
        Measure("wrong candidates"),
        Measure("corners off", "%"),
        Measure("overlap", "%"),
        Measure("time", "ms"),
        Measure("photos"),
        *(
            Measure(f"{what}, round {number}", "%")
            for what in ("corners off", "overlap")
            for number in ROUNDS
        ),
        *(
            Measure(f"right, first overlap {low:g} to {high:g}", "%")
            for low, high in pairwise(OVERLAPS)
        ),
    ),
    plot=Plot("time", ("located and right",), by=("loop",)),
)
STUDIES = (EARTHMATCH,)
