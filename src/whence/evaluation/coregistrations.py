"""Co-registration on trial: photos from orbit against tiles that they overlap and others, with all
that each came to."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from whence.data.footprints import area_km2, centre_of, footprint_of, iou, overlapping
from whence.data.formats import EvaluationSet
from whence.data.images import load_resized
from whence.data.mosaics import TileMosaic
from whence.data.tiles import box_corners, tile_boxes
from whence.errors import NoPhotos
from whence.evaluation.registration import corner_errors_km, holds_middle, inlier_threshold
from whence.localize.coregister import CoregisterOptions, Find, coregister, finder, footprint_after
from whence.localize.georeference import roll_deg
from whence.parts import Matcher
from whence.runtime import random_stream

NUM_FOLDS = 5
_LEAST_OVERLAP = 0.02


@dataclass(frozen=True)
class Trial:
    """One photo against one candidate."""

    photo: int
    candidate: str
    overlap: float
    """Of photo and candidate before anything is refined, as a share of what both cover; 0 for a
    wrong one."""
    inliers: tuple[int, ...]
    """By round."""
    errors: tuple[float, ...]
    """By round the mean distance of the corners from the truth, as a share of the photo's side; of
    wrong candidates too."""
    overlaps: tuple[float, ...]
    """By round the share of footprint and truth that both cover."""
    reason: str
    """Why it is no match."""
    is_right: bool
    """Whether what was found is taken for right by the published rule."""
    seconds: float

    @property
    def is_match(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Comparison:
    """What a matcher's trials come to at its own threshold, each photo judged by one that was
    fitted without it."""

    threshold: float
    """Median over the folds."""
    num_photos: int
    num_located: int
    num_right: int
    """Located ones whose best candidate is right."""
    wrong_accepted: int
    """Candidates at or above the threshold of which something wrong was found."""
    wrong_unchecked: int
    """The same where no threshold is asked for."""
    num_wrong: int
    """Candidates that the photo does not overlap."""


def run_trials(
    data: EvaluationSet,
    matcher: Matcher,
    *,
    options: CoregisterOptions = CoregisterOptions(),  # noqa: B008 (an immutable record)
    num_photos: int = 0,
    num_overlapping: int = 3,
    num_wrong: int = 7,
    seed: int = 0,
) -> Iterator[list[Trial]]:
    """The trials of each photo: tiles that it overlaps, more or less, and others drawn from a seed.
    Raises `NoPhotos`."""
    mosaic = TileMosaic(
        data.database.paths, lambda row: str(data.database.file(row)), side_px=options.side_px
    )
    rows = np.array(sorted(mosaic.row_of.values()))
    if not len(rows):
        raise NoPhotos(f"{data.name} holds no tiles whose names carry footprints")
    boxes = tile_boxes(np.array([mosaic.tile_of[row] for row in rows]))
    corners = box_corners(boxes)
    find = finder(matcher, is_published=options.is_published)
    for photo in range(min(num_photos or len(data.queries), len(data.queries))):
        truth = footprint_of(data.queries.paths[photo])
        if truth is None:
            continue
        image = load_resized(data.queries.file(photo), short_side_px=2 * options.side_px)
        shared = {int(place): iou(truth, corners[place]) for place in overlapping(truth, corners)}
        near = [
            place
            for place in sorted(shared, key=lambda one: -shared[one])
            if shared[place] > _LEAST_OVERLAP
        ]
        # The most alike one, and some down to the least.
        chosen = (
            [
                near[at]
                for at in np.unique(
                    np.linspace(0, len(near) - 1, num_overlapping).round().astype(int)
                )
            ]
            if near
            else []
        )
        random = random_stream(seed, photo)
        far = np.setdiff1d(np.arange(len(rows)), list(shared))
        wrong = random.choice(far, min(num_wrong, len(far)), replace=False).tolist()
        # A photo is turned by the quarters that bring north nearest to its top, as right retrieval
        # would find it.
        turns = -round(roll_deg(truth) / 90) % 4
        found = []
        for place in [*chosen, *wrong]:
            own_turns = turns if place in shared else int(random.integers(4))
            around, box = mosaic.surroundings(int(rows[place])), boxes[place]
            name = data.database.paths[rows[place]]
            found.append(
                _try(
                    photo,
                    name,
                    image,
                    around,
                    box,
                    find,
                    own_turns,
                    options,
                    truth,
                    shared.get(place, 0.0),
                )
            )
        yield found


def _try(
    photo: int,
    name: str,
    image: np.ndarray,
    around: np.ndarray,
    box: np.ndarray,
    find: Find,
    turns: int,
    options: CoregisterOptions,
    truth: np.ndarray,
    overlap: float,
) -> Trial:
    started = time.process_time()
    found = coregister(image, around, box.tolist(), find, turns=turns, options=options)
    seconds = time.process_time() - started
    side_km = float(np.sqrt(area_km2(truth)))
    prints = [
        footprint_after(
            corners,
            box.tolist(),
            turns=turns,
            side_px=options.side_px,
            is_linear=options.is_published,
        )
        for corners in found.corners
    ]
    errors = tuple(float(corner_errors_km(one, truth).mean()) / side_km for one in prints)
    is_right = found.footprint is not None and holds_middle(found.footprint, centre_of(truth))
    overlaps = tuple(iou(one, truth) for one in prints)
    return Trial(
        photo, name, overlap, found.inliers, errors, overlaps, found.reason, is_right, seconds
    )


def compare_trials(trials: Sequence[Trial], *, num_folds: int = NUM_FOLDS) -> Comparison:
    """Figures of trials at the threshold of 99.9 %, fitted on the photos of the other folds."""
    photos = sorted({one.photo for one in trials})
    matched = [one for one in trials if one.is_match]
    thresholds, located, right, accepted = [], 0, 0, 0
    for fold in range(num_folds):
        own = set(photos[fold::num_folds])
        others = [one for one in matched if one.photo not in own]
        true, false = (
            [one.inliers[-1] for one in others if one.is_right == way] for way in (True, False)
        )
        threshold = inlier_threshold(true, false)
        thresholds.append(threshold)
        for photo in sorted(own):
            passed = [one for one in matched if one.photo == photo and one.inliers[-1] >= threshold]
            accepted += sum(not one.is_right for one in passed)
            if passed:
                located += 1
                right += max(passed, key=lambda one: one.inliers[-1]).is_right
    unchecked, wrong = (
        sum(not one.is_right for one in matched),
        sum(one.overlap == 0 for one in trials),
    )
    return Comparison(
        float(np.median(thresholds)), len(photos), located, right, accepted, unchecked, wrong
    )


class Round(NamedTuple):
    """Where candidates that came out right stood after a round, means."""

    error: float
    """Distance of the corners from the truth, as a share of the photo's side."""
    overlap: float
    """Share of footprint and truth that both cover."""


def after_rounds(trials: Sequence[Trial]) -> list[Round]:
    """Where the right candidates that the photo overlaps stood after each round, of as many as went
    on; empty where none is."""
    right = [one for one in trials if one.is_match and one.is_right and one.overlap > 0]
    found = []
    for number in range(max((len(one.errors) for one in right), default=0)):
        own = [
            (one.errors[number], one.overlaps[number]) for one in right if len(one.errors) > number
        ]
        found.append(Round(*(float(value) for value in np.mean(own, axis=0))))
    return found


def by_first_overlap(trials: Sequence[Trial], edges: Sequence[float]) -> list[tuple[int, int]]:
    """Between each two edges of the overlap at first: candidates, and those that came out right.
    The last edge is within."""
    shared = [one for one in trials if one.overlap > 0]
    found = []
    for low, high in pairwise(edges):
        own = [
            one
            for one in shared
            if low <= one.overlap and (one.overlap < high or high == edges[-1])
        ]
        found.append((len(own), sum(one.is_match and one.is_right for one in own)))
    return found
