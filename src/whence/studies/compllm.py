"""Questions to a log that was compressed: right answers by length and by how it is shortened, and
what reading costs."""

from __future__ import annotations

from collections.abc import Sequence

from whence.studies.compllm_arms import ANSWERS, LENGTHS, READING, THOUSANDS
from whence.studies.frame import Measure, Plot, Run, Settings, Study, StudyOption


def _grid(options: Settings) -> Sequence[Run]:
    runs = [
        Run({"part": "answers", "arm": arm, "records": num}) for num in LENGTHS for arm in ANSWERS
    ]
    return [
        *runs,
        *(
            Run({"part": "reading", "arm": arm, "records": num * 200})
            for num in THOUSANDS
            for arm in READING
        ),
    ]


COMPLLM = Study(
    name="compllm",
    summary=(
        "questions to a compressed log: right answers by its length, time to the first token, "
        "bytes kept, a second question"
    ),
    protocol=(
        "Answers: logs of {logs} (val chooses, test is asked, {test_logs} logs of 8 questions "
        "each), records of 5 tokens; the language model is {model}; compressors learn from it for "
        "{steps} steps on 5 to {records} records, segments of 20 tokens. One answer in 16 would be "
        "right by chance. Reading: a model of {width} numbers and 4 blocks with random weights, "
        "CPU seconds of one thread, one run after a warm-up; by the count of multiplications "
        "compressing anew pays from 16 times its width on at 2 tokens a vector. A second question "
        "asks the same log when its segments are cached. Brackets are 95 % intervals, logs drawn "
        "anew"
    ),
    options=(
        StudyOption("logs", "folder that whence world logs wrote", is_needed=True),
        StudyOption(
            "model",
            "folder of the language model: model/ of a training of log-language-small",
            is_needed=True,
        ),
        StudyOption("steps", "steps of a training of a compressor", 1000),
        StudyOption(
            "records",
            "records of a log that compressors learn from, at most; what the model learned from",
            16,
        ),
        StudyOption("test_logs", "logs that are asked", 100),
        StudyOption("width", "numbers of the model whose reading is timed", 128),
    ),
    grid=_grid,
    measured_by="whence.studies.compllm_runs:measure_compllm",
    measures=(
        Measure("right", "%"),
        Measure("inputs"),
        Measure("compressing", "s"),
        Measure("first token", "s"),
        Measure("second question", "s"),
        Measure("kept", "MB"),
        Measure("training", "s"),
    ),
    plot=Plot("records", ("right", "first token"), ("part", "arm")),
)
STUDIES = (COMPLLM,)
