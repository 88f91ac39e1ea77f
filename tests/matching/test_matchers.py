"""Matching of local descriptors, whole images and the scorer of candidates."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import whence
from conftest import draw_place, view_of, write_photo
from whence.cli import run
from whence.data.images import load_image
from whence.data.pictures import INLIER_RGB, draw_match
from whence.errors import BadOption, UnknownName, UnreadableImage
from whence.matching.evidence import LEAST_CONFIDENCE
from whence.matching.matchers import MatchOptions, MutualNearest, match_descriptors, match_images
from whence.matching.scorers import InlierScorer
from whence.parts import PairScorer
from whence.registry import build, get_card


def unit_rows(num: int, seed: int, dim: int = 16) -> np.ndarray:
    rows = np.abs(np.random.default_rng(seed).normal(size=(num, dim))).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def slow_matches(a: np.ndarray, b: np.ndarray, ratio: float) -> list[tuple[int, int]]:
    gaps = np.linalg.norm(a[:, None].astype(float) - b[None].astype(float), axis=2)
    pairs = []
    for i in range(len(a)):
        near, next_one = np.argsort(gaps[i])[:2]
        if gaps[i, near] < ratio * gaps[i, next_one] and np.argmin(gaps[:, near]) == i:
            pairs.append((i, int(near)))
    return pairs


@pytest.mark.parametrize("ratio", [0.7, 0.8, 1.0])
def test_matches_are_mutual_and_pass_the_ratio_test(ratio: float) -> None:
    b = unit_rows(400, 1)
    a = np.concatenate([b[:300] + 0.05 * unit_rows(300, 2), unit_rows(300, 3)])
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    pairs = match_descriptors(a, b, ratio=ratio)
    expected = slow_matches(a, b, ratio)
    assert len(expected) > 50
    assert list(zip(pairs.rows0.tolist(), pairs.rows1.tolist(), strict=True)) == expected


def test_nothing_to_match() -> None:
    some, none = unit_rows(5, 0), np.zeros((0, 16), np.float32)
    for a, b in ((some, none), (none, some), (none, none), (some, some[:1])):
        assert len(match_descriptors(a, b).rows0) == 0


def test_equal_descriptors_are_matched_once() -> None:
    b = unit_rows(50, 4)
    pairs = match_descriptors(np.concatenate([b[:1], b[:1], b[1:20]]), b)
    assert len(np.unique(pairs.rows1)) == len(pairs.rows1) == 20
    assert 1 not in pairs.rows0


def warped_pair(shift: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, another of other size, and the homography between them."""
    image = draw_place(11, width=700, height=500)
    matrix = np.array([[0.9, 0.05, shift], [-0.04, 0.95, 20], [5e-5, 2e-5, 1]])
    return (
        image,
        cv2.warpPerspective(image, matrix, (640, 520), borderMode=cv2.BORDER_REFLECT),
        matrix,
    )


@pytest.mark.parametrize("long_side", [320, 512, 2000])
def test_the_homography_is_in_pixels_of_the_originals(long_side: int) -> None:
    image0, image1, matrix = warped_pair()
    found = match_images(image0, image1, options=MatchOptions(long_side_px=long_side))
    assert found.matrix is not None
    assert found.size0_px == (700, 500)
    assert found.size1_px == (640, 520)
    corners = np.array([[0, 0], [699, 0], [699, 499], [0, 499]], np.float64)[None]
    gap = cv2.perspectiveTransform(corners, matrix) - cv2.perspectiveTransform(
        corners, found.matrix
    )
    assert np.abs(gap).max() < 0.01 * 700
    ends = cv2.perspectiveTransform(found.points0[None], matrix)[0]
    residuals = np.linalg.norm(ends - found.points1, axis=1)[found.is_inlier]
    # Half a pixel of bias would show: coordinates of pixel centres are carried through the resize.
    assert np.median(residuals) < 0.45 * max(1, 700 / long_side)
    assert found.num_inliers > 30
    assert found.coverage > 0.5


def test_the_fundamental_matrix_is_in_pixels_of_the_originals() -> None:
    image0, image1, _ = warped_pair()
    found = match_images(
        image0, image1, options=MatchOptions(geometry="fundamental", long_side_px=400)
    )
    assert found.matrix is not None
    lines = np.c_[found.points0, np.ones(found.num_matches)] @ found.matrix.T
    gaps = np.abs(
        (lines * np.c_[found.points1, np.ones(found.num_matches)]).sum(axis=1)
    ) / np.linalg.norm(lines[:, :2], axis=1)
    assert np.median(gaps[found.is_inlier]) < 2.5


