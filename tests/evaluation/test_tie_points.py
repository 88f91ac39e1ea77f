"""Pairs with tie points: how sets are read, the published metrics and intervals, statuses, and the
command."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import draw_place
from whence.cli import run
from whence.data.registration_sets import TiePair, read_registration_set, tie_grid
from whence.errors import NoPhotos, UnreadableTable
from whence.evaluation.tie_points import (
    MatchedPair,
    PairScore,
    bootstrap_by_group,
    evaluate_pairs,
    group_seed,
    score_pair,
    summarise,
)
from whence.localize.register import Box, MatchedTiles, RegisterOptions, TileMatches
from whence.matching.matchers import open_mnn
from whence.types import PointPairs

SIDE = 192
MATRIX = np.array([[1.0, 0.02, 4.0], [-0.02, 1.0, -3.0], [0, 0, 1]])


def test_tie_points_of_an_affine_map():
    ties = tie_grid(
        np.array([[1.1, 0.2, -20], [-0.15, 0.95, 30], [0, 0, 1]]), (500, 400), (480, 420)
    )
    assert len(ties) == 307
    assert ties[0] == pytest.approx([26.263158, 0, 8.889474, 26.060526], abs=1e-5)
    assert ties[-1] == pytest.approx([367.684211, 399, 464.252632, 353.897368], abs=1e-5)
    assert ties[:, 2:].mean(axis=0) == pytest.approx([239.062541, 194.686319], abs=1e-5)


@pytest.mark.parametrize(
    ("group", "seed", "mean"),
    [
        ("roma|zscore|tiled", 443563185890572656, (2.299583, 5.266667)),
        ("sift-lg|percentile|full", 4371552224104847553, (2.333333, 5.267083)),
    ],
)
def test_the_published_intervals(group, seed, mean):
    assert group_seed(group) == seed
    failed = np.array([0, 0, 1, 0, 0, 0, 0.0])
    errors = np.array([2.1, 3.4, np.nan, 1.9, 7.7, 2.8, 3.0])
    found = bootstrap_by_group(
        [failed, errors, np.array([np.nan, 4.0]), np.array([np.nan])], group=group
    )
    assert found[0] == pytest.approx((0, 0.428571), abs=1e-6)
    assert found[1] == pytest.approx(mean, abs=1e-6)
    assert found[2] == (4.0, 4.0)
    assert np.isnan(found[3]).all()


def test_failed_pairs_stand_beside_the_mean():
    good = PairScore("a", "k", "ok", np.array([0.5, 1, 1.5, 4, 12]), native=2.0)
    failed = PairScore("b", "k", "no_tiles", np.zeros(0))
    found = summarise([good, failed], group="m|n|tiled")
    assert found.within == pytest.approx((0.4, 0.6, 0.6, 0.8, 0.8))
    assert found.penalised == pytest.approx((0.2, 0.3, 0.3, 0.4, 0.4))
    assert (found.failure_rate, found.mean_px, found.mean_native_px) == pytest.approx(
        (0.5, 3.8, 7.6)
    )
    assert found.median_px == np.inf
    nothing = summarise([failed], group="m|n|tiled")
    assert np.isnan(nothing.mean_px)
    assert nothing.penalised == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("points1", "ties", "status"),
    [
        ("shifted", [[10, 10, 13, 10]], "ok"),
        ("none", [[10, 10, 13, 10]], "no_tiles"),
        ("shifted", [[10, 10, 3e6, 3e6]], "unstable_homography"),
        ("tilted", [[-900, 60, 0, 0]], "invalid_projection"),
    ],
)
def test_the_published_statuses(points1, ties, status):
    grid = (
        np.stack(np.meshgrid(np.arange(10, 110, 20), np.arange(10, 110, 20)), axis=-1)
        .reshape(-1, 2)
        .astype(float)
    )
    there = grid + np.array([3, 0])
    if points1 == "tilted":
        there = cv2.perspectiveTransform(
            grid[None], np.array([[1, 0, 0], [0, 1, 0], [2e-3, 0, 1.0]])
        )[0]
    if points1 == "none":
        grid, there = grid[:0], there[:0]
    size, box = (128, 128), Box(0, 0, 128, 128)
    matched = MatchedTiles(
        (TileMatches(box, box, PointPairs(grid, there, size, size, (9, 9))),), size, size, 1
    )
    pair = TiePair("a", "k", Path("a"), Path("b"), np.array(ties, float))
    score = score_pair(
        MatchedPair(pair, matched, pair.ties, 1.0), RegisterOptions("homography", tile_px=0)
    )
    assert score.status == status
    assert (len(score.errors_px) > 0) == (status == "ok")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """The same pair in every form, and one that does not match."""
    root = tmp_path_factory.mktemp("pairs")
    moving = cv2.GaussianBlur(draw_place(8, width=SIDE, height=SIDE), (0, 0), 0.7)
    fixed = cv2.warpPerspective(moving, MATRIX, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
    ties = tie_grid(MATRIX, (SIDE, SIDE), (SIDE, SIDE))
    numbers = [f"{value:.6f}" for value in MATRIX[:2].ravel()]
    for folder in ("space", "Optical-SAR", "table", "marks"):
        (root / folder).mkdir()
    for name, image in (("sar", moving), ("optical", fixed)):
        cv2.imwrite(str(root / "space" / f"case_{name}_train_1.tif"), image[..., ::-1])
    rows = [f"{y:.4f},{x:.4f},{v:.4f},{u:.4f}" for x, y, u, v in ties]
    (root / "space" / "case_tiepoints_train_1.csv").write_text(
        "\n".join(["sar_row,sar_col,optical_row,optical_col", *rows])
    )
    for number, image in (("1", moving), ("2", fixed)):
        cv2.imwrite(str(root / "Optical-SAR" / f"pair7_{number}.png"), image[..., ::-1])
        cv2.imwrite(str(root / "table" / f"9_{number}.png"), image[..., ::-1])
        cv2.imwrite(str(root / "marks" / f"m{number}.png"), image[..., ::-1])
    (root / "Optical-SAR" / "gt_7.txt").write_text(" ".join(numbers))
    (root / "table" / "gt.csv").write_text(
        f"image_1,image_2,a11,a12,tx,a21,a22,ty\n9_1.png,9_2.png,{','.join(numbers)}\n"
    )
    marks = {
        "m": {
            "files": {"I_move": "x/m1.png", "I_fix": "x/m2.png"},
            "mov": ties[:, :2].tolist(),
            "fix": ties[:, 2:].tolist(),
        }
    }
    (root / "marks" / "gt.json").write_text(json.dumps(marks))
    return root


def test_every_form_is_read_and_registered(pairs):
    found = read_registration_set(pairs)
    assert [pair.kind for pair in found] == ["Optical-SAR", "marks", "case", "table"]
    assert {len(pair.ties) for pair in found} == {len(found[0].ties)}
    options = RegisterOptions(tile_px=128, overlap_px=64)
    scores = list(evaluate_pairs(found[:1], open_mnn("rootsift"), options))
    assert scores[0].is_ok
    assert scores[0].errors_px.mean() < 1
    assert scores[0].num_tiles > 1
    # Of the file at half its size errors are half as large in pixels as matched, and as large in
    # those of the file.
    (small,) = evaluate_pairs(
        found[2:3], open_mnn("rootsift"), RegisterOptions(tile_px=0), max_side_px=SIDE // 2
    )
    assert small.native == 2
    assert small.errors_px.mean() < 1
    three = pairs / "Optical-SAR" / "gt_7.txt"
    three.write_text(" ".join([*three.read_text().split()[:6], "0", "0", "1"]))
    assert read_registration_set(pairs / "Optical-SAR")[0].ties == pytest.approx(found[0].ties)


def test_the_command(pairs, capsys):
    ways = ["--option", "matcher=rootsift-mnn", "--option", "tile_px=0"]
    assert (
        run(
            [
                "evaluate",
                str(pairs),
                "--protocol",
                "registration",
                *ways,
                "--option",
                "max_keypoints=500",
                "--json",
            ]
        )
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["matcher"], found["tile_px"], found["failed"]) == ("rootsift-mnn", 0, [])
    assert set(found["kinds"]) == {"Optical-SAR", "marks", "case", "table", "all"}
    assert found["kinds"]["all"]["num_pairs"] == 4
    assert found["kinds"]["all"]["mean_px"] < 1
    assert found["kinds"]["all"]["penalised@5"] > 0.9
    assert run(["evaluate", str(pairs / "marks"), "--protocol", "registration", *ways]) == 0
    assert "mean px" in capsys.readouterr().out
    for wrong, message in (
        ("geometry=thing", "geometry"),
        ("max_side_px=-1", "max_side_px"),
        ("nothing=1", "nothing"),
    ):
        assert run(["evaluate", str(pairs), "--protocol", "registration", "--option", wrong]) == 1
        assert message in capsys.readouterr().err


def test_what_is_no_set_and_what_cannot_be_read(pairs, tmp_path, capsys):
    with pytest.raises(NoPhotos, match="tie points"):
        read_registration_set(tmp_path)
    for name, text in (
        ("gt.json", "{"),
        ("gt.json", '{"a": {"files": {}}}'),
        ("gt.csv", "image_1,image_2\na,b\n"),
        ("gt_1.txt", "1 2 3"),
        ("gt_1.txt", "1 0 0 0 1 0"),
        ("gt_1.txt", "1 0 x 0 1 0"),
        ("c_tiepoints_train_1.csv", "a,b\n1,2\n"),
        ("c_tiepoints_train_1.csv", "sar_row,sar_col,optical_row,optical_col\n1,2,3,\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(UnreadableTable, match=name):
            read_registration_set(tmp_path)
        (tmp_path / name).unlink()
    pair = read_registration_set(pairs / "space")[0]
    broken = TiePair("b", "k", tmp_path / "no.png", pair.fixed, pair.ties)
    (score,) = evaluate_pairs([broken], open_mnn("rootsift"), RegisterOptions())
    assert not score.is_ok
    assert score.status
