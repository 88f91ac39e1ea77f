"""The rules under which a recall is counted: what makes a database photo a positive, and which
queries count.

A number without its protocol means little: the same predictions give different recalls under
different rules. Every evaluation carries its protocol as text, printed beside the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from whence.cards import Preprocessing
from whence.data.formats import EvaluationSet
from whence.data.photos import Photos
from whence.errors import BadOption, InputError
from whence.evaluation.metrics import (
    RECALL_AT,
    Recall,
    first_hit_by_distance,
    first_hit_in_lists,
    recalls,
)
from whence.geo import neighbors_within, to_earth_centred
from whence.lists import NeighborLists
from whence.models.asking import QueryViews

THRESHOLDS_M = (10.0, 25.0, 50.0)


@dataclass(frozen=True, slots=True)
class ScoredThreshold:
    """Recalls for one meaning of "positive"."""

    threshold_m: float | None
    """None where positives are listed rather than measured."""
    num_without_positives: int
    """Queries no database photo is a positive of."""
    all_queries: tuple[Recall, ...]
    """Queries without positives count as failures."""
    with_positives: tuple[Recall, ...]
    """Queries without positives are left out."""


class HasSet(Protocol):
    """What was evaluated, and which database rows are no answer for each query; None outside
    leave-one-out."""

    @property
    def data(self) -> EvaluationSet: ...

    @property
    def excluded(self) -> NeighborLists | None: ...


@dataclass(frozen=True, slots=True)
class Ground:
    """Metric coordinates of database (N, d) and queries (Q, d), NaN where unknown, and what they
    are."""

    database: np.ndarray
    queries: np.ndarray
    description: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Photos of a set that cannot be judged, because their place is not known in the coordinates
    that distances are measured in."""

    database: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.database or self.queries)

    def __str__(self) -> str:
        counts = ((len(self.queries), "queries"), (len(self.database), "database photos"))
        named = " and ".join(f"{num:,} {what}" for num, what in counts if num)
        return (
            f"left out, because their place is not known: {named}, for example "
            f"{(*self.queries, *self.database)[0]}"
        )


def metric_ground(database: Photos, queries: Photos) -> Ground:
    """The coordinates distances are measured in.

    Where every photo with a place carries plane coordinates of one zone (or none states a zone),
    those: the field's own way. Else Earth-centred coordinates of latitudes and longitudes, in which
    zone edges are nothing special.
    """
    sides = (database, queries)
    zones = {zone for photos in sides for zone in np.unique(photos.zone[photos.has_plane]).tolist()}
    is_plane = len(zones) == 1 and all(photos.has_plane.any() for photos in sides)
    if is_plane and not any((photos.has_point & ~photos.has_plane).any() for photos in sides):
        zone = zones.pop().decode()
        known, asked = (np.stack([photos.east_m, photos.north_m], axis=1) for photos in sides)
        return Ground(
            known,
            asked,
            f"UTM metres, zone {zone}"
            if zone
            else "metres on the plane of the file names, no zone given",
        )
    return Ground(
        to_earth_centred(database.lat, database.lon),
        to_earth_centred(queries.lat, queries.lon),
        "metres between latitudes and longitudes (WGS84)",
    )


def leave_out_unplaced(data: EvaluationSet) -> tuple[EvaluationSet, LeftOut]:
    """The set without the photos whose place is not known, on both sides, and their names; where
    positives are listed, all stay.

    Raises `InputError` where one side has no photo left: then nothing could be counted.
    """
    if data.positives is not None:
        return data, LeftOut()
    ground = metric_ground(data.database, data.queries)
    sides = {"database photos": data.database, "queries": data.queries}
    kept = [np.isfinite(side).all(axis=1) for side in (ground.database, ground.queries)]
    for (what, photos), is_kept in zip(sides.items(), kept, strict=True):
        if not is_kept.any():
            raise InputError(
                f"{data.name}: nothing can be counted: {_why_unplaced(data, photos, what)}"
            )
    if all(is_kept.all() for is_kept in kept):
        return data, LeftOut()
    names = [
        tuple(photos.paths[row] for row in np.flatnonzero(~mask))
        for photos, mask in zip(sides.values(), kept, strict=True)
    ]
    database = data.database.select(kept[0])
    # Leave-one-out is known by the two sides being one.
    queries = database if data.queries is data.database else data.queries.select(kept[1])
    notes = tuple(data.notes[row] for row in np.flatnonzero(kept[1])) if data.notes else ()
    return EvaluationSet(data.name, database, queries, notes=notes), LeftOut(*names)


