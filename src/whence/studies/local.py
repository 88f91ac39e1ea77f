"""Small local features for large maps (AsymLoc), hills as keypoints (MorseDet), features that come
along. The grid alone."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.local_arms import ALPHAS, CLASSIC, FEATURES, LIGHTS, NUM_POINTS, PAIRINGS, TIERS


def _grid(options: Settings) -> Sequence[Run]:
    """Sizes of networks; who asks whom; detectors; features in two lights."""
    runs = [_run("sizes", name) for name in TIERS]
    runs += [_run("pairings", name, points=500) for name in PAIRINGS]
    detectors = [*CLASSIC, *(f"alpha {alpha:g}" for alpha in ALPHAS), "patches"]
    detectors += ["alpha 10, by prominence", "patches, by prominence"]
    runs += [_run("detectors", name, points=points) for name in detectors for points in NUM_POINTS]
    return [
        *runs,
        *(_run("features", name, points=500, light=light) for name in FEATURES for light in LIGHTS),
    ]


def _run(part: str, arm: str, *, points: int = 0, light: str = "any") -> Run:
    return Run({"part": part, "arm": arm, "points": points, "light": light})


STUDIES = (
    Study(
        name="local",
        summary=(
            "local features: small students that ask a large teacher's map, hills as keypoints, "
            "the features that come along"
        ),
        protocol=(
            "Networks learn from views of {train}, the teacher {teacher_steps} steps, the others "
            "{steps}; {pairs} pairs of views of {data}, which nothing learned from, 320x240. "
            "sizes: multiplications at 224x224; ms of one thread at 320x240 through ONNX. "
            "pairings: the first view is the query's, the second the map's; accuracy is the share "
            "of matches within 3 px, averaged over pairs. detectors: repeatability within 3 px, "
            "mutual neighbours, between views and between a photo and itself resized. features: "
            "mean corner error of the homography; in another light both views are of photos taken "
            "from one point by day and not by day"
        ),
        options=(
            StudyOption(
                "train",
                "folder of photos to learn from, rendered ones with their cameras.csv",
                is_needed=True,
            ),
            StudyOption("data", "another such folder, to ask", is_needed=True),
            StudyOption("teacher_steps", "steps of the teacher", 600),
            StudyOption("steps", "steps of each student and detector", 400),
            StudyOption("pairs", "pairs of views", 40),
            StudyOption("weights", "file or folder with ALIKED's weights; empty for the cache's"),
        ),
        grid=_grid,
        measured_by="whence.studies.local_runs:measure_local",
        measures=(
            Measure("weights"),
            Measure("multiplications", "G"),
            Measure("time", "ms"),
            Measure("int8", "ms"),
            Measure("accuracy", "%"),
            Measure("within 1 px", "%"),
            Measure("within 3 px", "%"),
            Measure("within 5 px", "%"),
            Measure("matches"),
            Measure("repeated", "%"),
            Measure("repeated at 75 %", "%"),
            Measure("repeated at 50 %", "%"),
            Measure("spread", "%"),
        ),
        plot=Plot("arm", ("accuracy", "repeated"), by=("part", "points", "light")),
    ),
)
