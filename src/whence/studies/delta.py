"""One token a frame: what is made again from it, and forecasts of it, beside tokens of frames and
all patches."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.delta_arms import (
    COPY,
    FETCHING,
    FORECASTS,
    NUM_ASKED,
    NUM_FETCHED,
    PRESENT,
    STEPS,
    TOKENS,
)
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption


def _grid(options: Settings) -> Sequence[Run]:
    seeds = range(int(options["seeds"]))
    runs = [
        Run({"part": "made again", "arm": arm, "steps": 1, "seed": 0}) for arm in (COPY, PRESENT)
    ]
    runs += [
        Run({"part": "made again", "arm": arm, "steps": 1, "seed": seed})
        for seed in seeds
        for arm in TOKENS
    ]
    for steps in STEPS:
        runs += [
            Run({"part": "forecast", "arm": arm, "steps": steps, "seed": 0})
            for arm in (COPY, PRESENT)
        ]
        runs += [
            Run({"part": "forecast", "arm": arm, "steps": steps, "seed": seed})
            for seed in seeds
            for arm in FORECASTS
        ]
        runs += [
            Run({"part": "candidates", "arm": arm, "steps": steps, "seed": 0}) for arm in FETCHING
        ]
    return runs


DELTA = Study(
    name="delta",
    summary=(
        "one token a frame beside frame tokens and patches: features made again, forecast 1 and 3 "
        "steps on, cost"
    ),
    protocol=(
        "Clips of {clips}, 64 px, 0.2 s a frame; features of {features}, frozen, 64 patches of 64 "
        "numbers. Tokens learn for "
        "{steps} steps of 32 pairs, forecasts over tokens {world_steps} and over patches "
        "{patch_steps} steps of 16 clips. "
        "Errors are squared, over those of repeating the last frame seen; best is the nearest of "
        "{samples} samples at the last "
        "step, mean their average. Labels and distances are read by linear readouts learned on "
        "true features. Open: clips in "
        "which something turns left or right by chance. Fetched: of a frame's "
        f"{NUM_ASKED} nearest frames of 200 other clips by mean features, the share among the "
        f"{NUM_FETCHED} nearest to its "
        "forecasts. In brackets 95 % intervals, clips drawn anew"
    ),
    options=(
        StudyOption("clips", "folder that whence world clips wrote", is_needed=True),
        StudyOption(
            "features",
            "what whence train clip-features-small wrote, features.safetensors",
            is_needed=True,
        ),
        StudyOption("steps", "steps of a training of tokens", 800),
        StudyOption("world_steps", "steps of a training of forecasts over tokens", 600),
        StudyOption("patch_steps", "steps of a training of forecasts over patches", 200),
        StudyOption("samples", "forecasts that are sampled", 20),
        StudyOption("test_clips", "clips that are measured with", 200),
        StudyOption("readout_steps", "steps that linear readouts learn for", 300),
        StudyOption("seeds", "trainings of each arm", 1),
    ),
    grid=_grid,
    measured_by="whence.studies.delta_runs:measure_delta",
    measures=(
        Measure("error"),
        Measure("error of the mean"),
        Measure("open: error"),
        Measure("open: error of the mean"),
        Measure("labels", "%"),
        Measure("labels of the mean", "%"),
        Measure("distance", "m"),
        Measure("distance of the mean", "m"),
        Measure("fetched", "%"),
        Measure("after a cut"),
        Measure("after 6 in a row"),
        Measure("tokens a frame"),
        Measure("multiplies", "M"),
        Measure("training", "s"),
    ),
    plot=Plot("arm", ("error", "error of the mean"), ("part", "steps")),
)
STUDIES = (DELTA,)
