"""Query modes: which pixels are looked at, and how searches of several crops become one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from whence import cli
from whence.cards import Preprocessing
from whence.errors import BadOption, UnknownName
from whence.evaluation.benchmarks import EvaluationOptions, evaluate
from whence.index.flat import FlatIndex
from whence.models.asking import (
    QUERY_MODES,
    QueryViews,
    ask,
    central_crop,
    cut_five,
    cut_panorama,
    merge_crops,
    parse_views,
)

STEPS = Preprocessing(size_px=(48, 64), interpolation="bilinear")


def slow_merge(
    ids: np.ndarray, distances: np.ndarray, weight: float | None, k: int
) -> tuple[list[int], list[float]]:
    """One query's merge, element by element, as the benchmark describes it."""
    near = {
        (c, r): float(distances[c, r]) for c in range(ids.shape[0]) for r in range(ids.shape[1])
    }
    if weight is not None:
        for n in (1, 5, 10):
            top = [(c, r) for c, r in near if r < n]
            for c, r in top:
                count = sum(ids[place] == ids[c, r] for place in top)
                if count > 1:
                    near[c, r] -= weight * count / n
    found: list[int] = []
    values: list[float] = []
    for place in sorted(near, key=lambda place: (near[place], place)):
        if ids[place] not in found and len(found) < k:
            found.append(int(ids[place]))
            values.append(near[place])
    return found, values


def voting_example() -> tuple[np.ndarray, np.ndarray]:
    """First-column ids 1, 1, 3, 2, 9, all distances 1; the crops that do not begin with 1 have it
    among their first five."""
    ids = np.array(
        [
            [1, *range(100, 119)],
            [1, *range(200, 219)],
            *[[first, 1, *range(300 * first, 300 * first + 18)] for first in (3, 2, 9)],
        ]
    )
    return ids[None], np.ones((1, 5, 20))


def test_the_benchmarks_example_of_voting() -> None:
    # Deep Visual Geo-localization Benchmark, measured: id 1 ends at 0.965.
    ids, distances = merge_crops(*voting_example(), k=20, majority_weight=0.01)
    assert ids[0, 0] == 1
    assert distances[0, 0] == pytest.approx(0.965, abs=1e-6)
    assert distances[0, 1:] == pytest.approx(1, abs=1e-6)
    ids, distances = merge_crops(*voting_example(), k=20)
    assert distances[0] == pytest.approx(1)


@given(
    st.integers(1, 3),
    arrays(np.int64, (5, 12), elements=st.integers(0, 15)),
    arrays(np.float64, (5, 12), elements=st.floats(0, 4, width=16)),
    st.sampled_from([None, 0.01, 0.5]),
)
def test_merging_is_the_slow_merge(
    k: int, ids: np.ndarray, distances: np.ndarray, weight: float | None
) -> None:
    ids = np.array([np.random.default_rng(row).permutation(16)[:12] for row in ids[:, 0]])
    distances = np.sort(distances, axis=1)
    found, values = merge_crops(ids[None], distances[None], k=4 * k, majority_weight=weight)
    expected, expected_values = slow_merge(ids, distances, weight, 4 * k)
    assert found[0].tolist() == expected
    assert values[0] == pytest.approx(expected_values, abs=1e-6)


def test_nothing_found_is_never_an_answer() -> None:
    ids, distances = merge_crops(
        np.array([[[4, -1], [4, 7]]]), np.array([[[0.5, 0.0], [0.4, 0.9]]]), k=3
    )
    assert ids.tolist() == [[4, 7, -1]]
    assert distances[0] == pytest.approx([0.4, 0.9, np.inf])


def test_merged_similarities_are_those_of_the_best_crop() -> None:
    random = np.random.default_rng(0)
    database, crops = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (random.normal(size=(30, 8)), random.normal(size=(5, 8)))
    )
    found = FlatIndex.over(database.astype(np.float32)).search(crops.astype(np.float32), k=10)
    merged = ask(crops, "best").merge(found, k=10)
    best = (database @ crops.T).max(axis=1)
    order = np.argsort(-best)[:10]
    assert merged.ids[0].tolist() == order.tolist()
    assert merged.similarities[0] == pytest.approx(best[order], abs=1e-5)


@pytest.mark.parametrize("size", [(537, 800), (480, 640), (300, 300), (700, 300), (481, 641)])
def test_central_crops_are_the_benchmarks(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.functional")
    image = np.random.default_rng(0).integers(1, 256, (*size, 3), dtype=np.uint8)
    scale = max(480 / size[0], 640 / size[1])
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None].float(), scale_factor=scale
    )[0]
    expected = transforms.center_crop(scaled, [480, 640]).permute(1, 2, 0).numpy().astype(np.uint8)
    assert np.array_equal(central_crop(image, (480, 640)), expected)


