"""Scores of the re-ranking benchmark, chains of scorers, ORB, results of vismatch, and what the
verb says of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from conftest import draw_place, view_of, write_photo
from matcher_samples import check_matcher, check_scorer, corner_error, warped_pair
from whence.cli import run
from whence.data.photos import Photos
from whence.errors import BadOption, InputError, UnknownName
from whence.localize.prepared_photos import PreparedPhotos
from whence.localize.rerank import rerank
from whence.localize.rerank_options import RerankOptions, rerank_options
from whence.matching.chain import ChainScorer, StagedArrays, part_of
from whence.matching.matchers import (
    MatchOptions,
    MutualNearest,
    match_descriptors,
    match_images,
    open_mnn,
)
from whence.matching.scorers import InlierScorer, PatchScorer, SpatialScorer
from whence.matching.spatial import (
    LevelPoints,
    levels_score,
    mutual_pairs,
    ransac_score,
    rapid_score,
)
from whence.matching.vismatch import VismatchMatcher, match_of_vismatch, pairs_of_vismatch
from whence.models.local.sift import LocalDescriptors, Orb, RootSift
from whence.parts import PairScorer
from whence.registry import build, get_card
from whence.settings import Stage, parse_stages
from whence.types import Candidate, PairEvidence, Photo


def fill(num: int, k: int) -> np.ndarray:
    """The specification's rule for numbers that anyone can make again."""
    j = np.arange(num)
    return ((31 * j * j + 17 * j + 101 * k + 7) % 1009) / 1009 - 0.5


def golden_levels() -> tuple[LevelPoints, LevelPoints, np.ndarray]:
    """24 points with descriptors of a query, those of a candidate, and which is which."""
    i = np.arange(24)
    p = (7 * i + 3) % 24
    query = fill(768, 1).reshape(32, 24)
    query = (query / np.linalg.norm(query, axis=0)).astype(np.float32)
    other = query[:, p] + 0.05 * fill(768, 2).reshape(32, 24)
    other = (other / np.linalg.norm(other, axis=0)).astype(np.float32)
    points = np.stack([(37 * i) % 640, (53 * i) % 480], axis=1).astype(np.float64)
    moved = points[p] @ np.array([[1.05, -0.02], [0.03, 0.98]]).T + [12, -9]
    moved[[0, 6, 12, 18]] += 100
    return LevelPoints(points, query.T.copy()), LevelPoints(moved, other.T.copy()), p


def test_the_published_ransac_score() -> None:
    query, candidate, p = golden_levels()
    found = ransac_score(query, candidate, threshold_px=24)
    assert (found.num_matches, found.num_inliers) == (24, 20)
    assert found.similarity == pytest.approx(0.833333, abs=1e-6)
    pairs = mutual_pairs(query, candidate, min_similarity=0.0)
    assert np.array_equal(p[pairs.rows1], pairs.rows0)


def test_the_published_rapid_score() -> None:
    query, candidate, _ = golden_levels()
    assert rapid_score(query, candidate).similarity == pytest.approx(730283.770, abs=1e-2)


def test_the_published_multi_scale_score() -> None:
    query, candidate, p = golden_levels()
    level0, level1 = np.arange(24) % 3, p % 3
    split = [
        [LevelPoints(one.points[level == k], one.descriptors[level == k]) for k in range(3)]
        for one, level in ((query, level0), (candidate, level1))
    ]
    found = levels_score(*split, threshold_px=30)
    assert found.similarity == pytest.approx(0.8875, abs=1e-6)
    assert found.num_inliers == 22