def test_files_bytes_and_pixels_match_alike(tmp_path: Path) -> None:
    image0, image1, _ = warped_pair()
    first, second = write_photo(tmp_path / "a.png", image0), write_photo(tmp_path / "b.png", image1)
    whole = MatchOptions(long_side_px=1000)
    from_files, from_pixels = (
        match_images(first, second.read_bytes(), options=whole),
        match_images(image0, image1, options=whole),
    )
    assert np.array_equal(from_files.points0, from_pixels.points0)
    assert np.array_equal(from_files.is_inlier, from_pixels.is_inlier)
    with pytest.raises(UnreadableImage):
        match_images(first, b"text")
    with pytest.raises(BadOption):
        match_images(first, np.zeros((5, 5), np.uint8))


def test_turned_images_match_when_asked_to() -> None:
    image = draw_place(5, width=400, height=400)
    turned = np.ascontiguousarray(np.rot90(image))
    assert match_images(image, turned, options=MatchOptions(is_upright=False)).num_inliers > 40
    assert not match_images(image, turned, options=MatchOptions(is_upright=True)).is_match
    # Where nothing is said both ways are tried.
    assert match_images(image, turned).num_inliers > 40


def test_other_places_and_flat_images_do_not_match() -> None:
    a, b, flat = draw_place(1), draw_place(2), np.full((200, 300, 3), 90, np.uint8)
    assert match_images(a, b).num_inliers < 10
    nothing = match_images(a, flat)
    assert (nothing.num_matches, nothing.num_inliers, nothing.matrix) == (0, 0, None)
    assert nothing.points0.shape == (0, 2)
    assert "matches" in nothing.reason


@pytest.mark.parametrize(
    "options",
    [
        {"long_side_px": 4},
        {"ratio": 0.0},
        {"ratio": 1.5},
        {"geometry": "cone"},
        {"max_keypoints": 0},
    ],
)
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(BadOption):
        MatchOptions(**options)  # type: ignore[arg-type]


def test_the_scorer_finds_the_right_candidate() -> None:
    scorer = build("scorer", "inliers")
    assert isinstance(scorer, PairScorer)
    assert get_card("inliers", kind="scorer").preprocessing.long_side_px == 640
    query = scorer.prepare(view_of(draw_place(7), shift=20, seed=1))
    candidates = [
        scorer.prepare(view_of(draw_place(place), shift=0, seed=0)) for place in (3, 7, 4)
    ]
    found = list(scorer.score(query, [*candidates[:2], None, candidates[2]]))
    assert found[2] is None
    assert found[1].num_inliers == found[1].similarity > 30
    assert (found[0].similarity, found[3].similarity) == (0, 0)
    assert found[1].coverage > 0.5
    assert found[1].num_matches >= found[1].num_inliers


def test_a_candidate_that_cannot_win_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from whence.matching import scorers

    scorer = InlierScorer(noise_inliers=2, stop_share=0.25)
    best = scorer.prepare(view_of(draw_place(7), shift=0, seed=0))
    query = scorer.prepare(view_of(draw_place(7), shift=20, seed=1))
    other = scorer.prepare(view_of(draw_place(9), shift=0, seed=0))
    calls = []
    real = scorers.fit_geometry
    monkeypatch.setattr(scorers, "fit_geometry", lambda *a, **k: calls.append(1) or real(*a, **k))
    late = list(scorer.score(query, [best, other]))[1]
    assert len(calls) == 1
    assert late.is_stopped
    # It was not compared to the end, so nobody knows.
    assert late.num_inliers is None
    early = next(scorer.score(query, [other]))
    assert len(calls) == 2
    assert not early.is_stopped


def test_the_scorer_takes_candidates_one_by_one() -> None:
    scorer = InlierScorer()
    flat = scorer.prepare(np.zeros((50, 50, 3), np.uint8))
    asked = []

    def candidates():
        for number in range(5):
            asked.append(number)
            yield flat

    next(scorer.score(flat, candidates()))
    assert asked == [0]


def test_the_key_names_what_counts_depend_on() -> None:
    keys = {
        InlierScorer().key,
        InlierScorer(MutualNearest(ratio=0.7)).key,
        InlierScorer(noise_inliers=3).key,
    }
    assert len(keys) == 2
    with pytest.raises(UnknownName, match="inliers"):
        build("scorer", "inlierz")