def own_queries(result: HasSet) -> np.ndarray:
    """(Q,) bool: queries with the bytes of a database photo, where that is not left out as in
    leave-one-out."""
    data = result.data
    if result.excluded is not None:
        return np.zeros(len(data.queries), bool)
    return np.isin(data.queries.content, data.database.content) & (data.queries.content != b"")


def first_queries(data: EvaluationSet, num: int) -> EvaluationSet:
    """The set with its first `num` queries alone."""
    positives = None if data.positives is None else first_lists(data.positives, num)
    passed_over = None if data.passed_over is None else first_lists(data.passed_over, num)
    return EvaluationSet(
        data.name,
        data.database,
        data.queries.select(np.arange(num)),
        positives,
        data.notes[:num],
        passed_over,
    )


def no_answers(data: EvaluationSet, *, is_leave_one_out: bool) -> NeighborLists | None:
    """For each query the database rows that are no answer: what the set passes over, in
    leave-one-out all of its content."""
    if is_leave_one_out:
        return first_lists(same_content(data.database), len(data.queries))
    return data.passed_over


def first_lists(lists: NeighborLists, num: int) -> NeighborLists:
    """The lists of the first `num` queries."""
    return NeighborLists(lists.offsets[: num + 1], lists.members[: lists.offsets[num]])


def _why_unplaced(data: EvaluationSet, photos: Photos, what: str) -> str:
    other = data.queries if photos is data.database else data.database
    if photos.has_plane.any() and other.has_point.any():
        return (
            f"its {what} have metres on a plane, the others latitudes and longitudes, and no "
            "distance lies between these"
        )
    if photos.has_point.any() and other.has_plane.any():
        return (
            f"its {what} have latitudes and longitudes, the others metres on a plane, and no "
            "distance lies between these"
        )
    return (
        f"none of its {len(photos)} {what} has a known place; give them with --positions, in EXIF, "
        "in sidecars or in their names, or list pairs in a CSV"
    )


def score_predictions(
    predictions: np.ndarray,
    data: EvaluationSet,
    *,
    thresholds_m: Sequence[float] = THRESHOLDS_M,
    recall_at: Sequence[int] = RECALL_AT,
    excluded: NeighborLists | None = None,
) -> tuple[ScoredThreshold, ...]:
    """Recalls of predictions (Q, K), database rows with -1 for none; one entry per threshold, or
    one where positives are listed.

    `excluded` lists database rows that are no answer for a query (itself, in leave-one-out); they
    are no positives either, and must not be among its predictions.
    """
    if any(threshold <= 0 for threshold in thresholds_m):
        raise BadOption(f"thresholds are positive distances in metres, not {list(thresholds_m)}")
    if predictions.size and (
        predictions.max() >= len(data.database) or len(predictions) != len(data.queries)
    ):
        raise BadOption(
            "predictions do not belong to this set: a row number or the number of queries is off"
        )
    if data.positives is not None:
        first = first_hit_in_lists(predictions, data.positives)
        return (_scored(None, first, has_positives(data, threshold_m=None), recall_at),)
    ground = metric_ground(data.database, data.queries)
    hits = first_hit_by_distance(
        predictions, ground.database, ground.queries, thresholds_m=thresholds_m
    )
    results = []
    for threshold, first in zip(thresholds_m, hits, strict=True):
        has_positive = has_positives(data, threshold_m=threshold, excluded=excluded)
        results.append(_scored(float(threshold), first, has_positive, recall_at))
    return tuple(results)