def test_rapid_is_its_formula() -> None:
    random = np.random.default_rng(3)
    descriptors = random.normal(size=(9, 8)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    query, candidate = (LevelPoints(random.uniform(0, 300, (9, 2)), descriptors) for _ in range(2))
    moves = [candidate.points[i] - query.points[i] for i in range(9)]
    mean = sum(moves) / 9
    most_x = max(*query.points[:, 0], *candidate.points[:, 0])
    most_y = max(*query.points[:, 1], *candidate.points[:, 1])
    slow = (
        sum(
            (most_x - abs(m[0] - mean[0])) ** 2 + (most_y - abs(m[1] - mean[1])) ** 2 for m in moves
        )
        / 9
    )
    assert rapid_score(query, candidate).similarity == pytest.approx(slow)


def slow_mutual(query: np.ndarray, candidate: np.ndarray) -> list[tuple[int, int]]:
    """The definition: each is the other's nearest, and of equals the first counts."""
    products = query.astype(np.float64) @ candidate.astype(np.float64).T
    products = np.round(products, 6)
    return [
        (i, int(row.argmax()))
        for i, row in enumerate(products)
        if products[:, row.argmax()].argmax() == i
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [((0, 1), (0, 1, 0, 1)), ((0, 0, 1, 1), (0, 1)), ((0, 1, 2), (2, 2, 0, 0, 1)), ((0,), (0,))],
)
def test_of_equal_descriptors_the_first_counts(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    kinds = np.eye(4, dtype=np.float32)
    one, other = (
        LevelPoints(np.zeros((len(rows), 2)), kinds[list(rows)]) for rows in (first, second)
    )
    pairs = mutual_pairs(one, other)
    assert list(zip(pairs.rows0.tolist(), pairs.rows1.tolist(), strict=True)) == slow_mutual(
        one.descriptors, other.descriptors
    )
    assert len(pairs.rows0) == len(set(first) & set(second))


def test_repeated_points_and_a_single_descriptor_match() -> None:
    """What the ratio test would lose: nobody is clearly nearer than his double. Without one every
    point has its match."""
    query, _, _ = golden_levels()
    rows = [0, 3, 8, 11, 14, 17, 20, 23]
    eight = LevelPoints(query.points[rows], query.descriptors[rows])
    twice = LevelPoints(np.tile(eight.points, (2, 1)), np.tile(eight.descriptors, (2, 1)))
    assert ransac_score(eight, twice, threshold_px=24) == (1.0, 8, 8)
    most = eight.points.max(axis=0)
    assert rapid_score(eight, twice).similarity == pytest.approx(float((most**2).sum()))
    single = LevelPoints(eight.points[:1], eight.descriptors[:1])
    assert ransac_score(eight, single, threshold_px=24) == (1 / 8, 1, 0)
    assert rapid_score(single, single).num_matches == 1


def test_few_and_no_mutual_neighbours() -> None:
    query, candidate, _ = golden_levels()
    none = LevelPoints(np.zeros((0, 2)), np.zeros((0, 32), np.float32))
    assert ransac_score(query, none, threshold_px=24) == (0.0, 0, 0)
    assert rapid_score(none, candidate) == (0.0, 0, 0)
    opposite = LevelPoints(query.points[:3], -query.descriptors[:3])
    three = LevelPoints(query.points[:3], query.descriptors[:3])
    assert ransac_score(three, three, threshold_px=24) == (1.0, 3, 0)
    assert (
        ransac_score(
            LevelPoints(query.points[:1], query.descriptors[:1]), opposite, threshold_px=24
        ).similarity
        <= 1
    )


@pytest.mark.parametrize("name", ["ransac", "rapid", "rapid:3,inliers:2"])
def test_scorers_find_the_right_candidate(name: str) -> None:
    scorer = build("scorer", name)
    assert isinstance(scorer, PairScorer)
    check_scorer(scorer)
    assert "rootsift" in scorer.key


def test_thresholds_and_keypoints_grow_with_the_photo() -> None:
    scorer = build("scorer", "ransac", options={"threshold_px": 12.0, "max_keypoints": 500})
    assert isinstance(scorer, SpatialScorer)
    assert scorer.extractor == RootSift(max_keypoints=500)
    assert scorer.key != build("scorer", "ransac").key
    for options in ({"threshold_px": 0.0}, {"max_keypoints": 0}):
        with pytest.raises(BadOption):
            build("scorer", "ransac", options=options)


class Levels:
    """Patches that stand in the arrays themselves."""

    key = "stated"

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("the arrays are given")

    def patches(self, arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(arrays[f"points{k}"], arrays[f"descriptors{k}"]) for k in range(3)]


def test_patches_are_scored_level_by_level() -> None:
    query, candidate, p = golden_levels()
    given = []
    for one, level in ((query, np.arange(24) % 3), (candidate, p % 3)):
        arrays = {"image_size_px": np.array([640, 480])}
        for k in range(3):
            arrays |= {
                f"points{k}": one.points[level == k],
                f"descriptors{k}": one.descriptors[level == k],
            }
        given.append(arrays)
    found = list(PatchScorer(Levels()).score(given[0], [given[1], None]))
    assert found[1] is None
    assert found[0] is not None
    assert found[0].similarity == pytest.approx(0.8875, abs=1e-6)
    assert found[0].num_inliers == 22
    assert next(PatchScorer(Levels(), "rapid").score(given[0], [given[1]])).similarity > 1000


# Chains.


class StatedScorer:
    """Gives each candidate the similarity its arrays state, and says which were asked."""

    def __init__(self, name: str, *, counts_inliers: bool = False) -> None:
        self.key, self.counts_inliers, self.asked = name, counts_inliers, []

    def prepare(self, image: np.ndarray) -> dict[str, np.ndarray]:
        return {"value": np.array(float(image.mean()))}

    def score(
        self, query: Mapping[str, np.ndarray], candidates: Iterable[Mapping[str, np.ndarray] | None]
    ) -> Iterator[PairEvidence | None]:
        for arrays in candidates:
            value = None if arrays is None else float(arrays["value"])
            self.asked.append(value)
            yield (
                None
                if value is None
                else PairEvidence(value, num_inliers=int(value) if self.counts_inliers else None)
            )


def chain(
    first: list[float | None],
    second: list[float],
    *,
    num: int,
    seconds: float | None = None,
    ticks: Iterator[float],
):
    scorers = (StatedScorer("cheap"), StatedScorer("dear", counts_inliers=True))
    made = ChainScorer(
        (Stage("cheap", len(first), None), Stage("dear", num, seconds)),
        scorers,
        lambda: next(ticks),
    )
    given = [
        None if a is None else {"0/value": np.array(a), "1/value": np.array(b)}
        for a, b in zip(first, second, strict=True)
    ]
    return list(made.score({"0/value": np.array(0), "1/value": np.array(0)}, given)), scorers


def still() -> Iterator[float]:
    while True:
        yield 0.0


def order(found: list[PairEvidence | None]) -> list[int]:
    return sorted(
        range(len(found)),
        key=lambda row: -(found[row].similarity if found[row] is not None else -1),
    )


def test_a_chain_asks_the_dear_scorer_for_the_best_only() -> None:
    found, (cheap, dear) = chain([1, 5, None, 4, 3], [90, 10, 99, 30, 80], num=3, ticks=still())
    assert cheap.asked == [1, 5, None, 4, 3]
    assert dear.asked == [10, 30, 80]
    assert order(found) == [4, 3, 1, 0, 2]
    assert [None if one is None else one.num_inliers for one in found] == [None, 10, None, 30, 80]


def test_ties_of_the_last_stage_keep_the_order_of_the_one_before() -> None:
    found, _ = chain([1, 5, 4], [0, 0, 0], num=3, ticks=still())
    assert order(found) == [1, 2, 0]
    nothing, _ = chain([0, 0], [0, 0], num=2, ticks=still())
    assert [one.similarity for one in nothing if one] == [0, 0]


def test_seconds_of_a_stage_end_it() -> None:
    found, (_, dear) = chain(
        [1, 5, 4], [90, 10, 30], num=3, seconds=1.0, ticks=iter([0.0, 0.0, 0.5, 1.5])
    )
    assert dear.asked == [10, 30]
    assert order(found) == [2, 1, 0]


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("rapid:100,inliers:10", (Stage("rapid", 100), Stage("inliers", 10))),
        ("rapid:100:0.5s, inliers:10:2", (Stage("rapid", 100, 0.5), Stage("inliers", 10, 2.0))),
        ("inliers:7", (Stage("inliers", 7),)),
    ],
)
def test_chains_are_read(text: str, stages: tuple[Stage, ...]) -> None:
    assert parse_stages(text) == stages
    options = rerank_options(text, num_candidates=20)
    assert options.num_candidates == stages[0].num_candidates
    assert [stage.scorer for stage in options.stages] == [stage.scorer for stage in stages]


