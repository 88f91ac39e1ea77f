"""Sequences: descriptors of the taxonomy and sequence matching, by length, order, speed and share
of the training's drives."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.sequence_arms import (
    ARMS,
    ASIDE,
    FIXED_LENGTH,
    JOINT,
    JOINT_LENGTHS,
    ONE,
    OTHER_DRIVES,
    PLAIN,
    RULES,
    SHARES,
)


def _grid(options: Settings) -> Sequence[Run]:
    lengths = [int(text) for text in str(options["lengths"]).split()]
    drives = (*OTHER_DRIVES, ASIDE) if options["aside"] else OTHER_DRIVES
    runs = [Run({"method": ONE, "length": 1, "drive": PLAIN, "share": 0})]
    for method in RULES:
        runs += [
            Run({"method": method, "length": length, "drive": PLAIN, "share": 0})
            for length in lengths
        ]
        runs += [
            Run({"method": method, "length": lengths[0], "drive": drive, "share": 0})
            for drive in drives
        ]
    if not options["train"]:
        return runs
    trained = int(options["trained_length"])
    for arm in ARMS:
        tested = [trained] if arm in FIXED_LENGTH else sorted({1, trained, *lengths})
        tested = [length for length in tested if "seqnet" not in arm or length >= trained]
        runs += [
            Run({"method": arm, "length": length, "drive": PLAIN, "share": 100})
            for length in tested
        ]
        runs += [
            Run({"method": arm, "length": trained, "drive": drive, "share": 100})
            for drive in drives
        ]
    runs += [
        Run({"method": arm, "length": trained, "drive": PLAIN, "share": share})
        for arm in JOINT
        for share in SHARES
    ]
    others = sorted({*JOINT_LENGTHS} - {trained})
    return [
        *runs,
        *(
            Run({"method": arm, "length": length, "drive": PLAIN, "share": 100})
            for arm in JOINT
            for length in others
        ),
    ]


SEQUENCES = Study(
    name="sequences",
    summary=(
        "descriptors of sequences, sequence matching, and trainings of them, by length, order, "
        "speed and share of drives"
    ),
    protocol=(
        "{data}: windows of a query drive against windows of the database, right where any frame "
        "lies within {radius} m of any other, or within {frames} frame numbers where those are "
        "given; queries without a positive are left out. Methods without training pool the "
        "descriptors of {model}. Trainings: {train} by {recipe} {changes}, windows of "
        "{trained_length}. Times: one thread, a query beside the description of its frames, and "
        "its search alone in 4 and 16 times the database, of random numbers. 95 % intervals in "
        "brackets: by drive where there are several, else by window, which overlap"
    ),
    options=(
        StudyOption("data", "a folder of drives, database and queries", is_needed=True),
        StudyOption("database_folder", "folder of its database, if not named as usual"),
        StudyOption("queries_folder", "folder of its queries"),
        StudyOption(
            "aside",
            (
                "the same drives, those of the queries at another lateral offset; empty leaves "
                "those rows out"
            ),
        ),
        StudyOption("radius", "metres within which a frame shows the place", 25.0),
        StudyOption(
            "frames", "frame numbers that far apart show one place; -1 to go by metres", -1
        ),
        StudyOption(
            "model", "the model whose frames are pooled without training", "whence-lite0-words-960"
        ),
        StudyOption("lengths", "frames of a window, apart by spaces", "5 3 9"),
        StudyOption("train", "a folder of drives to train on; empty leaves trainings out"),
        StudyOption(
            "images",
            (
                "a folder of single photos for the joint trainings; empty takes those of the "
                "drives, which then need headings"
            ),
        ),
        StudyOption("recipe", "recipe of sequences", "seqvlad-small"),
        StudyOption("joint_recipe", "recipe of sequences and classes", "jist-small"),
        StudyOption("trained_length", "frames of a window in training", 3),
        StudyOption("changes", "changes of every recipe, apart by spaces, as loop.num_steps=300"),
    ),
    grid=_grid,
    measured_by="whence.studies.sequence_runs:measure_sequences",
    measures=(
        Measure("recall@1", "%"),
        Measure("recall@5", "%"),
        Measure("queries"),
        Measure("size", "bytes"),
        Measure("time", "ms"),
        Measure("search in 4 times", "ms"),
        Measure("search in 16 times", "ms"),
        Measure("training", "s"),
    ),
    plot=Plot(x="length", y=("recall@1",), by=("method",)),
)
STUDIES = (SEQUENCES,)
