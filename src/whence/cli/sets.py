"""Sets of `whence evaluate` and `whence compare`: which one a person means, and the fields that
both verbs take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from whence.cli.output import print_note
from whence.data.formats import EvaluationSet, read_frames
from whence.data.scan import ReadOptions, scan_photos
from whence.errors import BadOption, NoPhotos
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

    name = _published_name(data, protocol)
    return (10.0, 25.0, 50.0) if name is None else tuple(get_published(name).thresholds_m)


def _published_name(data: str, protocol: str | None) -> str | None:
    """The published set that is meant: the one named, or what is asked for where there is no such
    file or folder."""
    from whence.evaluation.published import PUBLISHED

    return protocol or (data if data in PUBLISHED and not Path(data).exists() else None)


def read_set(
    data: str,
    stated: StatedEvaluation,
    *,
    protocol: str | None = None,
    layout: str | None = None,
    positions: str | None = None,
    leave_one_out: bool = False,
) -> EvaluationSet:
    """The set a person means: a published one, walks with frames, one collection left out one by
    one, else as it is laid out."""
    from whence.data.evaluation_sets import open_set
    from whence.evaluation.published import datasets_folder, find_set, open_published, sizes_note

    folders, frames, split = (
        (stated.database_folder, stated.queries_folder),
        stated.frames,
        stated.split,
    )
    options = ReadOptions(allow_null_island=stated.allow_null_island)
    path = Path(data)
    name = _published_name(data, protocol)
    if name is not None:
        if (
            leave_one_out
            or frames is not None
            or split
            or folders != (None, None)
            or layout is not None
        ):
            raise BadOption(
                f"the protocol {name} says how the set is read: leave out --layout, "
                "--leave-one-out, split, folders and frames"
            )
        root = find_set(name, folder=data if protocol else None, datasets=datasets_folder())
        found = open_published(name, root, options=options)
        if note := sizes_note(name, found):
            print_note(note)
        return found
    if layout is not None and (leave_one_out or frames is not None):
        raise BadOption(
            "--layout is for sets of database and queries: leave out frames and --leave-one-out"
        )
    if leave_one_out:
        if frames is not None:
            raise BadOption("--leave-one-out and frames exclude each other")
        photos = scan_photos(data, positions=positions, **options._asdict())
        if not len(photos):
            raise NoPhotos(f"no readable photos under {data!r}")
        return EvaluationSet(path.resolve().name, photos, photos)
    if frames is not None:
        return read_frames(
            path,
            tolerance_frames=frames,
            database_folder=folders[0],
            queries_folder=folders[1],
            options=options,
        )
    return open_set(
        path,
        layout=layout or "",
        split=split,
        database_folder=folders[0],
        queries_folder=folders[1],
        positions=positions,
        options=options,
    )