@pytest.mark.parametrize(
    "text",
    ["inliers:", "inliers:0", "inliers:a", ":5", "rapid:5,inliers:9", "inliers:5:0s", "rapid:5,,"],
)
def test_broken_chains(text: str) -> None:
    with pytest.raises(BadOption):
        parse_stages(text)


def test_options_of_a_chain() -> None:
    options = rerank_options("rapid:9,inliers:3", scorer_options={"inliers.ratio": 0.7})
    prepared = PreparedPhotos.for_options(options, Photos.of([]))
    assert [stage.card.name for stage in prepared.stages] == ["rapid", "inliers"]
    assert "ratio-0.7" in prepared.scorer.key
    assert (
        "ratio-0.7"
        in build("scorer", "rapid:9,inliers:3", options={"options": {"inliers.ratio": 0.7}}).key
    )
    for wrong in ({"ratio": 0.7}, {"geowarp.readout": "exact"}):
        with pytest.raises(BadOption, match="inliers"):
            rerank_options("rapid:9,inliers:3", scorer_options=wrong)
    with pytest.raises(BadOption, match="seconds"):
        rerank_options("rapid:9,inliers:3", max_seconds=2)
    with pytest.raises(UnknownName, match="rapid"):
        RerankOptions("rabid:9,inliers:3")
    card = get_card("rapid:9,inliers:3", kind="scorer")
    assert card.counts_inliers
    assert not get_card("rapid:9", kind="scorer").counts_inliers


