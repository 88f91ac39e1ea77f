"""Losses of local features: golden values, slow formulas, gradients."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gudhi")

from torch.nn.functional import normalize

from whence.models.local.persistence import find_hills
from whence.training.losses.features import (
    Described,
    distillation_divergences,
    joint_distillation_loss,
    log_mutual_match,
    matching_loss,
    naive_loss,
    silk_loss,
    weighted_similarities,
)
from whence.training.losses.heights import both_views, patch_loss, persistence_loss

CONFIDENCES = {
    "teacher a": (0.9, 0.7, 0.5),
    "student b": (0.8, 0.6, 0.4),
    "teacher b": (0.85, 0.7, 0.55),
}
DESCRIPTORS = {
    "teacher a": ((1, 0), (0, 1), (1, 1)),
    "student b": ((1, 0.2), (-0.1, 1), (1, 0.8)),
    "teacher b": ((1, 0.1), (0, 1), (0.9, 1)),
}


def described(name: str) -> Described:
    return Described(
        torch.tensor(CONFIDENCES[name], dtype=torch.float64),
        normalize(torch.tensor(DESCRIPTORS[name], dtype=torch.float64), dim=1),
    )


def filled(n: int, k: int) -> np.ndarray:
    """The numbers that golden values of the field's notes are given for."""
    j = np.arange(n, dtype=np.int64)
    return ((31 * j * j + 17 * j + 101 * k + 7) % 1009) / 1009 - 0.5


def test_the_golden_mutual_matching_matrix() -> None:
    found = log_mutual_match(described("teacher a"), described("student b")).exp()
    np.testing.assert_allclose(found.diagonal(), [0.516736, 0.399049, 0.142703], atol=1e-6)
    assert found[0, 2] == pytest.approx(0.00446933, abs=1e-8)
    assert found[2, 0] == pytest.approx(0.0119430, abs=1e-7)
    other_way = log_mutual_match(described("student b"), described("teacher a")).exp()
    np.testing.assert_allclose(found.T, other_way, atol=1e-12)


def test_the_golden_matching_loss_leaves_out_what_the_teacher_doubts() -> None:
    parts = [described(name) for name in ("teacher a", "student b", "teacher b")]
    # Two of three points are sure enough in both views; the golden value is a sum.
    assert matching_loss(*parts) == pytest.approx(2 * 1.578896 / 2, abs=1e-6)
    assert matching_loss(*parts, least_confidence=0.95) == 0
    # The surest third is the first point alone.
    assert matching_loss(*parts, least_confidence=0.95, least_share=1 / 3) == pytest.approx(
        -2 * np.log(0.516736), abs=1e-5
    )
    one = Described(torch.tensor([0.9]), torch.tensor([[1.0, 0.0]]))
    two = Described(torch.tensor([0.5]), torch.tensor([[0.0, 1.0]]))
    assert matching_loss(one, two, one) == pytest.approx(-2 * np.log(0.9 * 0.5), abs=1e-6)


def test_the_golden_divergences() -> None:
    teacher_a, student_b, teacher_b = (
        described(name) for name in ("teacher a", "student b", "teacher b")
    )
    target, found = (
        weighted_similarities(teacher_a, teacher_b),
        weighted_similarities(teacher_a, student_b),
    )
    rows, columns = distillation_divergences(target, found)
    np.testing.assert_allclose(rows, [1.794e-5, 0.0215987, 0.0646567], atol=1e-6)
    np.testing.assert_allclose(columns, [0.003458, 0.000924, 0.031575], atol=1e-6)
    assert rows.mean() == pytest.approx(0.028758, abs=1e-6)
    assert columns.mean() == pytest.approx(0.011986, abs=1e-6)
    whole = joint_distillation_loss(teacher_a, student_b, teacher_b)
    assert whole == pytest.approx(2 * (0.028758 + 0.011986), abs=2e-6)
    assert joint_distillation_loss(teacher_a, teacher_b, teacher_b) == 0
    halved = weighted_similarities(teacher_a, student_b, first_temperature=2.0)
    np.testing.assert_allclose(halved, found / 2)


def test_the_teacher_gets_no_gradient() -> None:
    teacher, student = (
        Described(
            described(name).confidences.requires_grad_(),
            described(name).descriptors.requires_grad_(),
        )
        for name in ("teacher b", "student b")
    )
    target, found = weighted_similarities(teacher, teacher), weighted_similarities(student, student)
    distillation_divergences(target, found)[0].sum().backward()
    assert teacher.confidences.grad is None
    assert float(student.confidences.grad.abs().sum()) > 0


