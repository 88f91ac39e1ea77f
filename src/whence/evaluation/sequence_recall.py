"""Recall of sequences: windows of a query drive against windows of a database, by their descriptors
or by sequence matching.

The protocol of "Learning sequential descriptors" (Mereu et al., RA-L 2022): windows by frame
numbers with stride 1, a database window is right where any of its frames is near any of the
query's, exact search by Euclidean distance over all cities together. Queries without a positive are
left out of the published recall; recall over all of them stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.data.drives import Frames, SequenceSet
from whence.data.windows import cut_windows, positives_of_windows, require_windows
from whence.errors import BadOption, NoPhotos, UnreadableImage
from whence.evaluation.metrics import Recall, first_hit_in_lists, recalls
from whence.evaluation.protocol import metric_ground
from whence.geo import neighbors_within
from whence.index.alignment import (
    SPEEDS,
    aligned_distances,
    enhance_contrast,
    frame_distances,
    match_sequences,
    search_by_distance,
)
from whence.lists import NeighborLists
from whence.models.descriptor import DescriptorModel
from whence.models.sequences import SequenceModel, sequence_model
from whence.runtime import progress
from whence.types import SkippedPhoto

MATCHING, ALIGNED = "matching", "aligned"
SEARCHES = (MATCHING, ALIGNED)
"""What compares frames instead of descriptors of sequences: SeqSLAM's search, and SeqMatchNet's
mean of aligned distances."""
_TOGETHER = 256
"""Windows that are pooled at once."""


@dataclass(frozen=True, slots=True)
class SequenceRules:
    """How sequences are made, compared and counted."""

    length: int = 5
    """Frames of a window, on both sides."""
    pool: str = ""
    """A rule for sequences, "own" for the model's pool, "matching" or "aligned"; empty for the
    model's own, else the mean."""
    pool_options: Mapping[str, Any] = field(default_factory=dict)
    radius_m: float = 25.0
    tolerance_frames: int | None = None
    """Where drives have no positions: frames whose numbers differ by so many at most show one
    place."""
    is_reversed: bool = False
    """Whether the frames of each database window are taken in the other order: which descriptors
    need the order?"""
    speed: int = 1
    """Frames of a query drive that go by between two of a window: 2 is a drive at twice the
    database's speed."""
    speeds: tuple[float, ...] = SPEEDS
    """Speeds that sequence matching tries."""
    contrast_radius: int = 0
    """Frames on both sides that matching sets a distance off against, as SeqSLAM does with
    differences of pixels; 0 leaves it."""
    recall_at: tuple[int, ...] = (1, 5, 10)


@dataclass(frozen=True)
class SequenceEvaluation:
    """What came of it."""

    data: str
    model: str
    rules: SequenceRules
    num_database: int
    """Windows of the database."""
    num_without_positives: int
    with_positives: tuple[Recall, ...]
    """Without the queries that have no positive, as published."""
    all_queries: tuple[Recall, ...]
    first_hit: np.ndarray
    """(Q,) rank from 0 of each query's first right window; the number searched for where there is
    none."""
    has_positives: np.ndarray
    """(Q,) bool."""
    drive: np.ndarray
    """(Q,) which drive each query window is of: windows of one drive are not independent."""
    descriptor_bytes: int
    """Of one sequence of the database; of matching, its frames'."""
    seconds: Mapping[str, float]
    """By stage: describe (frames), pool, search."""
    skipped: tuple[SkippedPhoto, ...] = ()

    @property
    def ms_per_query(self) -> float:
        """Milliseconds for pooling and searching a query window, without the description of its
        frames."""
        return 1e3 * (self.seconds["pool"] + self.seconds["search"]) / max(1, len(self.first_hit))


def evaluate_sequences(
    model: DescriptorModel,
    data: SequenceSet,
    *,
    rules: SequenceRules = SequenceRules(),
    show_progress: bool | None = None,
) -> SequenceEvaluation:
    """Recall of a set of drives. Photos that cannot be read leave gaps. Raises `NoPhotos`,
    `BadOption`, `UnknownName`."""
    is_matched = rules.pool in SEARCHES
    sequences = sequence_model(
        model, "cat" if is_matched else rules.pool, options=rules.pool_options
    )
    if not model.is_fitted:
        model.prepare([data.database.photos.file(row) for row in range(len(data.database.photos))])
    seconds = dict.fromkeys(("describe", "pool", "search"), 0.0)
    started = time.perf_counter()
    described = [
        _describe(side, sequences, show_progress=show_progress)
        for side in (data.database, data.queries)
    ]
    seconds["describe"] = time.perf_counter() - started
    (database, kept), (queries, asked) = ((one[0], one[1]) for one in described)
    windows = _windows(database, length=rules.length, speed=1, what=f"{data.name}, database")
    query_windows = _windows(
        queries, length=rules.length, speed=rules.speed, what=f"{data.name}, queries"
    )
    positives = _positives(database, queries, windows, query_windows, rules)
    k = min(max(rules.recall_at), len(windows))
    own = windows[:, ::-1] if rules.is_reversed else windows
    if is_matched:
        started = time.perf_counter()
        found = _match(kept, asked, database, own, query_windows, rules, k=k)
        seconds["search"] = time.perf_counter() - started
        size = kept[0].nbytes * rules.length
    else:
        started = time.perf_counter()
        stored, sought = (
            _pooled(sequences, *part) for part in ((kept, own), (asked, query_windows))
        )
        seconds["pool"] = (
            (time.perf_counter() - started)
            * len(query_windows)
            / (len(query_windows) + len(windows))
        )
        started = time.perf_counter()
        found = search_by_distance(stored, sought, k=k).ids
        seconds["search"] = time.perf_counter() - started
        size = stored[0].nbytes
    first = first_hit_in_lists(found, positives)
    # A hit beyond the last rank counted is none.
    first = np.where(first < found.shape[1], first, max(rules.recall_at))
    has = positives.counts > 0
    return SequenceEvaluation(
        data=data.name,
        model=f"{model.name}+{rules.pool}" if is_matched else sequences.name,
        rules=rules,
        num_database=len(windows),
        num_without_positives=int((~has).sum()),
        with_positives=recalls(first, is_counted=has, recall_at=rules.recall_at),
        all_queries=recalls(first, recall_at=rules.recall_at),
        first_hit=first,
        has_positives=has,
        drive=np.unique(queries.sequence[query_windows[:, 0]], return_inverse=True)[1],
        descriptor_bytes=int(size),
        seconds=seconds,
        skipped=tuple(entry for one in described for entry in one[2]),
    )


