"""The study of re-ranking: when it helps and when it hurts, by method and condition, and what it
costs. The grid alone."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption
from whence.studies.methods import ADAPTIVE, ALL, PLAIN
from whence.studies.shortlists import SET_OPTIONS


def _grid(options: Settings) -> Sequence[Run]:
    methods = [PLAIN]
    for method in str(options["methods"]).split():
        methods += [method, ADAPTIVE + method]
    conditions = [ALL, *str(options["conditions"]).split()]
    return [
        Run({"method": method, "condition": condition})
        for method in methods
        for condition in conditions
    ]


RERANK = Study(
    name="rerank",
    summary=(
        "re-ranking by method and condition: when it helps, when it hurts, what it costs, and "
        "what it knows"
    ),
    protocol=(
        "{data}: the first {candidates} candidates of {model} are put in order; right means within "
        "25 m, or as listed; every query counts. When unsure: compared one by one until one is "
        "right with a probability of {sure}, by weights fitted on other queries. AUPRC: of the "
        "method's evidence for retrieval's first candidate. Times: CPU, one thread, mean per "
        "query, both photos prepared before. 95 % intervals in brackets, by street where the set "
        "names streets"
    ),
    options=(
        *SET_OPTIONS,
        StudyOption("model", "the model that finds candidates", "rootsift-vlad"),
        StudyOption(
            "methods",
            "scorers and chains, apart by spaces",
            "inliers rapid ransac rapid:20,inliers:5",
        ),
        StudyOption(
            "conditions",
            "conditions of the queries in a rendered world's cameras.csv, apart by spaces",
        ),
        StudyOption("candidates", "candidates per query that are put in order", 20),
        StudyOption("sure", "probability from which no further candidate is compared", 0.75),
    ),
    grid=_grid,
    measured_by="whence.studies.rerank_runs:measure_order",
    measures=(
        Measure("recall@1", "%"),
        Measure("helped", "%"),
        Measure("hurt", "%"),
        Measure("AUPRC", "%"),
        Measure("calibration error", "%"),
        Measure("compared", "pairs"),
        Measure("time", "ms"),
        Measure("share of time", "%"),
        Measure("size", "bytes"),
        Measure("queries"),
    ),
    plot=Plot(x="time", y=("recall@1",), by=("condition",)),
)
STUDIES = (RERANK,)
