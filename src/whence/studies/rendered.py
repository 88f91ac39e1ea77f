"""MeshVPR's question: what an aligned copy brings where the database is rendered from a mesh of an
unseen city. The grid alone."""

from __future__ import annotations

from collections.abc import Sequence

from whence.errors import BadOption
from whence.studies.arms import (
    COPY,
    COPY_TWICE,
    MESH,
    NUM_SEEDS,
    PHOTOS,
    PLAIN_MODEL,
    other_renders,
)
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption


def _grid(options: Settings) -> Sequence[Run]:
    """A database of photos, one of renders, and that with copies aligned on more and more pairs;
    then other renders."""
    counts = pair_counts(options)
    runs = [
        Run({"database": database, "model": PLAIN_MODEL, "pairs": 0, "seed": 0})
        for database in (PHOTOS, MESH)
    ]
    runs += [Run({"database": MESH, "model": COPY, "pairs": count, "seed": 0}) for count in counts]
    runs += [
        Run({"database": MESH, "model": COPY, "pairs": counts[-1], "seed": seed})
        for seed in range(1, NUM_SEEDS)
    ]
    runs.append(Run({"database": MESH, "model": COPY_TWICE, "pairs": counts[-1], "seed": 0}))
    for name in other_renders(options):
        for model, count in ((PLAIN_MODEL, 0), (COPY, counts[-1])):
            runs.append(
                Run({"database": f"{MESH}, {name}", "model": model, "pairs": count, "seed": 0})
            )
    return runs


def pair_counts(options: Settings) -> list[int]:
    """How many pairs copies are aligned on. Raises `BadOption`."""
    try:
        found = sorted({int(part) for part in str(options["pairs"]).split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1:
        raise BadOption(
            f"pairs={options['pairs']}: write counts with commas between them, as 100,1000,10000"
        )
    return found


_RECALLS = ("recall@1, 25 m", "recall@1, 100 m", "recall@5, 100 m")
STUDIES = (
    Study(
        name="mesh",
        summary=(
            "MeshVPR: a mesh in place of photos, with and without an aligned copy, pairs from a "
            "hundred to thousands"
        ),
        protocol=(
            "Photos of {data} (split test, cities that nothing was aligned on) ask a database of "
            "photos, or of renders of the same views. Copies are trained by {recipe} {changes} on "
            "pairs of its split train. The difference is to renders described by the model as it "
            "is, paired query by query; recovered is its share of the gap between renders and "
            "photos, and the claim that half of it is recovered holds (1) or fails (-1). 95 % "
            "intervals in brackets"
        ),
        options=(
            StudyOption(
                "data", "world in the layout mesh, with the splits train and test", is_needed=True
            ),
            StudyOption("recipe", "recipe whose learner is an aligned copy", "meshvpr-small"),
            StudyOption("changes", "changes of the recipe, apart by spaces, as loop.num_steps=300"),
            StudyOption(
                "pairs", "how many pairs are learned from, with commas between", "100,1000,10000"
            ),
            StudyOption(
                "renders",
                (
                    "other renders of the test views, as low=FOLDER,high=FOLDER (whence world "
                    "mesh --poses)"
                ),
            ),
        ),
        grid=_grid,
        measured_by="whence.studies.mesh_runs:measure_mesh",
        measures=(
            *(Measure(name, "%") for name in _RECALLS),
            *(
                Measure(f"{what}, {radius} m", "%")
                for radius in (25, 100)
                for what in ("difference", "recovered")
            ),
            Measure("cosine"),
            Measure("claim"),
            Measure("training", "s"),
        ),
        plot=Plot("pairs", _RECALLS, by=("database", "model")),
    ),
)