def test_stages_prepare_only_what_is_asked(tmp_path: Path) -> None:
    files = [
        write_photo(tmp_path / f"{i}.png", view_of(draw_place(i), shift=0, seed=0))
        for i in range(4)
    ]
    photos = Photos.of([Photo(path=str(file), content=f"{i:032x}") for i, file in enumerate(files)])
    options = rerank_options("rapid:4,inliers:1")
    prepared = PreparedPhotos.for_options(options, photos)
    query = prepared.of_image(view_of(draw_place(2), shift=15, seed=1))
    candidates = [Candidate(str(i), i + 1, 1 - 0.1 * i, row=i) for i in range(4)]
    done = rerank(candidates, query=query, material=prepared, options=options)
    assert done.candidates[0].photo == "2"
    assert [one.num_inliers is not None and one.num_inliers > 8 for one in done.candidates] == [
        True,
        False,
        False,
        False,
    ]
    assert [len(stage._remembered) for stage in prepared.stages] == [4, 0], (
        "both stages need the same keypoints"
    )
    other = rerank_options("rapid:4,inliers:1", scorer_options={"inliers.max_keypoints": 700})
    apart = PreparedPhotos.for_options(other, photos)
    query = apart.of_image(view_of(draw_place(2), shift=15, seed=1))
    assert rerank(candidates, query=query, material=apart, options=other).candidates[0].photo == "2"
    assert [len(stage._remembered) for stage in apart.stages] == [4, 1]
    broken = Photos.of([Photo(path=str(tmp_path / "none.png"), content="0" * 32)])
    assert prepared.over(broken).of_row(0) is None


def test_arrays_of_stages_are_made_once() -> None:
    made = []
    staged = StagedArrays(
        [lambda: made.append(0) or {"a": np.zeros(1)}, lambda: made.append(1) or {"a": np.ones(2)}]
    )
    assert part_of(staged, 1)["a"].tolist() == [1, 1]
    assert made == [1]
    assert sorted(staged) == ["0/a", "1/a"]
    assert staged["0/a"].tolist() == [0]
    assert len(staged) == 2
    assert made == [1, 0]
    assert part_of(dict(staged), 0)["a"].tolist() == [0]


