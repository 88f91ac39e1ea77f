"""Arms of a study compared query by query: what each got right is kept beside the study, and
differences are paired."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whence.evaluation.metrics import bootstrap_interval
from whence.runtime import atomic_write
from whence.studies.frame import Run, Settings, Value


def keep_hits(work: Path, run: Settings, hits: np.ndarray) -> None:
    """Write which queries (Q,) an arm got right."""
    file = _file(work, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        np.save(out, np.asarray(hits, bool))


def contrasts(
    work: Path, run: Settings, *, reference: str, seeds: Sequence[int], groups: np.ndarray | None
) -> dict[str, Value]:
    """Figures of what an arm loses to the reference, with the same seed and over all seeds that
    both have, and whether the claim holds.

    The claim is that the reference is better. Arms that lack hits give nothing.
    """
    if run["arm"] == reference:
        return {}
    found = {}
    own = _differences(work, run, reference, [int(run["seed"])])
    if own is not None:
        found["difference within 25 m"] = claimed = _with_interval(own, groups)
        pooled = _differences(work, run, reference, seeds)
        if pooled is not None and len(seeds) > 1:
            found["difference, all seeds"] = claimed = _with_interval(pooled, groups)
        assert claimed.low is not None
        assert claimed.high is not None
        found["claim"] = Value(1.0 if claimed.high < 0 else -1.0 if claimed.low > 0 else 0.0)
    return found


def _differences(
    work: Path, run: Settings, reference: str, seeds: Sequence[int]
) -> np.ndarray | None:
    """(Q,) the arm's hits less the reference's, the mean over seeds; None where one is missing."""
    found = []
    for seed in seeds:
        files = [
            _file(work, {**run, "arm": arm, "seed": seed}) for arm in (str(run["arm"]), reference)
        ]
        if not all(file.is_file() for file in files):
            return None
        own, other = (np.load(file).astype(float) for file in files)
        found.append(own - other)
    return np.asarray(np.mean(found, axis=0))


def _with_interval(differences: np.ndarray, groups: np.ndarray | None) -> Value:
    low, high = bootstrap_interval(differences, groups=groups)
    return Value(float(differences.mean()), low, high)


def _file(work: Path, run: Settings) -> Path:
    return work / "hits" / f"{Run(run).key}.npy"
