"""SegVPR's question: what attention and segmentation bring across weathers, and what the attention
looks at. The grid alone."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.arms import MODES, NUM_SEEDS, SEMANTIC, WATCHED
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption


def _grid(options: Settings) -> Sequence[Run]:
    """All arms, seed after seed; then the two with attention in the other modes of pooling."""
    runs = [
        Run({"arm": arm, "mode": MODES[0], "seed": seed})
        for seed in range(NUM_SEEDS)
        for arm in SEMANTIC
    ]
    return runs + [
        Run({"arm": arm, "mode": mode, "seed": 0})
        for mode in MODES[1:]
        for arm in ("neither", "attention", "both")
    ]


STUDIES = (
    Study(
        name="semantic",
        summary=(
            "SegVPR: attention and segmentation, each alone, both and neither, across weathers, "
            "and what is looked at"
        ),
        protocol=(
            "Every row is a training by {recipe} {changes} on {train}, at equal steps and photos; "
            "asked is the town of {test}, its queries of all weathers, right within 25 m. The "
            "difference is to neither, paired query by query, of the same seed and mode. Attention "
            "is the mean over pixels of a class, over the mean of the photo: above 1 a class "
            "counts more. The claim holds (1) where buildings are above 1 and sky, vehicles and "
            "people below, else fails (-1); no class is named in the training of places. 95 % "
            "intervals in brackets. The paper's own tables could not be had"
        ),
        options=(
            StudyOption("train", "world in the layout labelled", is_needed=True),
            StudyOption("test", "another world in the layout labelled", is_needed=True),
            StudyOption(
                "target",
                "folder of photos of another style, for the opponent; without it there is none",
            ),
            StudyOption("recipe", "recipe that learns from labelled photos", "segvpr-small"),
            StudyOption("changes", "changes of the recipe, apart by spaces, as loop.num_steps=300"),
        ),
        grid=_grid,
        measured_by="whence.studies.semantic_runs:measure_semantic",
        measures=(
            Measure("recall@1", "%"),
            Measure("worst weather", "%"),
            Measure("difference", "%"),
            *(Measure(f"attention, {name}") for name in WATCHED),
            Measure("claim"),
            Measure("training", "s"),
        ),
        plot=Plot("arm", ("recall@1", "worst weather"), by=("mode",)),
    ),
)