def test_a_central_crop_that_is_a_row_short_is_filled() -> None:
    # 537 x 800 scaled by 480 / 537 has 479 rows.
    cropped = central_crop(np.zeros((537, 800, 3), np.uint8), (480, 640), fill=(1.0, 0.5, 0.0))
    filled = np.flatnonzero((cropped[:, 0] == (255, 128, 0)).all(axis=1))
    assert filled.tolist() in ([], [479]), filled
    assert len(filled) == 480 - int(537 * max(480 / 537, 640 / 800))


@pytest.mark.parametrize("size", [(60, 100), (101, 60), (60, 60)])
def test_five_crops_are_those_of_torchvision(size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.functional")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = transforms.five_crop(torch.from_numpy(image).permute(2, 0, 1), [48, 48])
    for ours, theirs in zip(cut_five(image, 48), expected, strict=True):
        assert np.array_equal(ours, theirs.permute(1, 2, 0).numpy())


@given(st.integers(20, 80), st.integers(20, 900))
def test_windows_of_a_panorama_cover_it(height: int, width: int) -> None:
    image = np.broadcast_to(np.arange(width)[None, :, None], (height, width, 3))
    views = cut_panorama(image, 4 / 3)
    lefts, rights = [int(view[0, 0, 0]) for view in views], [int(view[0, -1, 0]) for view in views]
    assert (lefts[0], rights[-1]) == (0, width - 1)
    assert all(view.shape[0] == height for view in views)
    if len(views) > 1:
        window = views[0].shape[1]
        assert abs(window / height - 4 / 3) <= 0.5 / height
        assert all(b - a <= window / 2 + 1 for a, b in itertools.pairwise(lefts))
    else:
        assert width <= 1.25 * 4 / 3 * height + 1


def test_sizes_come_from_the_mode_or_the_card() -> None:
    assert QueryViews("five_crops").size(STEPS) == (48, 64)
    assert QueryViews("five_crops", (30, 41)).size(
        Preprocessing(size_px=(9, 9), multiple_of=14)
    ) == (28, 42)
    assert QueryViews("single_query").reading(STEPS).short_side_px == 48
    assert QueryViews().reading(STEPS) == STEPS
    assert QueryViews(size_px=(10, 20)).reading(Preprocessing(long_side_px=640)).size_px == (10, 20)
    with pytest.raises(BadOption, match="query_size"):
        QueryViews("central_crop").size(Preprocessing())
    with pytest.raises(UnknownName, match="five_crops"):
        QueryViews("five_crop")
    assert parse_views(None, None) is None
    assert parse_views("maj_voting", "480x640") == QueryViews("maj_voting", (480, 640))
    for wrong in ("480", "480x", "ax3", "0x3"):
        with pytest.raises(BadOption, match="size"):
            parse_views("maj_voting", wrong)


@pytest.mark.parametrize("mode", QUERY_MODES)
def test_every_mode_answers(
    mode: str, street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from whence.data.formats import read_folders

    data = read_folders(street)
    result = evaluate(
        "rootsift-vlad", data, options=EvaluationOptions(views=QueryViews(mode, (200, 320)), k=5)
    )
    recall = result.thresholds[1].all_queries[0]
    # Places are 60 m apart and look different: every mode that sees most of a photo finds most of
    # them.
    assert recall.num_right >= 18, recall
    assert f"queries by {mode}" in result.order
    assert (np.diff(result.similarities[:, :5], axis=1) <= 1e-6).all()


def test_modes_on_the_command_line(
    street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    query = str(sorted((street / "queries").iterdir())[3])
    assert (
        cli.run(["index", str(street / "database"), "--db", str(tmp_path / "c.whence"), "-q"]) == 0
    )
    shared = ["locate", query, "--db", str(tmp_path / "c.whence"), "--no-verify", "--json"]
    capsys.readouterr()
    assert cli.run([*shared, "--set", "query_mode=maj_voting", "--set", "query_size=200x320"]) == 0
    voted = capsys.readouterr().out
    assert cli.run(shared) == 0
    plain = capsys.readouterr().out
    assert "0003r0" in voted.split('"rank": 1,')[0]
    assert voted != plain
    assert cli.run([*shared, "--set", "query_mode=maj_voting"]) == 1
    assert "query_size" in capsys.readouterr().err
    assert cli.run([*shared, "--set", "query_mode=voting"]) == 1
    assert "maj_voting" in capsys.readouterr().err