def test_the_picture_shows_the_matches() -> None:
    image0, image1, _ = warped_pair()
    found = whence.match_images(image0, image1)
    picture = draw_match(image0, image1, found, height_px=240)
    assert picture.shape[0] == 240
    assert (picture == INLIER_RGB).all(axis=2).sum() > 100
    unmatched = draw_match(
        image0,
        image1,
        whence.match_images(image0, np.full((50, 50, 3), 9, np.uint8)),
        height_px=240,
    )
    assert not (unmatched == INLIER_RGB).all(axis=2).any()


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image0, image1, _ = warped_pair()
    a, b = (
        str(write_photo(tmp_path / name, image))
        for name, image in (("a.png", image0), ("b.png", image1))
    )
    assert run(["match", a, b, "--json", "--picture", str(tmp_path / "out.png")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["is_match"], record["confidence"] > 0.99) == (True, True)
    assert record["num_inliers"] == len(record["inliers0"]) > 40
    assert np.array(record["matrix"]).shape == (3, 3)
    assert load_image(tmp_path / "out.png").shape[0] == 480
    assert run(["match", a, b]) == 0
    assert "inliers of" in capsys.readouterr().out
    strange = str(write_photo(tmp_path / "c.png", draw_place(99, width=640, height=520)))
    assert run(["match", a, strange, "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert (record["is_match"], record["matrix"], record["num_inliers"], record["inliers0"]) == (
        False,
        None,
        0,
        [],
    )
    assert record["confidence"] < 0.5
    assert run(["match", a, strange]) == 3
    assert "no match" in capsys.readouterr().out
    assert run(["match", a, str(tmp_path / "none.jpg")]) == 1
    assert run(["match", a, b, "--picture", str(tmp_path / "no folder" / "x.png")]) == 1
    assert run(["match", a, b, "--geometry", "cone"]) == 1


@pytest.mark.parametrize("geometry", ["homography", "affine", "similarity", "fundamental"])
@pytest.mark.parametrize("matcher", ["rootsift-mnn", "orb-mnn"])
def test_unrelated_images_are_no_match_by_any_geometry(geometry: str, matcher: str) -> None:
    options = MatchOptions(geometry=geometry, matcher=matcher)  # type: ignore[arg-type]
    for seed in range(6):
        found = match_images(draw_place(seed), draw_place(seed + 50), options=options)
        assert (found.is_match, found.matrix, found.num_inliers) == (False, None, 0)
        assert found.confidence is not None
        assert found.confidence < LEAST_CONFIDENCE
        assert found.reason


def test_a_matcher_without_a_fitted_probability_is_not_verified() -> None:
    image0, image1, _ = warped_pair()
    found = match_images(image0, image1, matcher=MutualNearest())
    assert found.is_match
    assert found.confidence is None
    assert not match_images(image0, draw_place(77), matcher=MutualNearest()).is_match


@pytest.mark.real
def test_real_pairs_agree_with_their_ground_truth(real_data: Path) -> None:
    """Homography pairs of a published set: most are mapped to within a few pixels."""
    folder = real_data / "oxford-graf"
    files = sorted(file for file in folder.iterdir() if file.suffix in (".ppm", ".png", ".jpg"))
    truth = np.loadtxt(next(iter(sorted(folder.glob("H1to*")))))
    found = match_images(
        load_image(files[0]), load_image(files[1]), options=MatchOptions(long_side_px=1000)
    )
    assert found.matrix is not None
    ends = cv2.perspectiveTransform(found.points0[found.is_inlier][None], truth)[0]
    assert np.median(np.linalg.norm(ends - found.points1[found.is_inlier], axis=1)) < 3


@pytest.mark.real
@pytest.mark.slow
def test_wide_baselines_are_matched_rightly_or_not_at_all(real_data: Path) -> None:
    """Views that need keypoints by orientation, views that need them upright, and views that
    nothing here can match."""

    def ends_error(name0: str, name1: str, truth: np.ndarray, points: np.ndarray) -> float | None:
        found = match_images(real_data / name0, real_data / name1)
        assert found.confidence is not None
        if not found.is_match:
            return None
        gap = cv2.perspectiveTransform(points[None], truth) - cv2.perspectiveTransform(
            points[None], found.matrix
        )
        return float(np.median(np.linalg.norm(gap[0], axis=1)))

    grid = np.stack(
        np.meshgrid(np.linspace(200, 600, 5), np.linspace(150, 450, 5)), axis=-1
    ).reshape(-1, 2)
    for number in (4, 5):
        truth = np.loadtxt(real_data / "oxford-graf" / f"H1to{number}p")
        error = ends_error("oxford-graf/img1.png", f"oxford-graf/img{number}.png", truth, grid)
        assert error is not None
        assert error < 5
    for row in json.loads((real_data / "evd" / "gt.json").read_text()):
        error = ends_error(
            f"evd/{row['pair']}_1.jpg", f"evd/{row['pair']}_2.jpg", np.array(row["H_1_to_2"]), grid
        )
        assert error is None or error < 5
    for file in sorted((real_data / "wxbs" / "queries").iterdir())[:6]:
        options = MatchOptions(geometry="fundamental")
        assert not match_images(
            file, real_data / "wxbs" / "database" / "WGLBS-church.jpg", options=options
        ).is_match
