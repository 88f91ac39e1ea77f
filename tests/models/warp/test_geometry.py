"""Homographies, warps and trapezoids: golden numbers, exactness, gradients, and what degenerate
quadrilaterals do."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.errors import BadOption
from whence.models.warp.geometry import (
    frame,
    homography_to,
    into_quad,
    map_points,
    mirror_quads,
    sound_or_frame,
    warp,
)
from whence.models.warp.pairs import draw_trapezoids, make_view_pairs, shared_trapezoid
from whence.models.warp.quads import FRAME, is_sound

GOLDEN_QUAD = [[(-0.8, -0.6), (0.9, -0.7), (0.7, 0.5), (-0.5, 0.8)]]
NUMBERS = torch.arange(24.0).reshape(1, 1, 4, 6)


def trapezoid(left: float, right: float, ys: list[float]) -> torch.Tensor:
    return torch.tensor([[(left, ys[0]), (right, ys[1]), (right, ys[2]), (left, ys[3])]])


def test_the_homography_is_the_golden_one() -> None:
    expected = [
        [0.711610, 0.024802, 0.153826],
        [-0.108443, 0.644855, 0.099472],
        [0.102903, 0.168866, 1],
    ]
    assert torch.allclose(
        homography_to(torch.tensor(GOLDEN_QUAD))[0], torch.tensor(expected), atol=1e-5
    )
    exact = homography_to(torch.tensor(GOLDEN_QUAD, dtype=torch.float64))[0].numpy()
    peer = cv2.getPerspectiveTransform(np.float32(FRAME), np.float32(GOLDEN_QUAD[0]))
    assert np.allclose(exact, peer, atol=1e-6)


def test_legacy_sampling_is_the_golden_one() -> None:
    rows = [
        [1.9000, 2.8469, 3.6977, 4.4662, 5.1638, 4.4800],
        [9.3799, 9.8569, 10.2913, 10.6887, 11.0535, 11.3896],
        [15.0934, 15.2799, 15.4516, 15.6101, 15.7570, 15.8935],
        [17.1000, 19.6000, 19.6000, 19.6000, 19.6000, 19.6000],
    ]
    found = warp(NUMBERS, torch.tensor(GOLDEN_QUAD), sampling="legacy")[0, 0]
    assert torch.allclose(found, torch.tensor(rows), rtol=0, atol=1e-4)
    rows = [
        [0, 0.35, 0.95, 1.55, 2.15, 1.25],
        [2.5, 5.7, 6.9, 8.1, 9.3, 5.0],
        [6.5, 13.7, 14.9, 16.1, 17.3, 9.0],
        [4.5, 9.35, 9.95, 10.55, 11.15, 5.75],
    ]
    assert torch.allclose(
        warp(NUMBERS, torch.tensor([FRAME]), sampling="legacy")[0, 0], torch.tensor(rows), atol=1e-4
    )


def test_exact_sampling_of_the_whole_frame_changes_nothing() -> None:
    assert torch.allclose(warp(NUMBERS, torch.tensor([FRAME])), NUMBERS, atol=1e-5)
    halves = warp(NUMBERS, torch.tensor([FRAME]), size=(2, 3))
    assert torch.allclose(halves, torch.nn.functional.avg_pool2d(NUMBERS, 2), atol=1e-5)
    with pytest.raises(BadOption, match="legacy"):
        warp(NUMBERS, torch.tensor([FRAME]), sampling="other")  # type: ignore[arg-type]


def test_a_warp_is_opencvs() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (40, 60)).astype(np.float32)
    quad = torch.tensor([[(-0.6, -0.5), (0.7, -0.8), (0.6, 0.7), (-0.8, 0.5)]])
    to_pixels = lambda points: (np.asarray(points, np.float64) + 1) / 2 * [60, 40] - 0.5  # noqa: E731
    matrix = cv2.getPerspectiveTransform(
        np.float32(to_pixels(FRAME)), np.float32(to_pixels(quad[0]))
    )
    columns, rows = np.meshgrid(np.arange(60), np.arange(40))
    at = np.stack([columns, rows, np.ones_like(rows)], -1).reshape(-1, 3) @ matrix.T
    at = (at[:, :2] / at[:, 2:]).astype(np.float32).reshape(40, 60, 2)
    low = np.floor(at).astype(int)
    part = at - low
    slow = np.zeros((40, 60))
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.where(dx, part[..., 0], 1 - part[..., 0]) * np.where(
                dy, part[..., 1], 1 - part[..., 1]
            )
            slow += weight * image[low[..., 1] + dy, low[..., 0] + dx]
    found = warp(torch.from_numpy(image)[None, None], quad)[0, 0].numpy()
    assert np.allclose(found, slow, atol=0.05)


def test_gradients_at_the_whole_frame_are_finite() -> None:
    quads = torch.tensor([FRAME, FRAME], requires_grad=True)
    images = torch.rand(2, 3, 20, 30, requires_grad=True)
    for sampling in ("exact", "legacy"):
        warp(images, quads, sampling=sampling).square().sum().backward()
    assert torch.isfinite(quads.grad).all()
    assert quads.grad.abs().sum() > 0
    assert torch.isfinite(images.grad).all()
    double = torch.tensor([FRAME], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(homography_to, (double,))


def test_unsound_quadrilaterals_become_the_whole_frame() -> None:
    whole = torch.tensor(FRAME)
    bad = {
        "not finite": whole * torch.nan,
        "infinite": whole * torch.inf,
        "mirrored": whole * torch.tensor([-1.0, 1.0]),
        "crossed": whole[[0, 2, 1, 3]],
        "concave": torch.tensor([(-1.0, -1.0), (1.0, -1.0), (-0.5, -0.5), (-1.0, 1.0)]),
        "flat": whole * torch.tensor([1.0, 0.0]),
        "a point": whole * 0,
    }
    for name, quad in bad.items():
        assert not is_sound(quad[None]).item(), name
    turned = torch.stack([whole.roll(1, dims=0), whole * 0.3, whole * 1.5])
    assert is_sound(turned).all()
    mixed = torch.stack([*bad.values(), whole * 0.3])
    repaired = sound_or_frame(mixed)
    assert torch.equal(repaired[:-1], whole.expand(len(bad), 4, 2))
    assert torch.equal(repaired[-1], whole * 0.3)
    assert torch.isfinite(warp(torch.rand(len(mixed), 1, 8, 8), repaired)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-2, 2, width=32), min_size=8, max_size=8))
def test_what_is_sound_does_not_fold(numbers: list[float]) -> None:
    quad = torch.tensor(numbers, dtype=torch.float64).reshape(1, 4, 2)
    if is_sound(quad).item():
        matrix = homography_to(quad)[0]
        depths = torch.tensor(FRAME, dtype=torch.float64) @ matrix[2, :2] + 1
        assert (depths > 0).all()
        assert torch.allclose(map_points(matrix[None], frame(like=quad)[None]), quad, atol=1e-5)


def test_the_shared_trapezoid_is_the_golden_one() -> None:
    a = trapezoid(-0.9, 0.8, [-0.5, -0.7, 0.6, 0.95])
    b = trapezoid(-0.6, 0.95, [-0.8, -0.55, 0.9, 0.7])
    shared = shared_trapezoid(a, b)
    assert torch.allclose(shared, trapezoid(-0.6, 0.8, [-0.535294, -0.574194, 0.6, 0.7]), atol=1e-5)
    on_a = [[(-0.677686, -1), (1, -0.806452), (1, 1), (-0.677686, 0.735537)]]
    on_b = [[(-1, -0.647059), (0.800443, -1), (0.800443, 0.614191), (-1, 1)]]
    assert torch.allclose(into_quad(shared, a), torch.tensor(on_a), atol=1e-5)
    assert torch.allclose(into_quad(shared, b), torch.tensor(on_b), atol=1e-5)


def test_mirroring_is_the_golden_one() -> None:
    expected = [(-2, 3), (-0.0, 1), (-6, 7), (-4, 5), (-10, 11), (-8, 9), (-14, 15), (-12, 13)]
    assert torch.equal(mirror_quads(torch.arange(16.0).reshape(1, 8, 2))[0], torch.tensor(expected))
    quads = draw_trapezoids(3, k=0.8, generator=torch.Generator().manual_seed(1))
    assert is_sound(mirror_quads(quads)).all()
    images = torch.rand(3, 1, 9, 12)
    assert torch.allclose(
        warp(images.flip(3), mirror_quads(quads)), warp(images, quads).flip(3), atol=1e-4
    )


@pytest.mark.parametrize("k", [0.2, 0.6, 1.0])
def test_trapezoids_and_targets(k: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (draw_trapezoids(400, k=k, generator=generator).double() for _ in range(2))
    assert (a.abs() <= 1).all()
    assert (a.abs() >= 1 - k - 1e-6).all()
    assert torch.equal(a[:, 0, 0], a[:, 3, 0])
    assert torch.equal(a[:, 1, 0], a[:, 2, 0])
    assert is_sound(a).float().mean() > 0.95
    shared = shared_trapezoid(a, b)
    for cut in (a, b):
        # Inside: each corner is on the inner side of each edge.
        edges = cut.roll(-1, dims=1) - cut
        offset = shared[:, :, None] - cut[:, None]
        turns = edges[:, None, :, 0] * offset[..., 1] - edges[:, None, :, 1] * offset[..., 0]
        assert (turns >= -1e-9).all()
        target = into_quad(shared, cut)
        assert (target.abs() <= 1 + 1e-6).all()
        assert torch.allclose(map_points(homography_to(cut), target), shared, atol=1e-6)


def test_the_shared_trapezoid_is_what_cutting_polygons_gives() -> None:
    """The widest upright trapezoid, against OpenCV's intersection of convex polygons."""
    generator = torch.Generator().manual_seed(3)
    a, b = (draw_trapezoids(50, k=0.6, generator=generator) for _ in range(2))
    for cut_a, cut_b, found in zip(
        a.numpy(), b.numpy(), shared_trapezoid(a, b).numpy(), strict=True
    ):
        _, polygon = cv2.intersectConvexConvex(cut_a, cut_b)
        points = polygon.reshape(-1, 2)
        for x, rows in ((points[:, 0].min(), [0, 3]), (points[:, 0].max(), [1, 2])):
            on_side = points[np.abs(points[:, 0] - x) < 1e-4, 1]
            assert found[rows, 0] == pytest.approx(x, abs=1e-4)
            assert found[rows, 1] == pytest.approx([on_side.min(), on_side.max()], abs=1e-3)


