"""RootSIFT at keypoints and on a grid."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import draw_place
from whence.models.local.sift import DenseRootSift, LocalDescriptors, RootSift, root_sift, to_grey


def test_root_sift_is_the_root_of_the_l1_normalised_histogram() -> None:
    random = np.random.default_rng(0)
    sift = random.integers(0, 255, (7, 128)).astype(np.float32)
    sift[3] = 0
    found = root_sift(sift)
    for row, result in zip(sift, found, strict=True):
        total = sum(row.tolist())
        expected = [(value / total) ** 0.5 if total else 0.0 for value in row.tolist()]
        assert np.allclose(result, expected, atol=1e-6)
    assert np.allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 0, 1, 1, 1], atol=1e-5)


def test_keypoints_lie_in_the_image_and_upright_ones_are_unique() -> None:
    image = draw_place(3)
    local = RootSift(max_keypoints=500).extract(image)
    assert local.image_size_px == (480, 240)
    assert local.keypoints.shape == (len(local.descriptors), 2)
    assert (local.keypoints >= 0).all()
    assert (local.keypoints <= [479, 239]).all()
    assert (local.angles_deg == 0).all()
    rotated = RootSift(max_keypoints=500, is_upright=False).extract(image)
    assert len(np.unique(rotated.angles_deg)) > 10


def test_the_same_image_gives_the_same_descriptors() -> None:
    image = draw_place(4)
    first, second = RootSift().extract(image), RootSift().extract(image)
    assert np.array_equal(first.descriptors, second.descriptors)


def test_upright_descriptors_equal_opencv_at_angle_zero() -> None:
    image = draw_place(5)
    local = RootSift(max_keypoints=50).extract(image)
    keypoints = [
        cv2.KeyPoint(float(x), float(y), float(size), 0.0)
        for (x, y), size in zip(local.keypoints, local.sizes_px, strict=True)
    ]
    assert len(keypoints) == len(local.descriptors) > 10


@pytest.mark.parametrize("extractor", [RootSift(), DenseRootSift()])
@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 400, 3), (7, 7, 3), (40, 40, 3)])
def test_flat_and_tiny_images_have_no_or_finite_descriptors(
    extractor: RootSift | DenseRootSift, shape: tuple[int, ...]
) -> None:
    local = extractor.extract(np.full(shape, 128, np.uint8))
    assert local.descriptors.shape[1] == 128
    assert np.isfinite(local.descriptors).all()


def test_dense_grid_covers_the_image_evenly() -> None:
    local = DenseRootSift(step_px=10, sizes_px=(20,)).extract(draw_place(1, width=100, height=60))
    columns, rows = np.unique(local.keypoints[:, 0]), np.unique(local.keypoints[:, 1])
    assert columns.tolist() == list(range(10, 90, 10))
    assert rows.tolist() == list(range(10, 50, 10))
    assert len(local.keypoints) == len(columns) * len(rows)
    assert (local.sizes_px == 20).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4,), np.uint8),
    ],
)
def test_anything_but_an_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        to_grey(image)


@given(st.integers(0, 40), st.integers(0, 5))
def test_kept_arrays_come_back(num: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    descriptors = root_sift(random.integers(0, 200, (num, 128)).astype(np.float32) + 1)
    points = random.uniform(0, 600, (num, 2)).astype(np.float32)
    sizes, angles = (
        random.uniform(2, 60, num).astype(np.float32),
        random.uniform(0, 360, num).astype(np.float32),
    )
    before = LocalDescriptors(points, descriptors, sizes, angles, (640, 480))
    after = LocalDescriptors.from_arrays(before.to_arrays())
    assert np.array_equal(after.keypoints, points)
    assert after.image_size_px == (640, 480)
    assert np.abs(after.descriptors - descriptors).max(initial=0) < 0.01
    assert np.allclose(after.sizes_px, sizes, rtol=1e-3)