def test_a_chain_orders_an_evaluation(street: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(street), "--rerank", "rapid:6,inliers:3", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (
        record["order"]
        == "rapid:6,inliers:3 among the first 6, geowarp among the first 6 where that says nothing"
    )
    assert record["recalls"][0]["num_right"] == 24
    assert record["answers"] is None
    assert run(["evaluate", str(street), "--rerank", "rapid:6,inliers:9"]) == 1


# Matchers of the core.


@pytest.mark.parametrize("name", ["rootsift-mnn", "orb-mnn"])
def test_matchers_of_the_core(name: str) -> None:
    check_matcher(build("matcher", name))


def test_orb_is_matched_by_hamming_distance() -> None:
    image0, image1, _ = warped_pair()
    a, b = (Orb(300).extract(image) for image in (image0, image1))
    packed = a.to_arrays()
    assert packed["bits"].dtype == np.uint8
    assert packed["bits"].shape[1] == 32
    assert np.allclose(LocalDescriptors.from_arrays(packed).descriptors, a.descriptors)
    pairs = match_descriptors(a.descriptors, b.descriptors, ratio=open_mnn("orb").ratio)
    bits = [np.packbits(one.descriptors > 0, axis=1) for one in (a, b)]
    slow = set()
    forth = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(*bits, k=2)
    back = {m.queryIdx: m.distance for m in cv2.BFMatcher(cv2.NORM_HAMMING).match(bits[1], bits[0])}
    for first, second in forth:
        if first.distance < 0.75 * second.distance and first.distance == back[first.trainIdx]:
            slow.add((first.queryIdx, first.trainIdx))
    found = set(zip(pairs.rows0.tolist(), pairs.rows1.tolist(), strict=True))
    assert len(slow) > 20
    assert found <= slow
    assert len(slow - found) <= 3


def test_match_images_by_name() -> None:
    image0, image1, matrix = warped_pair()
    for name in ("rootsift-mnn", "orb-mnn"):
        found = match_images(image0, image1, options=MatchOptions(matcher=name))
        assert corner_error(found, matrix) < 0.02
    with pytest.raises(UnknownName, match="orb-mnn"):
        MatchOptions(matcher="orb-mmn")
    with pytest.raises(BadOption, match="no weights"):
        match_images(image0, image1, options=MatchOptions(matcher="orb-mnn", weights="x.pth"))


def test_inliers_over_another_matcher() -> None:
    scorer = build(
        "scorer",
        "inliers",
        options={"matcher": "orb-mnn", "geometry": "affine", "max_keypoints": 900},
    )
    assert isinstance(scorer, InlierScorer)
    assert scorer.key.startswith("orb-900/ratio-0.866025/affine")
    assert scorer.extractor == Orb(900)
    assert build("scorer", "inliers").key == InlierScorer(MutualNearest()).key
    for options in (
        {"noise_inliers": 1},
        {"stop_share": 2.0},
        {"geometry": "cone"},
        {"matcher": "orb-mmn"},
    ):
        with pytest.raises((BadOption, UnknownName)):
            build("scorer", "inliers", options=options)


# vismatch.


def dummy(points0: np.ndarray, points1: np.ndarray, **more: object) -> dict[str, object]:
    """A result as the library returns it: inliers found by OpenCV with its settings."""
    matrix, mask = cv2.findHomography(
        points0,
        points1,
        method=cv2.USAC_MAGSAC,
        ransacReprojThreshold=3.0,
        maxIters=2000,
        confidence=0.995,
    )
    rows = mask.ravel().astype(bool)
    empty = np.zeros((0, 2), np.float32)
    return {
        "num_inliers": int(rows.sum()),
        "H": matrix,
        "all_kpts0": empty,
        "all_kpts1": empty,
        "matched_kpts0": points0,
        "matched_kpts1": points1,
        "inlier_kpts0": points0[rows],
        "inlier_kpts1": points1[rows],
        **more,
    }


def golden_pairs() -> tuple[np.ndarray, np.ndarray]:
    """60 points and where a homography takes them, every fourth moved."""
    j = np.arange(60)
    points0 = np.stack([(37 * j) % 211, (53 * j) % 197], axis=1).astype(np.float32)
    mapped = (
        np.c_[points0, np.ones(60)]
        @ np.array([[1.05, -0.02, 12], [0.03, 0.98, -9], [1e-4, -5e-5, 1]]).T
    )
    points1 = mapped[:, :2] / mapped[:, 2:]
    points1[::4] += np.stack([(17 * j) % 90 + 20, (29 * j) % 70 + 15], axis=1)[::4]
    return points0 + 12, points1.astype(np.float32) + 12


def test_results_of_vismatch() -> None:
    points0, points1 = golden_pairs()
    result = dummy(points0, points1, matched_confidences=np.linspace(0, 1, 60))
    found = match_of_vismatch(result, given0_px=(512, 512), given1_px=(512, 512))
    assert found.num_inliers == 45
    assert (found.num_matches, found.num_keypoints) == (60, (60, 60))
    assert np.allclose(found.matrix, result["H"])
    larger = match_of_vismatch(
        result,
        given0_px=(512, 512),
        given1_px=(512, 512),
        size0_px=(1024, 2048),
        size1_px=(512, 512),
    )
    assert larger.num_inliers == 45
    mapped = cv2.perspectiveTransform(larger.points0[None], larger.matrix)[0]
    gaps = np.linalg.norm(mapped - larger.points1, axis=1)
    assert gaps[larger.is_inlier].max() < 0.01
    pairs = pairs_of_vismatch(result, size0_px=(512, 512), size1_px=(512, 100))
    assert len(pairs.points0) == int((points1[:, 1] < 100).sum())
    assert pairs.confidences is not None
    assert len(pairs.confidences) == len(pairs.points0)
    empty = np.zeros((0, 2))
    nothing = match_of_vismatch(
        {"H": None, "matched_kpts0": empty, "matched_kpts1": empty},
        given0_px=(9, 9),
        given1_px=(9, 9),
    )
    assert (nothing.matrix, nothing.num_inliers) == (None, 0)
    assert nothing.reason


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"matched_kpts0": np.zeros((3, 2))},
        {"matched_kpts0": np.zeros((3, 2)), "matched_kpts1": np.zeros((2, 2))},
        {"matched_kpts0": np.ones((3, 3)), "matched_kpts1": np.ones((3, 3))},
        {
            "matched_kpts0": np.ones((3, 2)),
            "matched_kpts1": np.ones((3, 2)),
            "matched_confidences": np.ones(2),
        },
    ],
)
def test_what_is_no_result_of_vismatch(result: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="vismatch"):
        pairs_of_vismatch(result, size0_px=(9, 9), size1_px=(9, 9))