def test_view_pairs_show_the_same() -> None:
    smooth = torch.nn.functional.interpolate(
        torch.rand(3, 3, 6, 8, generator=torch.Generator().manual_seed(1)),
        (120, 160),
        mode="bicubic",
    )
    pair = make_view_pairs(smooth, k=0.5, generator=torch.Generator().manual_seed(2))
    cuts = [
        warp(images, quads)
        for images, quads in (
            (pair.images_a, pair.quads_a),
            (pair.images_b, pair.quads_b),
            (smooth, pair.shared),
        )
    ]
    inner = [cut[:, :, 4:-4, 4:-4] for cut in cuts]
    assert (inner[0] - inner[2]).abs().mean() < 0.01
    assert (inner[1] - inner[2]).abs().mean() < 0.01
    assert (pair.images_a - pair.images_b).abs().mean() > 0.03


def test_no_inset_gives_the_whole_image_as_target() -> None:
    images = torch.rand(2, 3, 8, 10)
    pair = make_view_pairs(images, k=0.0)
    for quads in (pair.quads_a, pair.quads_b, pair.cuts_a, pair.shared):
        assert torch.allclose(quads, torch.tensor(FRAME).expand(2, 4, 2), atol=1e-6)
    assert torch.allclose(pair.images_a, images, atol=1e-5)
    for k in (-0.1, 1.5, float("nan")):
        with pytest.raises(BadOption):
            draw_trapezoids(1, k=k)


def test_a_seed_gives_the_same_trapezoids() -> None:
    drawn = [
        draw_trapezoids(5, k=0.6, generator=torch.Generator().manual_seed(7)) for _ in range(2)
    ]
    assert torch.equal(*drawn)
    assert not torch.equal(
        drawn[0], draw_trapezoids(5, k=0.6, generator=torch.Generator().manual_seed(8))
    )
