"""An evaluation as people state it: how a set is read, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whence.localize.questions import StatedComparison

if TYPE_CHECKING:
    from whence.evaluation.benchmarks import EvaluationOptions


@dataclass(frozen=True, slots=True)
class StatedEvaluation(StatedComparison):
    """The fields that `whence compare --set FIELD=VALUE` takes: how a set is read, and what is
    counted."""

    split: str = ""
    """Split folder inside the set: train, val or test; of MSLS also cities: cph,sf."""
    database_folder: str | None = None
    """Folder of the database photos, if not named as usual."""
    queries_folder: str | None = None
    """Folder of the queries, if not named as usual."""
    frames: int | None = None
    """Two walks of the same frames: frames that far apart show the same place."""
    allow_null_island: bool = False
    """Whether latitude 0, longitude 0 is a place instead of a missing fix."""
    thresholds_m: tuple[float, ...] | None = None
    """Distances within which an answer is right. Default: 10,25,50, or the published set's."""
    recall_at: tuple[int, ...] = (1, 5, 10, 20)
    """Ranks N at which recall@N is counted."""
    fit_folder: str | None = None
    """Photos that a model fits what it fits on (PCA, words), instead of the database's."""
    is_frugal: bool = False
    """Whether descriptors lie in a temporary file instead of in memory."""

    def options(
        self,
        data: str,
        rerank: str | None,
        *,
        protocol: str | None,
        engine: str,
        work: str | None,
        leave_one_out: bool,
    ) -> EvaluationOptions:
        """The options they come to. Raises `BadOption` and `UnknownName`."""
        from whence.evaluation.benchmarks import EvaluationOptions

        return EvaluationOptions(
            thresholds_m=self.thresholds_m or usual_thresholds(data, protocol),
            recall_at=self.recall_at,
            is_leave_one_out=leave_one_out,
            rerank=self.rerank_options(rerank),
            calibration=None if self.calibration is None else Path(self.calibration),
            work_folder=None if work is None else Path(work),
            views=self.views,
            engine=engine,
            is_frugal=self.is_frugal,
            fit_folder=None if self.fit_folder is None else Path(self.fit_folder),
        )


def usual_thresholds(data: str, protocol: str | None) -> tuple[float, ...]:
    """Metres within which an answer is right where nobody says: the published set's, else 10, 25
    and 50."""
    from whence.evaluation.published import get_published

    name = published_name(data, protocol)
    return (10.0, 25.0, 50.0) if name is None else tuple(get_published(name).thresholds_m)


def published_name(data: str, protocol: str | None) -> str | None:
    """The name of the published set that is meant: the one named, or what is asked for where there
    is no such file or folder."""
    from whence.evaluation.published import PUBLISHED

    return protocol or (data if data in PUBLISHED and not Path(data).exists() else None)