def test_a_matcher_of_vismatch() -> None:
    own = open_mnn("rootsift")

    def call(image0: np.ndarray, image1: np.ndarray) -> dict[str, np.ndarray]:
        images = [
            np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8) for image in (image0, image1)
        ]
        pairs = next(own.match(own.prepare(images[0]), [own.prepare(images[1])]))
        assert pairs is not None
        return {"matched_kpts0": pairs.points0, "matched_kpts1": pairs.points1}

    check_matcher(VismatchMatcher("dummy", call))
    assert VismatchMatcher("dummy", call).key == "pixels/vismatch-dummy"


# The verb.


def test_match_by_scorers_and_matchers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image0, image1, _ = warped_pair()
    a, b = (
        str(write_photo(tmp_path / name, image))
        for name, image in (("a.png", image0), ("b.png", image1))
    )
    for name in ("ransac", "rapid", "rapid:1,inliers:1"):
        assert run(["match", a, b, "--scorer", name, "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["scorer"] == name
        assert record["similarity"] > 0
    assert run(["match", a, b, "--scorer", "ransac"]) == 0
    assert "(ransac)" in capsys.readouterr().out
    assert run(["match", a, b, "--matcher", "orb-mnn", "--geometry", "similarity", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "similarity"
    for wrong in (
        ["--scorer", "ransack"],
        ["--scorer", "ransac", "--picture", "x.png"],
        ["--scorer-option", "a=1"],
    ):
        assert run(["match", a, b, *wrong]) == 1
    assert run(["match", a, b, "--matcher", "orb-mmn"]) == 1
