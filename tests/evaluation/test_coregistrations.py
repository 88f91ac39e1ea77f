"""Trials of co-registration: right and wrong tiles of each photo, what a threshold of its own comes
to, and the study's cell."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from whence.data.evaluation_sets import open_set
from whence.data.footprints import area_km2
from whence.data.tiles import Tile, format_footprint_name, from_cells, tile_name
from whence.errors import BadOption
from whence.evaluation.coregistrations import (
    Trial,
    after_rounds,
    by_first_overlap,
    compare_trials,
    run_trials,
)
from whence.localize.coregister import CoregisterOptions
from whence.matching.matchers import open_mnn
from whence.studies import get_study
from whence.studies.frame import run_study

CELL_PX, ROW, COLUMN, ZOOM = 24, 720, 960, 11
WARP = np.array([[1.0, 0.2, 90.0], [-0.15, 1.05, 110.0], [2e-4, 1e-4, 1.0]])
SIDE = 96


@pytest.fixture(scope="module")
def earth(tmp_path_factory) -> Path:
    """Tiles of one piece of ground, and two photos of it, one turned by a quarter."""
    root = tmp_path_factory.mktemp("earth")
    random, side = np.random.default_rng(0), 16 * CELL_PX
    layers = [
        cv2.resize(random.uniform(0, 1, (n, n, 3)), (side, side), interpolation=cv2.INTER_CUBIC)
        for n in (6, 24, 90)
    ]
    whole = np.clip(255 * (0.4 * layers[0] + 0.3 * layers[1] + 0.3 * layers[2]), 0, 255).astype(
        np.uint8
    )
    for row in range(0, 13, 4):
        for column in range(0, 13, 4):
            path = root / "database" / tile_name(Tile(ZOOM, ROW + row, COLUMN + column), year=2021)
            path.parent.mkdir(parents=True, exist_ok=True)
            piece = whole[
                row * CELL_PX : (row + 4) * CELL_PX, column * CELL_PX : (column + 4) * CELL_PX
            ]
            cv2.imwrite(str(path), piece, [cv2.IMWRITE_JPEG_QUALITY, 98])
    (root / "queries").mkdir()
    upright = cv2.warpPerspective(whole, np.linalg.inv(WARP), (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    corners = np.array(
        [[-0.5, SIDE - 0.5], [-0.5, -0.5], [SIDE - 0.5, -0.5], [SIDE - 0.5, SIDE - 0.5]]
    )
    there = (cv2.perspectiveTransform(corners[None], WARP)[0] + 0.5) / CELL_PX
    truth = np.stack(from_cells(COLUMN + there[:, 0], ROW + there[:, 1], ZOOM), axis=1)
    for number, quarters in enumerate((0, 1)):
        # Turned clockwise the photo's lower left is what the lower right was.
        own = np.roll(truth, quarters, axis=0)
        middle = tuple(float(value) for value in truth.mean(axis=0))
        name = format_footprint_name(
            own, image_id=f"ISS-{number}", time="2020", nadir=middle, area_km2=area_km2(own)
        )
        cv2.imwrite(
            str(root / "queries" / name),
            np.rot90(upright, -quarters),
            [cv2.IMWRITE_JPEG_QUALITY, 98],
        )
    return root


def test_photos_against_right_and_wrong_tiles(earth):
    data = open_set(str(earth), layout="earthloc")
    options = CoregisterOptions(side_px=SIDE, num_iterations=2)
    tried = list(
        run_trials(data, open_mnn("rootsift"), options=options, num_overlapping=2, num_wrong=2)
    )
    assert len(tried) == 2
    for photo, trials in enumerate(tried):
        assert [one.photo for one in trials] == [photo] * len(trials)
        assert [one.overlap > 0 for one in trials[-2:]] == [False, False]
        best, *others = trials
        assert best.overlap == max(one.overlap for one in trials)
        assert best.is_match, best.reason
        assert best.is_right
        assert len(best.inliers) == len(best.errors) == len(best.overlaps) == 2
        assert best.errors[-1] < 0.02
        assert best.overlaps[-1] > 0.95
        assert best.seconds > 0
        assert all(one.inliers[-1] < best.inliers[-1] for one in others[-2:] if one.is_match)
    # Given up after a round that few points agree in.
    hasty = CoregisterOptions(side_px=SIDE, num_iterations=2, first_inliers=10**6)
    look = CoregisterOptions(side_px=SIDE, num_iterations=2, first_inliers=5, look_px=64)
    (same, *_), _ = run_trials(
        data, open_mnn("rootsift"), options=look, num_overlapping=1, num_wrong=0
    )
    assert same.inliers == tried[0][0].inliers
    blind = CoregisterOptions(side_px=SIDE, first_inliers=10**6, look_px=64)
    (unseen, *_), _ = run_trials(
        data, open_mnn("rootsift"), options=blind, num_overlapping=1, num_wrong=0
    )
    assert "first look" in unseen.reason
    assert unseen.inliers == ()
    (given_up, *_), _ = run_trials(
        data, open_mnn("rootsift"), options=hasty, num_overlapping=1, num_wrong=0
    )
    assert "asked for to go on" in given_up.reason
    assert len(given_up.inliers) == 1


def trial(photo: int, inliers: int, *, is_right: bool, reason: str = "") -> Trial:
    return Trial(photo, "t", 0.5 * is_right, (inliers,), (0.0,), (1.0,), reason, is_right, 0.1)


def test_each_photo_is_judged_by_a_threshold_fitted_without_it():
    trials = [trial(photo, 300 + 10 * photo, is_right=True) for photo in range(10)]
    trials += [trial(photo, 5 + photo % 4, is_right=False) for photo in range(10)]
    found = compare_trials(trials)
    assert (found.num_photos, found.num_located, found.num_right) == (10, 10, 10)
    assert (found.wrong_accepted, found.wrong_unchecked, found.num_wrong) == (0, 10, 10)
    assert 9 < found.threshold < 300
    # A wrong candidate with many inliers is accepted where its own photo is left out of the fit.
    odd = [*trials, trial(3, 500, is_right=False), trial(11, 3, is_right=False, reason="folded")]
    worse = compare_trials(odd)
    assert worse.wrong_accepted >= 1
    assert worse.num_right < worse.num_located
    assert worse.wrong_unchecked == 11


def test_rounds_and_first_overlaps_of_right_candidates():
    """Means over those that went on; what is wrong, no match or shares nothing is left out of
    them."""
    wrong = Trial(0, "t", 0.5, (9,), (7.0,), (0.1,), "", False, 0.1)
    none = Trial(0, "t", 0.1, (2,), (8.0,), (0.1,), "no match", False, 0.1)
    stranger = Trial(0, "t", 0.0, (9,), (9.0,), (0.1,), "", True, 0.1)
    short = Trial(1, "t", 0.25, (50,), (0.4,), (0.6,), "", True, 0.1)
    long = Trial(2, "t", 1.0, (50, 60), (0.2, 0.1), (0.8, 0.9), "", True, 0.1)
    after = after_rounds([wrong, none, stranger, short, long])
    assert np.allclose(after, [(0.3, 0.7), (0.1, 0.9)])
    assert by_first_overlap([wrong, none, stranger, short, long], (0.0, 0.25, 0.6, 1.0)) == [
        (1, 0),
        (2, 1),
        (1, 1),
    ]
    assert after_rounds([none]) == []


def test_the_study_of_matchers(earth, tmp_path):
    options = {
        "data": str(earth),
        "matchers": "rootsift-mnn",
        "loops": "ours theirs",
        "side": SIDE,
        "rounds": 2,
        "photos": 1,
    }
    found = run_study(get_study("earthmatch"), out=tmp_path / "s", options=options)
    ours, theirs = found.runs
    assert ours.is_done, ours.reason
    assert ours.values["located and right"].value == 1
    assert ours.values["photos"].value == 1
    assert ours.values["corners off, round 2"].value == ours.values["corners off"].value
    assert "published" in theirs.reason
    assert (
        len(
            (tmp_path / "s" / "work" / "trials" / "matcher=rootsift-mnn,loop=ours.json")
            .read_text()
            .splitlines()
        )
        >= 3
    )
    with pytest.raises(BadOption, match="data"):
        run_study(get_study("earthmatch"), out=tmp_path / "t", options={})
