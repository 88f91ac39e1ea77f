"""Federated training: one network of many owners' photos, by strategy, split, skew, colours and
devices, beside a central one."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.owner_arms import ARMS, MAIN


def _grid(options: Settings) -> Sequence[Run]:
    runs = [Run({"arm": arm, "seed": 0}) for arm in ARMS]
    return [
        *runs,
        *(
            Run({"arm": arm, "seed": seed})
            for seed in range(1, int(options["seeds"]))
            for arm in MAIN
        ),
    ]


OWNERS = Study(
    name="federated",
    summary=(
        "one network of many owners' photos: strategies, splits, skew, colours and devices, "
        "beside central training"
    ),
    protocol=(
        "Every row trains {recipe} {changes} on {train}, cut into {clients} clients: {rounds} "
        "rounds of {clients_per_round} clients by {steps} local steps (central: the steps of all "
        "clients of a round, optimizer anew each round; one pass: as many as the client has). "
        "Asked the photos of {data}, whose streets no client has; right lies within 25 m. 95 % "
        "intervals in brackets; the difference is paired with the central row of the same seed. "
        "Sizes and rates are ours: FedVPR's are not published"
    ),
    options=(
        StudyOption("train", "a training set with database and queries", is_needed=True),
        StudyOption("train_split", "its split"),
        StudyOption("data", "a set of other streets with database and queries", is_needed=True),
        StudyOption("split", "its split"),
        StudyOption("recipe", "recipe of mined tuples", "vg-benchmark-small"),
        StudyOption("changes", "changes of the recipe, apart by spaces"),
        StudyOption("clients", "clients of a split", 8),
        StudyOption("min_queries", "queries that a client needs", 10),
        StudyOption("rounds", "rounds", 10),
        StudyOption("clients_per_round", "clients that work in a round", 4),
        StudyOption("steps", "local steps of a round", 10),
        StudyOption("seeds", "trainings of the main contrasts", 3),
        StudyOption("flower", "environment that has Flower; empty for the usual one"),
    ),
    grid=_grid,
    measured_by="whence.studies.owner_runs:measure_owners",
    measures=(
        Measure("recall@1", "%"),
        Measure("difference to central", "%"),
        Measure("clients"),
        Measure("lost queries"),
        Measure("local steps"),
        Measure("sent", "MB"),
    ),
    plot=Plot("arm", ("recall@1",)),
)
STUDIES = (OWNERS,)