def _describe(
    frames: Frames, sequences: SequenceModel, *, show_progress: bool | None
) -> tuple[Frames, np.ndarray, list[SkippedPhoto]]:
    """The frames that can be read, what is kept of each (N, ...), and the others."""
    files = [frames.photos.file(row) for row in range(len(frames.photos))]
    rows, kept, skipped = [], [], list(frames.photos.skipped)
    with progress("describing frames", total=len(files), show=show_progress) as advance:
        for row, found in enumerate(sequences.describe_frames(files)):
            if isinstance(found, UnreadableImage):
                skipped.append(SkippedPhoto(frames.photos.paths[row], found.reason))
            else:
                rows.append(row)
                kept.append(found)
            advance(1)
    if not rows:
        raise NoPhotos(f"no frame under {str(frames.photos.root)!r} can be read")
    if len({one.shape for one in kept}) > 1:
        raise BadOption(
            "the model sees all frames of a sequence together, and these have several sizes; "
            "resize them first"
        )
    return frames.select(np.array(rows)), np.stack(kept), skipped


def _windows(frames: Frames, *, length: int, speed: int, what: str) -> np.ndarray:
    cut = cut_windows(frames.sequence, frames.frame, length=length, speed=speed)
    return require_windows(cut, num_frames=len(frames.photos), what=what)


def _positives(
    database: Frames,
    queries: Frames,
    windows: np.ndarray,
    query_windows: np.ndarray,
    rules: SequenceRules,
) -> NeighborLists:
    if rules.tolerance_frames is None:
        ground = metric_ground(database.photos, queries.photos)
        points, asked, reach = ground.database, ground.queries, rules.radius_m
        if not (np.isfinite(points).all(axis=1).any() and np.isfinite(asked).all(axis=1).any()):
            raise NoPhotos(
                "these drives have no positions; where equal frame numbers show equal places, say "
                "--set frames=N"
            )
    else:
        points, asked = (
            np.stack([side.frame, np.zeros(len(side.frame))], axis=1)
            for side in (database, queries)
        )
        reach = float(rules.tolerance_frames)
    near = neighbors_within(points, asked, radius_m=reach)
    return positives_of_windows(near, windows, query_windows, num_frames=len(points))


def _match(
    frames: np.ndarray,
    query_rows: np.ndarray,
    database: Frames,
    windows: np.ndarray,
    query_windows: np.ndarray,
    rules: SequenceRules,
    *,
    k: int,
) -> np.ndarray:
    """(Q, k) database windows, best first, by comparing frames; -1 where the window around a frame
    was not kept."""
    distances = frame_distances(frames, query_rows)
    if rules.pool == ALIGNED:
        whole = aligned_distances(distances, windows, query_windows)
        return np.argsort(whole, axis=1, kind="stable")[:, :k]
    # In the order of drives and numbers, along which diagonals go; a gap in the numbers ends a run.
    order = np.lexsort((database.frame, database.sequence))
    breaks = np.append(
        True,
        (database.sequence[order][1:] != database.sequence[order][:-1])
        | (np.diff(database.frame[order]) != 1),
    )
    if rules.is_reversed:
        order, breaks = order[::-1], np.append(True, breaks[1:][::-1])
    runs = np.cumsum(breaks)
    along = distances[:, order]
    compared = (
        enhance_contrast(along, radius=rules.contrast_radius) if rules.contrast_radius else along
    )
    found = match_sequences(
        compared, query_windows, runs, speeds=rules.speeds, k=min(len(order), 2 * k)
    ).ids
    around = np.full(len(order), -1, np.int64)
    around[windows[:, (rules.length - 1) // 2]] = np.arange(len(windows))
    ids = around[order[found]]
    # Frames without a window of their own stand for nothing; those that have one move up.
    moved = np.argsort(ids < 0, axis=1, kind="stable")
    return np.take_along_axis(ids, moved, axis=1)[:, :k]


def _pooled(sequences: SequenceModel, frames: np.ndarray, windows: np.ndarray) -> np.ndarray:
    parts = [
        sequences.pool(frames[windows[start : start + _TOGETHER]])
        for start in range(0, len(windows), _TOGETHER)
    ]
    return np.concatenate(parts)