def has_positives(
    data: EvaluationSet, *, threshold_m: float | None, excluded: NeighborLists | None = None
) -> np.ndarray:
    """(Q,) bool: whether the database shows a query's place: it has a listed positive, or one
    within the threshold."""
    if data.positives is not None:
        return data.positives.counts > 0
    assert threshold_m is not None, "without listed positives there is a distance"
    ground = metric_ground(data.database, data.queries)
    return (
        num_not_excluded(
            neighbors_within(ground.database, ground.queries, radius_m=threshold_m), excluded
        )
        > 0
    )


def num_not_excluded(near: NeighborLists, excluded: NeighborLists | None) -> np.ndarray:
    """(Q,) neighbours of each query that are not among its excluded rows."""
    if excluded is None:
        return near.counts
    num_rows = int(max(near.members.max(initial=0), excluded.members.max(initial=0))) + 1
    owners = [np.repeat(np.arange(len(lists.counts)), lists.counts) for lists in (near, excluded)]
    keys = [
        owner * num_rows + lists.members
        for owner, lists in zip(owners, (near, excluded), strict=True)
    ]
    kept = ~np.isin(keys[0], keys[1])
    return np.bincount(owners[0][kept], minlength=len(near.counts))


def same_content(photos: Photos) -> NeighborLists:
    """For each photo all rows of the same content, itself included: what leave-one-out leaves
    out."""
    _, group = np.unique(photos.content, return_inverse=True)
    order = np.argsort(group, kind="stable")
    sizes = np.bincount(group)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    members = [order[starts[g] : starts[g + 1]] for g in group]
    offsets = np.concatenate([[0], np.cumsum(sizes[group])])
    return NeighborLists(offsets, np.concatenate(members) if members else np.empty(0, np.int64))


def describe_protocol(data: EvaluationSet, *, is_leave_one_out: bool) -> str:
    """One sentence: what is a positive, and what is left out."""
    if data.positives is not None:
        rule = "positives are listed by the set"
    else:
        ground = metric_ground(data.database, data.queries)
        rule = f"a positive lies within the threshold (inclusive), {ground.description}"
    if data.passed_over is not None:
        rule += (
            "; every query passes over itself and the photos that the set leaves out of its ranking"
        )
    if is_leave_one_out:
        rule += "; leave-one-out: every photo asks the others, photos of the same content left out"
    return rule


def describe_photos(
    database: Preprocessing, queries: Preprocessing, views: QueryViews | None = None
) -> str:
    """How photos of both sides are brought to the model, in words: published figures hold for one
    way alone."""
    asked = _sized(queries)
    if views is not None and not views.is_plain:
        height, width = views.size_px or (0, 0)
        asked = f"in the mode {views.mode}{f' at {height} x {width} pixels' if height else ''}"
    kept = _sized(database)
    return f"photos {kept}" if kept == asked else f"database photos {kept}, queries {asked}"


def _sized(steps: Preprocessing) -> str:
    if steps.size_px is not None:
        return f"at {steps.size_px[0]} x {steps.size_px[1]} pixels"
    side, name = (
        (steps.short_side_px, "short")
        if steps.short_side_px is not None
        else (steps.long_side_px, "long")
    )
    found = (
        f"with a {name} side of {side} pixels{'' if steps.enlarge else ' at most'}"
        if side is not None
        else "in their own size"
    )
    return found if steps.multiple_of == 1 else f"{found}, sides multiples of {steps.multiple_of}"


def _scored(
    threshold: float | None, first: np.ndarray, has_positive: np.ndarray, recall_at: Sequence[int]
) -> ScoredThreshold:
    return ScoredThreshold(
        threshold_m=threshold,
        num_without_positives=int((~has_positive).sum()),
        all_queries=recalls(first, recall_at=recall_at),
        with_positives=recalls(first, is_counted=has_positive, recall_at=recall_at),
    )