def test_naive_distillation_is_least_where_student_and_teacher_agree() -> None:
    teacher, student = described("teacher b"), described("student b")
    cosines = [float(a @ b) for a, b in zip(teacher.descriptors, student.descriptors, strict=True)]
    pairs = list(zip(CONFIDENCES["student b"], CONFIDENCES["teacher b"], strict=True))
    entropy = [-(t * np.log(s) + (1 - t) * np.log(1 - s)) for s, t in pairs]
    assert naive_loss(student, teacher) == pytest.approx(1 - np.mean(cosines) + np.mean(entropy))
    assert naive_loss(teacher, teacher) < naive_loss(student, teacher)


def test_silk_by_its_slow_formula() -> None:
    random = np.random.default_rng(3)
    first, second = (
        normalize(torch.from_numpy(random.normal(size=(6, 4))), dim=1) for _ in range(2)
    )
    logits = tuple(torch.from_numpy(random.normal(size=6)) for _ in range(2))
    found = silk_loss(first, second, logits, temperature=0.1)  # type: ignore[arg-type]
    similar = (first @ second.T / 0.1).numpy()
    log_rows = [similar[i, i] - np.log(np.exp(similar[i]).sum()) for i in range(6)]
    log_columns = [similar[i, i] - np.log(np.exp(similar[:, i]).sum()) for i in range(6)]
    assert found["descriptors"] == pytest.approx(-np.mean(log_rows) - np.mean(log_columns))
    expected = 0.0
    for own in logits:
        for i, logit in enumerate(own.tolist()):
            is_matched = similar[i].argmax() == i and similar[:, i].argmax() == i
            expected += np.log1p(np.exp(-logit if is_matched else logit)) / 6
    assert found["keypoints"] == pytest.approx(expected)


def test_the_golden_persistence_loss() -> None:
    first = torch.from_numpy(0.9 * filled(180, 3).reshape(12, 15) + 0.5)
    second = 0.8 * first + 0.2 * torch.from_numpy(filled(180, 4).reshape(12, 15) + 0.5)
    same = torch.eye(3, dtype=torch.float64)
    for alpha, total in ((0.0, -0.427162), (1.0, -0.369465), (10.0, 0.149807)):
        ways = [
            persistence_loss(*way, same, alpha=alpha) for way in ((first, second), (second, first))
        ]
        assert sum(way.num_hills for way in ways) == 25
        assert sum(float(way.total) for way in ways) == pytest.approx(total, abs=1e-6)
        assert float(
            both_views(first[None], second[None], same[None], alpha=alpha)
        ) == pytest.approx(total / 25, abs=1e-7)


def test_the_gradient_is_one_at_tops_and_minus_one_at_saddles() -> None:
    heights = torch.from_numpy(np.random.default_rng(4).random((9, 8))).requires_grad_()
    hills = find_hills(heights.detach().numpy())
    flat = heights.flatten()
    (flat[torch.from_numpy(hills.tops)] - flat[torch.from_numpy(hills.saddles)]).sum().backward()
    expected = np.zeros(72)
    np.add.at(expected, hills.tops, 1)
    np.add.at(expected, hills.saddles, -1)
    np.testing.assert_array_equal(heights.grad.flatten().numpy(), expected)
    matrix = torch.tensor([[1.0, 0.1, 0.5], [0, 1, 0.3], [0, 0, 1]], dtype=torch.float64)
    other = torch.from_numpy(np.random.default_rng(5).random((9, 8)))

    def loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return persistence_loss(first, second, matrix, alpha=10.0).total

    assert torch.autograd.gradcheck(
        loss, (heights.detach().clone().requires_grad_(), other.requires_grad_())
    )


def test_hills_that_the_other_view_does_not_show_do_not_count() -> None:
    heights = torch.from_numpy(np.random.default_rng(6).random((9, 8)))
    away = torch.tensor([[1.0, 0, 100], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    found = persistence_loss(heights, heights, away, alpha=10.0)
    assert found.num_hills == 0
    assert float(found.total) == 0


def test_the_patch_loss_likes_one_high_point_a_patch_that_both_views_have() -> None:
    grid = torch.zeros(1, 32, 32)
    grid[:, 4::8, 4::8] = 1
    flat, same = torch.full((1, 32, 32), 0.5), torch.eye(3)[None]
    noise = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert patch_loss(grid, grid, same, patch_px=8) < patch_loss(flat, flat, same, patch_px=8)
    assert patch_loss(grid, grid, same, patch_px=8) < patch_loss(grid, noise, same, patch_px=8)
    shift = torch.tensor([[[1.0, 0, 3], [0, 1, 0], [0, 0, 1]]])
    moved = torch.roll(grid, 3, dims=2)
    assert patch_loss(grid, moved, shift, patch_px=8) < patch_loss(grid, moved, same, patch_px=8)
